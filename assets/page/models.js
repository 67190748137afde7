"use strict";
// "Models": what is active, what is on this computer, what can be had; downloads with progress, pause and resume.
(() => {
  const { make, api, dialog, onPress } = window.salaDialogs;
  const POLL_MS = 700;
  let list = null; // the last answer of api/models
  let body = null;
  let timer = 0;
  let wasBusy = false;

  function button(words, run, properties = {}) {
    const made = make("button", { type: "button", textContent: words, ...properties });
    made.addEventListener("click", () => attempt(run));
    return made;
  }

  const post = (what, name) => api("POST", `models/${what}`, { name });

  async function attempt(run) {
    say("");
    try {
      take(await run());
    } catch (error) {
      say(error.message);
    }
  }

  function say(words) {
    const place = body.querySelector(".dialog-error");
    place.textContent = words;
    if (words !== "") place.scrollIntoView({ block: "nearest" });
  }

  // One model: its name, facts in small words, and buttons.
  function card(title, facts, notes, buttons, extra = null) {
    const words = [make("h4", { textContent: title }), make("p", { className: "facts", textContent: facts })];
    for (const note of notes) if (note !== "") words.push(make("p", { className: "note", textContent: note }));
    return make(
      "li",
      { className: "model-card" },
      make("div", { className: "model-words" }, ...words, extra),
      make("div", { className: "model-buttons" }, ...buttons),
    );
  }

  function activeCard() {
    const { active } = list;
    const words = active.wanted !== "" && active.wanted !== active.name ? `Next: ${active.wanted}, after the work under way` : active.words;
    const state = make("span", { className: `state state-${active.status}`, textContent: words });
    const made = make("section", { className: "active-model", "aria-label": "Active model" });
    made.append(make("h3", { textContent: active.name }), state);
    if (active.detail !== "") made.append(make("span", { className: "facts", textContent: active.detail }));
    if (active.error !== "") made.append(make("p", { className: "form-error", role: "alert", textContent: active.error }));
    if (active.about !== "") made.append(make("p", { className: "note", textContent: active.about }));
    return made;
  }

  function localCard(model) {
    const { active } = list;
    const isActive = model.name === active.name && active.status !== "failed";
    const name = { "aria-label": `Use ${model.title}` };
    const buttons = [];
    if (isActive) buttons.push(make("span", { className: "state", textContent: active.words }));
    else if (model.is_whole)
      buttons.push(button("Use", () => post("use", model.name), { ...name, disabled: !model.can_use || active.wanted !== "" }));
    const download = list.downloads.find((one) => one.name === model.name);
    if (model.can_resume && (download === undefined || !download.is_active)) buttons.push(downloadButton(model.name, "Resume"));
    if (download?.is_active) buttons.push(pauseButton(model.name));
    return card(model.title, model.facts, [model.place, model.fit, model.problem], buttons, progressOf(download));
  }

  const downloadButton = (name, words) => button(words, () => post("download", name), { "aria-label": `${words} ${name}` });
  const pauseButton = (name) => button("Pause", () => post("pause", name), { "aria-label": `Pause ${name}` });

  function progressOf(download) {
    if (download === undefined || download.status === "done") return null;
    const bar = make("progress", { "aria-label": `Download of ${download.name}`, max: Math.max(1, download.total) });
    if (download.total > 0) bar.value = download.done;
    const words = { paused: "Paused. ", failed: "Stopped. " }[download.status] ?? "";
    const note = make("p", { className: download.status === "failed" ? "form-error" : "note", textContent: words + download.words });
    return make("div", { className: "download", role: "status" }, download.status === "failed" && download.total === 0 ? null : bar, note);
  }

  function availableCard(model) {
    const download = list.downloads.find((one) => one.name === model.name);
    const before = download !== undefined && download.status !== "done";
    const press = download?.is_active ? pauseButton(model.name) : downloadButton(model.name, before ? "Resume" : "Download");
    const buttons = model.is_listed_here ? [] : [press];
    return card(model.name, model.facts, [model.fit], buttons, progressOf(download));
  }

  function draw() {
    const lists = body.querySelector(".model-lists");
    const focused = document.activeElement?.getAttribute("aria-label");
    const here = list.here.map((model) => model.name);
    const available = list.available.filter((model) => !here.includes(model.name));
    const named = [...here, ...available.map((model) => model.name)];
    const other = list.downloads.filter((one) => !named.includes(one.name) && one.status !== "done");
    const cards = [...available.map(availableCard), ...other.map((one) => availableCard({ name: one.name, facts: "", fit: "" }))];
    lists.replaceChildren(
      activeCard(),
      make("h3", { textContent: "On this computer" }),
      make("ul", { className: "model-list" }, ...list.here.map(localCard)),
      ...(cards.length > 0
        ? [make("h3", { textContent: "To download" }), make("ul", { className: "model-list" }, ...cards)]
        : []),
      make("p", { className: "facts", textContent: list.machine }),
    );
    if (focused) [...lists.querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === focused)?.focus();
  }

  const isBusy = () => list.active.status === "loading" || list.active.wanted !== "" || list.downloads.some((one) => one.is_active);

  async function take(now) {
    Object.assign(list, now);
    if (wasBusy && !isBusy()) list = await api("GET", "models"); // something is complete or active now
    wasBusy = isBusy();
    draw();
  }

  async function poll() {
    if (!models.isOpen()) return;
    if (isBusy()) await api("GET", "models/now").then(take, (error) => say(error.message));
    timer = window.setTimeout(poll, POLL_MS);
  }

  function row(id, label, placeholder, words, run) {
    const field = make("input", { id, type: "text", placeholder, maxLength: 4096, autocomplete: "off" });
    const press = make("button", { type: "submit", textContent: words });
    const form = make("form", { className: "model-form" }, make("label", { for: id, textContent: label }), field, press);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim() !== "") attempt(() => run(field.value.trim()));
    });
    return form;
  }

  const models = dialog("models", "Models", {
    async draw(place) {
      body = place;
      body.append(
        make("p", { className: "dialog-error form-error", role: "alert" }),
        make("div", { className: "model-lists" }, make("p", { className: "facts", textContent: "Looking at the models of this computer" })),
        window.salaEngines.section(),
        make("h3", { textContent: "Another one" }),
        row("other-model", "A model of this family on huggingface.co", "organization/model", "Download", (name) => post("download", name)),
        row("model-folder", "A folder on this computer", "/path/to/a/model", "Use folder", async (name) => {
          const now = await post("use", name);
          list = await api("GET", "models");
          return now;
        }),
      );
      try {
        list = await api("GET", "models");
        wasBusy = isBusy();
        draw();
        window.clearTimeout(timer);
        poll();
      } catch (error) {
        say(error.message);
      }
    },
    closed: () => window.clearTimeout(timer),
  });

  onPress("#open-models, .open-models", models.open);
})();
