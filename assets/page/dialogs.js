"use strict";
// Dialogs over the page that this program makes itself, and its API. `window.salaDialogs` is what other scripts use.
(() => {
  // make("button", { className: "x", textContent: "Go" }, child, ...): an element. Names with "-" and "role" are attributes.
  function make(name, properties = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
      else element[key] = value;
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  // The answer of the program as an object. Throws an Error with its words.
  async function api(method, path, body) {
    const options = { method, cache: "no-store" };
    if (body !== undefined) Object.assign(options, { body: JSON.stringify(body), headers: { "content-type": "application/json" } });
    let response;
    try {
      response = await fetch(`api/${path}`, options);
    } catch {
      throw new Error("The program does not answer. If it has stopped, start it again.");
    }
    const answer = await response.json().catch(() => ({}));
    if (typeof answer.refused === "string") throw new Error(answer.refused);
    if (response.ok && answer.refused === undefined) return answer;
    throw new Error(answer.refused ?? "The program did not understand that.");
  }

  // A dialog with a heading and a "Close" button. `draw(body)` fills it whenever it opens or is drawn again; `closed()` is called behind it.
  function dialog(id, title, { draw, closed = () => {} }) {
    let element = null;
    let before = null;
    function build() {
      const close = make("button", { type: "button", className: "dialog-close", textContent: "Close" });
      close.addEventListener("click", () => element.close());
      const heading = make("h2", { id: `${id}-title`, textContent: title });
      const body = make("div", { className: "dialog-body" });
      element = make(
        "dialog",
        { id, className: "sala-dialog", "aria-labelledby": `${id}-title` },
        make("header", { className: "dialog-head" }, heading, close),
        body,
      );
      element.addEventListener("click", (event) => {
        if (event.target === element) element.close(); // beside it
      });
      element.addEventListener("close", () => {
        closed();
        if (before?.isConnected) before.focus();
      });
      document.body.append(element);
      return body;
    }
    return {
      async open() {
        const body = element?.querySelector(".dialog-body") ?? build();
        if (element.open) return;
        before = document.activeElement;
        body.replaceChildren();
        const filled = draw(body);
        element.showModal();
        await filled;
      },
      redraw: () => element?.open && draw(element.querySelector(".dialog-body")),
      close: () => element?.close(),
      isOpen: () => element?.open ?? false,
    };
  }

  // Writes into one of the page's hidden text boxes, whose change calls the program.
  function tell(id, value) {
    const box = document.querySelector(`#${id} :is(textarea, input)`);
    if (box === null) return;
    box.value = value;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  const valueOf = (id) => document.querySelector(`#${id} :is(textarea, input)`)?.value ?? "";
  let numOpened = 0;
  const openSession = (id) => tell("open-target", `${id}:${++numOpened}`);

  // Calls `run` when a button of the page, which may not be there yet, is pressed.
  function onPress(selector, run) {
    document.addEventListener("click", (event) => {
      if (event.target.closest?.(selector) != null) run();
    });
  }

  // Calls `run` once for each bundle of changes of the page.
  function onChanges(run) {
    let isDue = false;
    const soon = () => {
      if (isDue) return;
      isDue = true;
      window.requestAnimationFrame(() => {
        isDue = false;
        run();
      });
    };
    new MutationObserver(soon).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
    soon();
  }

  window.salaDialogs = { make, api, dialog, tell, valueOf, openSession, onPress, onChanges };
})();
