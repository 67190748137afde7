"use strict";
// This window and the program: the page's place is kept for the next visit, and a window that has lost the program says
// what to do, and comes back by itself.
(() => {
  const ASK_MS = 2000;
  const MAX_MISSED = 2;
  const GONE =
    "The program does not answer. If it has stopped, start it again with python3 launch.py: this window then comes back by itself.";
  const UNKNOWN =
    "The program no longer knows this window. Run python3 launch.py on this computer: it opens a new one, and you can close this one.";

  const place = new URL(".", document.baseURI).pathname;
  if (place !== "/") window.localStorage.setItem("sala-place", place);

  let numMissed = 0;
  let isLost = false;

  function say(words) {
    let note = document.getElementById("door-note");
    if (note === null) {
      note = Object.assign(document.createElement("div"), { id: "door-note" });
      note.setAttribute("role", "alert");
      document.body.append(note);
    }
    if (note.textContent !== words) note.textContent = words;
  }

  async function ask() {
    const response = await fetch("api/health", { cache: "no-store" }).catch(() => null);
    if (response !== null && response.ok) {
      numMissed = 0;
      if (isLost) window.location.reload();
    } else if (response !== null && response.status === 403) {
      isLost = true;
      say(UNKNOWN);
    } else if (++numMissed >= MAX_MISSED) {
      isLost = true;
      say(GONE);
    }
    window.setTimeout(ask, ASK_MS);
  }
  window.setTimeout(ask, ASK_MS);
})();
