"use strict";
// The regions of the page (app/page/layout): their roles, the tabs of the right side, sheets, messages that disappear,
// and words for screen readers. `window.salaLayout` is what other scripts use.
(() => {
  const ROLES = {
    bar: ["banner", null],
    nav: ["navigation", "Sessions"],
    main: ["main", "Conversation"],
    side: ["complementary", "Evidence and sources"],
  };
  const VIEWS = [
    { name: "talk", title: "Conversation", target: "main" },
    { name: "sessions", title: "Sessions", target: "nav" },
  ];
  const PANELS = window.salaPanels.map((panel) => ({ ...panel, target: `panel-${panel.name}` }));
  const isMedium = window.matchMedia("(max-width: 1180px)");
  const isNarrow = window.matchMedia("(max-width: 760px)");
  const byId = (id) => document.getElementById(id);
  const valueOf = (id) => document.querySelector(`#${id} :is(textarea, input)`)?.value ?? "";

  let panel = "sources";
  let view = "talk"; // what a narrow window shows: a name of VIEWS, or a panel's

  const known = () => PANELS.filter(({ target }) => byId(target) !== null);
  const offered = () => [
    ...VIEWS.filter(({ name }) => isNarrow.matches || (isMedium.matches && name === "sessions")),
    ...known(),
  ];
  const selected = () => (isNarrow.matches || (isMedium.matches && view === "sessions") ? view : panel);

  // Shows a panel or a view. `settle`: only prepare it, where a narrow window shows something else.
  function show(name, { settle = false } = {}) {
    if (known().some((one) => one.name === name)) panel = name;
    else if (!VIEWS.some((one) => one.name === name)) return;
    if (!settle) view = name;
    else if (view !== "talk" && view !== "sessions") view = panel;
    draw();
    document.dispatchEvent(new CustomEvent("sala-panel", { detail: name }));
  }

  function draw() {
    byId("frame").dataset.view = view;
    byId("side").dataset.panel = panel;
    for (const { name, target } of known()) byId(target).toggleAttribute("data-shown", name === panel);
    const names = offered().map(({ name }) => name);
    for (const tab of document.querySelectorAll("#tabs [role=tab]")) {
      tab.hidden = !names.includes(tab.dataset.name);
      const isChosen = tab.dataset.name === selected();
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
    }
  }

  function makeTab({ name, title, target }) {
    const tab = document.createElement("button");
    Object.assign(tab, { type: "button", id: `tab-${name}`, className: `tab-${name}`, textContent: title });
    tab.dataset.name = name;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", target);
    tab.addEventListener("click", () => show(name));
    return tab;
  }

  function onTabKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: 0, End: 0 }[event.key];
    if (step === undefined) return;
    const names = offered().map(({ name }) => name);
    const at = names.indexOf(selected());
    const next = event.key === "Home" ? 0 : event.key === "End" ? names.length - 1 : at + step;
    const name = names[(next + names.length) % names.length];
    show(name);
    byId(`tab-${name}`).focus();
    event.preventDefault();
  }

  function makeTabs() {
    const home = byId("tabs");
    const names = [...VIEWS, ...known()].map(({ name }) => name).join(" ");
    if (home === null || home.dataset.names === names) return;
    home.dataset.names = names;
    home.setAttribute("role", "navigation");
    home.setAttribute("aria-label", "Views");
    home.querySelector(".tab-list")?.remove();
    const list = document.createElement("div");
    list.className = "tab-list";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Views");
    list.append(...[...VIEWS, ...known()].map(makeTab));
    list.addEventListener("keydown", onTabKey);
    home.append(list);
    for (const { target, title } of known()) {
      byId(target).setAttribute("role", "tabpanel");
      byId(target).setAttribute("aria-label", title);
    }
    draw();
  }

  function giveRoles() {
    for (const [id, [role, label]] of Object.entries(ROLES)) {
      const region = byId(id);
      if (region === null || region.getAttribute("role") === role) continue;
      region.setAttribute("role", role);
      if (label !== null) region.setAttribute("aria-label", label);
    }
    const outer = document.querySelector("gradio-app main");
    if (outer !== null && !outer.hasAttribute("role")) outer.setAttribute("role", "presentation");
  }

  // Words for screen readers.

  let announcer = null;
  function announce(words) {
    if (announcer === null) {
      announcer = Object.assign(document.createElement("div"), { id: "announcer", className: "visually-hidden" });
      announcer.setAttribute("role", "status");
      announcer.setAttribute("aria-live", "polite");
      document.body.append(announcer);
    }
    if (announcer.textContent !== words) announcer.textContent = words;
  }

  // What the page shows by itself: sources while something is read, the evidence of a new answer.

  const seen = { session: "", job: "", evidence: "", isReading: false };
  function follow() {
    const session = valueOf("session-id");
    const job = valueOf("job-id");
    const evidence = document.querySelector("#evidence .evidence")?.textContent ?? "";
    const isReading = document.querySelector("#panel-sources .progress") !== null;
    if (session !== seen.session || job !== seen.job) endToast();
    if (session !== seen.session) {
      show(evidence !== "" && !isReading ? "evidence" : "sources", { settle: true });
      if (seen.session !== "" && view === "sessions") show("talk");
    } else if (isReading && !seen.isReading) show("sources", { settle: true });
    else if (evidence !== seen.evidence && evidence !== "" && !isReading && panel === "sources")
      show("evidence", { settle: true });
    if (job !== "" && job !== seen.job && !isReading && view === "sessions") show("talk");
    Object.assign(seen, { session, job, evidence, isReading });
  }

  // A message ends with what it tells: when another session is open or a job has begun or ended. One that came with
  // that change stays.

  const TOAST_NEW_MS = 1500;
  let toast = null;
  let toastSince = 0;
  function noteToast() {
    const now = document.querySelector("#toast .toast");
    if (now === toast) return;
    toast = now;
    toastSince = performance.now();
  }

  function endToast() {
    if (toast !== null && performance.now() - toastSince > TOAST_NEW_MS) toast.classList.add("ended");
  }

  // Sheets: roles, and focus that moves in and back.

  const openSheets = new Map();
  function followSheets() {
    for (const sheet of document.querySelectorAll(".sheet")) {
      if (openSheets.has(sheet) || sheet.offsetParent === null && getComputedStyle(sheet).display === "none") continue;
      sheet.setAttribute("role", "dialog");
      sheet.setAttribute("aria-modal", "true");
      sheet.setAttribute("aria-label", sheet.querySelector("h2")?.textContent ?? "");
      openSheets.set(sheet, document.activeElement);
      sheet.querySelector("input, textarea, select, button")?.focus();
    }
    for (const [sheet, before] of openSheets) {
      if (sheet.isConnected && getComputedStyle(sheet).display !== "none") continue;
      openSheets.delete(sheet);
      if (before?.isConnected) before.focus();
    }
  }

  function onSheetTab(event) {
    const sheet = [...openSheets.keys()].at(-1);
    if (event.key !== "Tab" || sheet === undefined) return;
    const stops = [...sheet.querySelectorAll("a[href], button, input, textarea, select, summary, [tabindex='0']")].filter(
      (one) => !one.disabled && one.offsetParent !== null,
    );
    const edge = event.shiftKey ? stops[0] : stops.at(-1);
    if (sheet.contains(document.activeElement) && document.activeElement !== edge) return;
    (event.shiftKey ? stops.at(-1) : stops[0])?.focus();
    event.preventDefault();
  }

  let isDue = false;
  function refresh() {
    isDue = false;
    if (byId("side") === null) return;
    giveRoles();
    makeTabs();
    noteToast();
    follow();
    followSheets();
  }

  function soon() {
    if (isDue) return;
    isDue = true;
    window.requestAnimationFrame(refresh);
  }

  new MutationObserver(soon).observe(document.documentElement, {
    subtree: true,
    childList: true,
    characterData: true,
  });
  window.setInterval(soon, 500); // values of fields change without a mutation
  for (const query of [isMedium, isNarrow]) query.addEventListener("change", () => byId("side") !== null && draw());
  document.addEventListener("keydown", onSheetTab);
  document.addEventListener("click", (event) => event.target.closest?.("#toast .toast")?.classList.add("ended"));

  window.salaLayout = { show, shown: () => panel, announce };
})();
