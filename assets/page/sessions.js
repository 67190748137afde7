"use strict";
// Sessions: hits of a search that lead to their place, the bin, and "Undo" after a deletion.
(() => {
  const { make, api, dialog, valueOf, openSession, onPress, onChanges } = window.salaDialogs;
  const SEARCH_MS = 200;
  const SNACK_MS = 10000;
  const WAIT_MS = 15000;

  // A line at the bottom that disappears by itself. press: { words, run } for a button in it.
  let snackTimer = 0;
  function snack(words, press = null) {
    document.getElementById("snack")?.remove();
    window.clearTimeout(snackTimer);
    const made = make("div", { id: "snack", role: "status" }, make("span", { textContent: words }));
    if (press !== null) {
      const button = make("button", { type: "button", textContent: press.words });
      button.addEventListener("click", () => {
        made.remove();
        press.run();
      });
      made.append(button);
    }
    const later = () => (snackTimer = window.setTimeout(() => made.remove(), SNACK_MS));
    made.addEventListener("pointerenter", () => window.clearTimeout(snackTimer));
    made.addEventListener("focusin", () => window.clearTimeout(snackTimer));
    made.addEventListener("pointerleave", later);
    made.addEventListener("focusout", later);
    later();
    document.body.append(made);
  }
  window.salaSnack = snack;

  // Undo. The program writes "ID:NUMBER:NAME" into a hidden box after a deletion.

  let undone = null;
  function followDeletions() {
    const value = valueOf("undo-target");
    if (undone === null) undone = value === "" ? "" : undone;
    if (value === (undone ?? "") || value === "") return;
    undone = value;
    const [id, , ...name] = value.split(":");
    snack(`“${name.join(":")}” is in the bin for 30 days.`, { words: "Undo", run: () => restore(id) });
    bin.redraw(); // it may have been opened while the program still deleted
  }

  async function restore(id) {
    try {
      const row = await api("POST", `bin/${id}/restore`);
      openSession(row.id);
      return row;
    } catch (error) {
      snack(error.message);
      return null;
    }
  }

  // The bin

  const bin = dialog("bin", "Bin", { draw: drawBin });
  async function drawBin(place) {
    const list = make("ul", { className: "bin-list" });
    const words = make("p", { className: "note", textContent: "Deleted sessions stay here for 30 days, with all that was read. Where space for saved states is limited, theirs go first; they are then read again." });
    const empty = make("button", { type: "button", className: "stop", textContent: "Empty bin", hidden: true });
    const fault = make("p", { className: "form-error", role: "alert" });
    place.replaceChildren(words, fault, list, empty);
    let isSure = false;
    empty.addEventListener("click", async () => {
      if (!isSure) {
        isSure = true;
        empty.textContent = "Delete all for good";
        return;
      }
      await change(() => api("DELETE", "bin"));
    });
    const change = async (work) => {
      try {
        await work();
        await drawBin(place);
      } catch (error) {
        fault.textContent = error.message;
      }
    };
    const rows = await api("GET", "bin").catch((error) => {
      fault.textContent = error.message;
      return null;
    });
    if (rows === null) return;
    empty.hidden = rows.length === 0;
    if (rows.length === 0) list.append(make("li", { className: "note", textContent: "The bin is empty." }));
    for (const row of rows) {
      const back = make("button", { type: "button", textContent: "Restore", "aria-label": `Restore ${row.name}` });
      back.addEventListener("click", async () => {
        if ((await restore(row.id)) !== null) bin.close();
      });
      const now = make("button", { type: "button", textContent: "Delete now", "aria-label": `Delete ${row.name} now` });
      now.addEventListener("click", () => change(() => api("DELETE", `bin/${row.id}`)));
      const text = make("div", {}, make("h4", { textContent: row.name }), make("p", { className: "facts", textContent: `${row.facts} · ${row.when}` }));
      list.append(make("li", {}, text, make("div", { className: "model-buttons" }, back, now)));
    }
  }
  onPress("#open-bin", bin.open);

  // Hits of a search. The list of sessions below shows the sessions; these are the places in them.

  const ROLES = { user: "Question", assistant: "Answer" };
  const KINDS = { name: "Session", document: "Document" };
  let searched = "";
  let timer = 0;

  function home() {
    const search = document.getElementById("search");
    if (search === null) return null;
    let place = document.getElementById("hits");
    if (place === null) {
      place = make("div", { id: "hits", role: "region", "aria-label": "Search hits", hidden: true });
      search.after(place);
    }
    return place;
  }

  async function find(words) {
    const place = home();
    if (place === null) return;
    let shown = [];
    try {
      if (words !== "") shown = (await api("GET", `search?q=${encodeURIComponent(words)}`)).map(hitButton);
    } catch (error) {
      shown = [make("p", { className: "form-error", role: "alert", textContent: error.message })];
    }
    if (words !== searched) return; // typed on meanwhile
    place.hidden = shown.length === 0;
    place.replaceChildren(...shown);
  }

  function hitButton(hit) {
    const what = hit.kind === "message" ? ROLES[hit.role] : KINDS[hit.kind];
    const button = make(
      "button",
      { type: "button", className: "hit" },
      make("span", { className: "hit-where", textContent: hit.kind === "name" ? what : `${what} in ${hit.session}` }),
      make("span", { className: "hit-text" }, hit.before, make("mark", { textContent: hit.found }), hit.after),
    );
    button.addEventListener("click", () => jump(hit));
    return button;
  }

  async function jump(hit) {
    if (valueOf("session-id") !== hit.session_id) openSession(hit.session_id);
    window.salaLayout?.show(hit.kind === "document" ? "sources" : "talk");
    if (hit.kind === "name") return;
    const until = performance.now() + WAIT_MS;
    let found = null;
    while (found === null && performance.now() < until) {
      await new Promise((done) => window.setTimeout(done, 60));
      if (valueOf("session-id") === hit.session_id) found = placeOf(hit);
    }
    if (found === null) return;
    found.scrollIntoView({ block: "center" });
    found.classList.add("hit-found");
    window.setTimeout(() => found.classList.remove("hit-found"), 4000);
    if (found.hasAttribute("tabindex")) found.focus({ preventScroll: true });
    mark(found, hit.found);
  }

  const plain = (text) => text.replace(/\s+/g, " ").toLowerCase();

  function placeOf(hit) {
    if (hit.kind === "document") return document.querySelector(`#documents .id-${hit.item}`);
    const known = document.querySelector(`#history [data-message="${hit.item}"]`);
    if (known !== null) return known;
    const rows = [...document.querySelectorAll(`#history .${hit.role === "user" ? "user-row" : "bot-row"}`)];
    return rows.find((row) => plain(row.textContent).includes(plain(hit.found))) ?? null;
  }

  // Marks the words themselves, without a change of the page.
  function mark(root, words) {
    if (CSS.highlights === undefined) return;
    const ranges = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
      const at = node.data.toLowerCase().indexOf(words.toLowerCase());
      if (at < 0) continue;
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + words.length);
      ranges.push(range);
    }
    CSS.highlights.set("sala-hit", new Highlight(...ranges));
  }

  document.addEventListener("input", (event) => {
    if (event.target.closest?.("#search") == null) return;
    searched = event.target.value.trim();
    if (searched === "") CSS.highlights?.delete("sala-hit");
    window.clearTimeout(timer);
    timer = window.setTimeout(() => find(searched), SEARCH_MS);
  });

  onChanges(() => {
    followDeletions();
    if (searched !== "" && valueOf("search") === "") find((searched = ""));
  });
})();
