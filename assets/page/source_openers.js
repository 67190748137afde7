"use strict";
// What opens "Source": marks of quotations and places below answers, evidence, the attention map, the list of sources.
// Panels' text is cleaned of all attributes but classes, so there the program marks places by classes.
(() => {
  const { open, ready, fetchTurn, sessionId } = window.salaSource;

  const named = (node, prefix) => [...node.classList].find((name) => name.startsWith(prefix))?.slice(prefix.length);
  function makeButton(node, label) {
    if (node.getAttribute("role") === "button") return;
    node.setAttribute("role", "button");
    node.tabIndex = 0;
    if (label !== "") node.setAttribute("aria-label", label);
  }

  function refresh() {
    ready();
    for (const place of document.querySelectorAll("#evidence .place")) {
      makeButton(place, ""); // its name is all that it shows
    }
    for (const name of document.querySelectorAll("#documents .source .doc"))
      makeButton(name, `Open ${name.textContent}`);
    addMap(sessionId());
  }

  // The map above the evidence of the last answer.
  function addMap(session) {
    const evidence = document.querySelector("#evidence .evidence");
    const message = evidence === null ? undefined : named(evidence, "message-");
    if (message === undefined || evidence.querySelector(":scope > .map-home") !== null) return;
    const home = Object.assign(document.createElement("div"), { className: "map-home" });
    evidence.prepend(home);
    fetchTurn(session, message)
      .then(({ map }) => {
        const options = { open: (cell) => open({ message, cell }) };
        home.replaceChildren(window.salaAttentionMap(map, options));
      })
      .catch((error) => {
        home.textContent = error.message;
      });
  }

  function wantedBy(node) {
    const mark = node.closest?.(".talk [data-passage]");
    if (mark) return { message: mark.closest("[data-message]")?.dataset.message, key: mark.dataset.passage };
    const place = node.closest?.("#evidence .place");
    if (place) return { message: named(place.closest(".evidence"), "message-"), key: named(place, "key-") };
    const source = node.closest?.("#documents .doc[role=button]")?.closest(".source");
    return source ? { document: named(source, "id-") } : null;
  }

  document.addEventListener("click", (event) => {
    const wanted = wantedBy(event.target);
    if (wanted === null) return;
    event.preventDefault();
    open(wanted);
  });
  document.addEventListener("keydown", (event) => {
    if ((event.key !== "Enter" && event.key !== " ") || event.target.getAttribute?.("role") !== "button") return;
    const wanted = wantedBy(event.target);
    if (wanted === null) return;
    event.preventDefault();
    open(wanted);
  });

  let isDue = false;
  new MutationObserver(() => {
    if (isDue) return;
    isDue = true;
    window.requestAnimationFrame(() => {
      isDue = false;
      refresh();
    });
  }).observe(document.documentElement, { subtree: true, childList: true });
})();
