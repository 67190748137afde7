"use strict";
// Tells screen readers how a reading goes on and when an answer is there: a few words at a time, never each token.
(() => {
  const STEP = 10; // per cent of a reading
  const PAUSE_MS = 10_000;
  const MAX_CHARS = 600;
  const say = (words) => window.salaLayout.announce(words);
  const text = (selector) => document.querySelector(selector)?.textContent.trim() ?? "";
  const valueOf = (id) => document.querySelector(`#${id} :is(textarea, input)`)?.value ?? "";

  let told = null; // the share of the running reading that was told last
  let toldAt = 0;
  function followReading() {
    const percent = text("#progress .percent");
    if (percent === "") {
      const receipt = text("#receipt .receipt-head strong");
      if (told !== null && receipt !== "") say(`${receipt}. ${text("#receipt .receipt-head span")}`);
      if (document.querySelector("#progress .progress") === null) told = null;
      return;
    }
    const share = parseInt(percent, 10);
    const now = performance.now();
    if (told !== null && (share < told + STEP || now - toldAt < PAUSE_MS)) return;
    told = share;
    toldAt = now;
    say(`Reading, ${percent}`);
  }

  let session = null;
  let numAnswers = 0;
  let isAnswering = false;
  function followAnswers() {
    const answers = document.querySelectorAll("#history .bot-row > .message");
    const now = valueOf("session-id");
    const isLive = document.querySelector("#live .turn") !== null;
    if (now === session && answers.length > numAnswers)
      say(`Answer: ${[...answers].at(-1).textContent.trim().slice(0, MAX_CHARS)}`);
    else if (isLive && !isAnswering) say("The answer is being written.");
    [session, numAnswers, isAnswering] = [now, answers.length, isLive];
  }

  let isDue = false;
  new MutationObserver(() => {
    if (isDue) return;
    isDue = true;
    window.setTimeout(() => {
      isDue = false;
      followReading();
      followAnswers();
    }, 200);
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
})();
