"use strict";
// The address and title of the window follow the open session; sources can be removed.
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

  // Each source gets a button that asks whether to remove it, or takes it back while it waits; one that has changed on
  // disk gets another that reads it again. The program is told by a hidden field.
  let numPresses = 0;
  function addButton(item, words, wanted) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "remove-source";
    button.textContent = words;
    button.setAttribute("aria-label", `${words} ${item.querySelector(".doc").textContent}`);
    button.addEventListener("click", () => {
      const box = document.querySelector("#remove-target textarea, #remove-target input");
      if (box === null) return;
      box.value = `${wanted}:${++numPresses}`;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    });
    item.append(button);
  }

  function addSourceButtons() {
    const named = (item, prefix) => [...item.classList].find((name) => name.startsWith(prefix));
    for (const item of document.querySelectorAll("#documents li.source:not(:has(button))")) {
      const id = named(item, "id-").slice(3);
      if (item.classList.contains("is-changed")) addButton(item, "Read again", `again-${id}`);
      addButton(item, "Remove", id);
    }
    for (const item of document.querySelectorAll("#documents li.waits:not(:has(button))"))
      addButton(item, "Remove", named(item, "job-"));
  }

  let isDue = false;
  new MutationObserver(() => {
    if (isDue) return;
    isDue = true;
    window.requestAnimationFrame(() => {
      isDue = false;
      followTitle();
      addSourceButtons();
    });
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
})();
