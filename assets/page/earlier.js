"use strict";
// Earlier turns of a long conversation: the page holds its end, and fetches what stands before it on demand.
(() => {
  const STEP = 60; // messages
  const { valueOf, api, onChanges } = window.salaDialogs;
  let session = "";
  let count = 0;
  let end = ""; // what the page itself shows, by its first message and their number

  function section() {
    const home = document.getElementById("history");
    let made = home.querySelector(":scope > .earlier");
    if (made === null) {
      made = Object.assign(document.createElement("section"), { className: "talk earlier" });
      made.setAttribute("aria-label", "Earlier turns");
      home.insertBefore(made, home.querySelector(":scope > .talk"));
    }
    return made;
  }

  async function fetchTurns() {
    const asked = session;
    const { html, left } = await api("GET", `sessions/${session}/earlier?count=${count}`);
    if (asked !== session) return;
    const scroller = document.getElementById("scroller");
    const before = scroller.scrollTop; // counted from the end: what is read stays where it is
    const words = left === 0 ? "" : `<button type="button" class="show-earlier">Show earlier turns (${left} more)</button>`;
    window.salaTalk.fill(section(), words + html);
    scroller.scrollTop = before;
    for (const button of document.querySelectorAll("#history .talk:not(.earlier) > .show-earlier")) button.hidden = true;
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#history .show-earlier") == null) return;
    count += STEP;
    const focus = document.querySelector("#history .talk .turn");
    fetchTurns().then(() => focus?.focus(), (error) => window.salaLayout.announce(error.message));
  });

  onChanges(() => {
    const now = valueOf("session-id");
    const turns = [...document.querySelectorAll("#history .talk:not(.earlier) > .turn")];
    const shown = `${turns.length} ${turns[0]?.textContent ?? ""}`;
    if (now !== session) {
      [session, count, end] = [now, 0, shown];
      document.querySelector("#history > .earlier")?.remove();
    } else if (count > 0 && shown !== end) fetchTurns().catch(() => {});
    end = shown;
  });
})();
