"use strict";
// The keyboard: single keys outside of fields, the list of all keys ("?"), and the conversation as one stop of Tab.
// Another script adds a key by `window.salaKeys.add({ key, words, run })`; `key` is as `KeyboardEvent.key` has it.
(() => {
  const OFF = "sala-single-keys-off";
  const byId = (id) => document.getElementById(id);
  const isShown = (element) => element !== null && element.getClientRects().length > 0;
  const press = (selector) => {
    const button = [...document.querySelectorAll(selector)].find((one) => isShown(one) && !one.disabled);
    button?.click();
    return button !== undefined;
  };

  function focusOn(view, selector) {
    window.salaLayout.show(view);
    const field = document.querySelector(selector);
    field?.focus();
    field?.select?.();
  }

  const keys = [
    { key: "?", words: "Show all keys", run: () => showKeys() },
    { key: "n", words: "New session", run: () => newSession() },
    { key: "s", words: "Search the sessions", run: () => focusOn("sessions", "#search :is(textarea, input)") },
    { key: "/", words: "Go to the question box", run: () => focusOn("talk", "#question textarea") },
    { key: "a", words: "Go to the last answer", run: () => lastTurn()?.focus() },
    ...window.salaPanels.map(({ name, title }, index) => ({
      key: String(index + 1),
      words: `Show “${title}”`,
      run: () => byId(`tab-${name}`)?.click(),
      isThere: () => byId(`tab-${name}`) !== null,
    })),
  ];
  const FIXED = [
    ["Enter", "Send the question"],
    ["Shift+Enter", "A new line in the question"],
    ["Escape", "Close what is open, otherwise stop the answer"],
    ["Ctrl+K", "Search the sessions, from anywhere"],
    ["↑ ↓", "In the conversation: the turn before, the turn after"],
    ["← →", "In the tabs: the one before, the one after"],
  ];

  function newSession() {
    press("#new-session") || byId("new-session")?.click();
    byId("question")?.querySelector("textarea")?.focus();
  }

  // The list

  const isOff = () => window.localStorage.getItem(OFF) !== null;
  let list = null;
  function showKeys() {
    const { make, dialog } = window.salaDialogs;
    list ??= dialog("keys", "Keyboard", {
      draw: (body) => {
        const own = keys.filter(({ isThere }) => isThere?.() ?? true);
        const rows = [...own.map(({ key, words }) => [key.length === 1 ? key.toUpperCase() : key, words]), ...FIXED];
        const items = rows.map(([key, words]) =>
          make("div", {}, make("dt", {}, make("kbd", { textContent: key })), make("dd", { textContent: words })),
        );
        const box = make("input", { type: "checkbox", checked: !isOff() });
        box.addEventListener("change", () =>
          box.checked ? window.localStorage.removeItem(OFF) : window.localStorage.setItem(OFF, "yes"),
        );
        body.append(make("dl", { className: "key-list" }, ...items), make("label", {}, box, " Single keys outside of fields"));
      },
    });
    list.open();
  }

  // Escape closes the innermost thing that is open; with nothing open it stops the answer.

  function escapeFrom(target) {
    const open = [...document.querySelectorAll(".sheet, .form-card, .form-row")].filter(isShown);
    const form = target.closest?.(".sheet, .form-card, .form-row") ?? open.at(-1);
    if (form != null) {
      [...form.querySelectorAll("button")].filter(isShown).at(-1)?.click();
      return true;
    }
    const toast = document.querySelector("#toast .toast:not(.ended)");
    if (toast !== null && getComputedStyle(toast).visibility !== "hidden") {
      toast.classList.add("ended");
      if (!isShown(document.querySelector("#stop"))) return true;
    }
    return press("#stop");
  }

  const isField = (target) =>
    target.isContentEditable || target.matches?.("textarea, select, input:not([type=checkbox]):not([type=radio])");

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]") !== null) return;
    if (event.key === "Escape") {
      if (escapeFrom(event.target)) event.preventDefault();
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      focusOn("sessions", "#search :is(textarea, input)");
      event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || isField(event.target) || isOff()) return;
    const found = keys.find(({ key }) => key === event.key || key === event.key.toLowerCase());
    if (found === undefined || !(found.isThere?.() ?? true)) return;
    event.preventDefault();
    found.run();
  });

  // The conversation is one stop of Tab: one turn with its buttons. Arrows choose another turn.

  const STOPS = "a[href], button, summary, [tabindex]";
  const turns = () => [...document.querySelectorAll("#history .talk > .turn")];
  const lastTurn = () => turns().at(-1);
  let chosen = null;

  function setStops() {
    const all = turns();
    if (chosen === null || !chosen.isConnected) chosen = all.at(-1) ?? null;
    for (const turn of all) {
      const tab = turn === chosen ? "0" : "-1";
      if (turn.getAttribute("tabindex") !== tab) turn.setAttribute("tabindex", tab);
      for (const stop of turn.querySelectorAll(STOPS))
        if (stop.getAttribute("tabindex") !== tab) stop.setAttribute("tabindex", tab);
    }
  }

  function choose(turn) {
    if (turn === undefined || turn === chosen) return;
    chosen = turn;
    setStops();
  }

  document.addEventListener("focusin", (event) => {
    const turn = event.target.closest?.("#history .talk > .turn");
    if (turn != null) choose(turn);
  });
  document.addEventListener("keydown", (event) => {
    if (!event.target.matches?.("#history .talk > .turn")) return;
    const all = turns();
    const at = all.indexOf(event.target);
    const next = { ArrowUp: all[at - 1], ArrowDown: all[at + 1], Home: all[0], End: all.at(-1) }[event.key];
    if (next === undefined) return;
    choose(next);
    next.focus();
    event.preventDefault();
  });

  let numTurns = 0;
  let isDue = false;
  new MutationObserver(() => {
    if (isDue) return;
    isDue = true;
    window.requestAnimationFrame(() => {
      isDue = false;
      const number = turns().length;
      if (number !== numTurns && !chosen?.contains(document.activeElement)) chosen = null;
      numTurns = number;
      setStops();
    });
  }).observe(document.documentElement, { subtree: true, childList: true });

  // A question that is sent brings the end of the conversation into view.

  const toEnd = () => byId("scroller")?.scrollTo({ top: 0 });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#show-keys") != null) showKeys();
    if (event.target.closest?.("#send") != null) toEnd();
  });
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Enter" && !event.shiftKey && event.target.closest?.("#question") != null) toEnd();
    },
    true,
  );

  window.salaKeys = { add: (key) => keys.push(key) };
})();
