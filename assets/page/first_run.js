"use strict";
// The first run: a short tour, beside the sample that is read already. It comes back from the list of keys ("?").
(() => {
  const { make, api } = window.salaDialogs;
  const STEPS = [
    {
      target: "#drop",
      view: "sources",
      title: "Give it something to read",
      words: "Drop books, PDFs, code or a whole folder anywhere on the page. All of it is read once, on this computer, and kept.",
    },
    {
      target: "#composer",
      view: "talk",
      title: "Ask",
      words: "Questions go to the session that is open. The sample is read already: try one of its questions.",
    },
    {
      target: "#panel-evidence, #tab-evidence",
      view: "evidence",
      title: "Check every answer",
      words: "Each answer shows the places that it rests on. A click opens the source there.",
    },
    {
      target: "#open-models",
      view: "talk",
      title: "Choose a model",
      words: "The embedded model only finds and quotes. “Models” shows larger ones, and what this machine can hold.",
    },
  ];

  let step = -1;
  let card = null;

  // The tour

  function show(number) {
    end();
    const { target, view, title, words } = STEPS[number];
    window.salaLayout?.show(view);
    step = number;
    const shown = [...document.querySelectorAll(target)].find((one) => one.getClientRects().length > 0);
    shown?.classList.add("tour-target");
    const next = make("button", { type: "button", className: "primary", textContent: number + 1 < STEPS.length ? "Next" : "Done" });
    next.addEventListener("click", () => (number + 1 < STEPS.length ? show(number + 1) : dismiss()));
    const skip = make("button", { type: "button", textContent: "End tour" });
    skip.addEventListener("click", dismiss);
    card = make(
      "div",
      { className: "tour", role: "dialog", "aria-labelledby": "tour-title" },
      make("h2", { id: "tour-title", textContent: title }),
      make("p", { textContent: words }),
      make(
        "div",
        { className: "tour-foot" },
        make("span", { className: "tour-count", textContent: `${number + 1} of ${STEPS.length}` }),
        number + 1 < STEPS.length ? skip : null,
        next,
      ),
    );
    card.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      dismiss();
    });
    document.body.append(card);
    reader.observe(document.documentElement, { childList: true, subtree: true });
    place(shown);
    next.focus();
  }

  // Beside its target, within the window.
  function place(target) {
    const { width, height } = card.getBoundingClientRect();
    const box = target?.getBoundingClientRect() ?? { left: innerWidth / 2, right: innerWidth / 2, top: innerHeight / 2, bottom: innerHeight / 2 };
    const keep = (value, size, room) => Math.max(16, Math.min(value, room - size - 16));
    const isBelow = box.bottom + height + 28 < innerHeight;
    const isAbove = box.top - height - 28 > 0;
    let left = box.left + (box.right - box.left - width) / 2;
    let top = isBelow ? box.bottom + 14 : box.top - height - 14;
    if (!isBelow && !isAbove) {
      left = box.left - width - 14;
      top = box.top + 40;
    }
    card.style.left = `${keep(left, width, innerWidth)}px`;
    card.style.top = `${keep(top, height, innerHeight)}px`;
  }

  function end() {
    reader.disconnect();
    card?.remove();
    card = null;
    step = -1;
    document.querySelectorAll(".tour-target").forEach((one) => one.classList.remove("tour-target"));
  }

  function dismiss() {
    leave();
    document.querySelector("#question textarea")?.focus();
  }

  function leave() {
    end();
    api("POST", "settings", { tour: "done" }).catch(() => {});
  }

  // Whoever asks, or gives something to read, knows how: the card would only hide what happens.
  const reader = new MutationObserver((changes) => {
    const added = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node instanceof Element);
    const began = ".user-row, .plan-dialog";
    if (added.some((node) => node.matches(began) || node.querySelector(began))) leave();
  });

  window.salaTour = { start: () => show(0) };
  window.addEventListener("resize", () => {
    if (step >= 0) show(step);
  });
  window.salaKeys?.add({ key: "t", words: "Start the short tour", run: () => show(0) });

  async function begin() {
    const first = await api("GET", "first-run").catch(() => ({ tour: false }));
    if (!first.tour) return;
    const isThere = () => document.querySelector("#title h1") !== null && document.querySelector("#composer") !== null;
    const wait = window.setInterval(() => {
      if (!isThere()) return;
      window.clearInterval(wait);
      show(0);
    }, 200);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
