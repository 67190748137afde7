"use strict";
// The address and title of the window follow the open session; sources can be removed. Escape hides a form, or presses Stop.
(() => {
  const heading = () => document.querySelector("#title h1");

  function followTitle() {
    const title = heading();
    if (title === null) return;
    const isNone = title.closest(".title-none") !== null;
    const name = title.textContent.trim();
    const address = new URL(window.location.href);
    if (isNone) address.searchParams.delete("session");
    else address.searchParams.set("session", name);
    if (address.href !== window.location.href) window.history.replaceState(window.history.state, "", address);
    const words = isNone ? "Sala" : `${name} – Sala`;
    if (document.title !== words) document.title = words;
  }

  // Each source gets a button that asks whether to remove it.
  let numRemovals = 0;
  function addRemoveButtons() {
    for (const item of document.querySelectorAll("#documents li.source:not(:has(button))")) {
      const id = [...item.classList].find((name) => name.startsWith("id-")).slice(3);
      const button = document.createElement("button");
      button.type = "button";
      button.className = "remove-source";
      button.textContent = "Remove";
      button.setAttribute("aria-label", `Remove ${item.querySelector(".doc").textContent}`);
      button.addEventListener("click", () => {
        const box = document.querySelector("#remove-target textarea, #remove-target input");
        if (box === null) return;
        box.value = `${id}:${++numRemovals}`;
        box.dispatchEvent(new Event("input", { bubbles: true }));
      });
      item.append(button);
    }
  }

  let isDue = false;
  new MutationObserver(() => {
    if (isDue) return;
    isDue = true;
    window.requestAnimationFrame(() => {
      isDue = false;
      followTitle();
      addRemoveButtons();
    });
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });

  // A passage of evidence that is opened scrolls to its own lines among those around them.
  document.addEventListener(
    "toggle",
    (event) => {
      const context = event.target.open ? event.target.querySelector(".context") : null;
      const hit = context === null ? null : context.querySelector(".line-hit");
      if (hit !== null) context.scrollTop = hit.offsetTop - context.offsetTop - 40;
    },
    true,
  );

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const form = event.target.closest?.(".form-row, .form-card") ?? null;
    if (form !== null) {
      [...form.querySelectorAll("button")].at(-1).click();
      return;
    }
    const stop = document.querySelector("#stop:not([disabled])");
    if (stop !== null && stop.offsetParent !== null) stop.click();
  });
})();
