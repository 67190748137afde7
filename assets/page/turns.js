"use strict";
// The buttons under the turns. Their clicks go to the program through hidden fields; "Edit" puts the question into the
// question box, where it is sent in the place of the earlier one.
(() => {
  let numClicks = 0;
  const field = (id) => document.querySelector(`#${id} textarea, #${id} input`);

  function write(id, text) {
    const box = field(id);
    if (box === null) return;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function cancelEdit({ clear = true } = {}) {
    document.getElementById("editing-note")?.remove();
    if (!field("turn-editing")?.value) return;
    write("turn-editing", "");
    if (clear) write("question", "");
  }

  function edit({ turn, question }) {
    cancelEdit();
    const note = Object.assign(document.createElement("div"), { id: "editing-note" });
    note.setAttribute("role", "status");
    const words = document.createElement("span");
    words.textContent = "Editing an earlier question. What followed it stays as another version.";
    const cancel = Object.assign(document.createElement("button"), { type: "button", textContent: "Cancel edit" });
    cancel.addEventListener("click", () => {
      cancelEdit();
      field("question")?.focus();
    });
    note.append(words, cancel);
    document.getElementById("composer")?.before(note);
    write("turn-editing", turn);
    write("question", question);
    field("question")?.focus();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".talk button.turn-tool") ?? null;
    if (button === null) return;
    const { action, turn, question } = button.dataset;
    wanted = { action, row: [...document.querySelectorAll("#history .bot-row")].indexOf(button.closest(".bot-row")) };
    if (action === "edit") edit({ turn, question });
    else write("turn-action", `${action}:${turn}:${++numClicks}`);
  });

  // The buttons are made anew when the conversation changes; the focus goes to the same one of the same place.
  let wanted = null;
  function keepFocus() {
    if (wanted === null || document.activeElement !== document.body) return;
    const row = document.querySelectorAll("#history .bot-row")[wanted.row] ?? null;
    const button = row?.querySelector(`[data-action="${wanted.action}"]`) ?? row?.querySelector(".turn-tool");
    if (button == null) return;
    wanted = null;
    button.focus({ preventScroll: true });
  }
  document.addEventListener("focusin", (event) => {
    if (event.target.closest?.(".turn-tool") == null) wanted = null;
  });

  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Escape" || document.getElementById("editing-note") === null) return;
      if (!event.target.closest?.("#question, #editing-note")) return;
      event.stopPropagation();
      cancelEdit();
      field("question")?.focus();
    },
    true,
  );

  // After a deletion the program writes "TURN:NUMBER:WORDS".
  let lastUndo = "";
  function offerUndo() {
    const value = field("turn-undo")?.value ?? "";
    if (value === lastUndo) return;
    lastUndo = value;
    const [turn, , ...words] = value.split(":");
    if (turn === "") return;
    window.salaSnack(words.join(":"), { words: "Undo", run: () => write("turn-action", `undo:${turn}:${++numClicks}`) });
  }

  // The program has taken a question: the box is emptied, unless something else was typed meanwhile.
  let lastAsked = "";
  function emptyBox() {
    const value = field("turn-asked")?.value ?? "";
    if (value === lastAsked) return;
    lastAsked = value;
    if (field("question")?.value.trim() === value.slice(value.indexOf(":") + 1)) write("question", "");
  }

  // Once the question is sent, or another session is open, the program has emptied the field.
  new MutationObserver(() => {
    const note = document.getElementById("editing-note");
    if (note !== null && !field("turn-editing")?.value) note.remove();
    emptyBox();
    offerUndo();
    keepFocus();
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
})();
