"use strict";
// "Settings": one form. Nothing is kept before "Save"; each part says when it takes effect. Also the theme of the page.
(() => {
  const { make, api, dialog, valueOf, onPress, onChanges } = window.salaDialogs;
  const THEME = "sala-theme";
  const isDark = window.matchMedia("(prefers-color-scheme: dark)");

  // Theme: Gradio's class on the body. What the library keeps counts; this browser's copy avoids a flash at the start.

  let theme = window.localStorage.getItem(THEME) ?? "system";
  function showTheme() {
    const dark = theme === "dark" || (theme === "system" && isDark.matches);
    if (document.body !== null && document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
  }
  function setTheme(name) {
    theme = name;
    window.localStorage.setItem(THEME, name);
    showTheme();
  }
  isDark.addEventListener("change", showTheme);
  new MutationObserver(showTheme).observe(document.documentElement, { subtree: true, attributeFilter: ["class"] });
  document.addEventListener("DOMContentLoaded", showTheme);
  api("GET", "program").then((kept) => setTheme(kept.theme), () => {});

  // The form

  let settings = null;
  let session = "";
  let form = null;
  const field = (name) => form.querySelector(`#set-${name} :is(input, textarea, select)`);
  const choice = (name) => form.querySelector(`#set-${name} input:checked`)?.value ?? "";

  function text(name, label, value, placeholder, hint = "") {
    const input = make("input", { type: "text", value, placeholder, maxLength: name === "library" ? 4096 : 40, autocomplete: "off" });
    return labelled(name, label, input, hint);
  }

  function labelled(name, label, input, hint) {
    input.id = `set-${name}-field`;
    const words = hint === "" ? null : make("span", { className: "hint", id: `set-${name}-hint`, textContent: hint });
    if (words !== null) input.setAttribute("aria-describedby", words.id);
    return make("div", { id: `set-${name}`, className: "set-field" }, make("label", { for: input.id, textContent: label }), input, words);
  }

  function select(name, label, options, value, hint) {
    const made = options.map(([key, words]) => make("option", { value: key, textContent: words, selected: key === value }));
    return labelled(name, label, make("select", {}, ...made), hint);
  }

  function radios(name, label, options, value) {
    const items = options.map(([words, key]) =>
      make("label", {}, make("input", { type: "radio", name, value: key, checked: key === value }), words),
    );
    return make("fieldset", { id: `set-${name}`, className: "set-choice" }, make("legend", { textContent: label }), ...items);
  }

  function section(title, ...children) {
    return make("section", { className: "set-section" }, make("h3", { textContent: title }), ...children);
  }

  const grid = (...children) => make("div", { className: "set-grid" }, ...children);

  function answers() {
    const { answers: values, placeholders } = settings;
    const item = (name, label) => text(name, label, values[name], placeholders[name]);
    const parts = [
      grid(
        item("temperature", "Temperature"),
        item("top-p", "Top-p"),
        item("max-tokens", "Longest answer"),
        item("seed", "Seed"),
        item("thinking-budget", "Longest thinking"),
      ),
      radios("quotations", "Quotations", settings.quotations, values.quotations),
      radios("thinking", "Thinking", settings.thinking, values.thinking),
    ];
    parts[0].querySelector("#set-thinking-budget").hidden = parts[2].hidden = !settings.thinks;
    const reset = make("button", { type: "button", id: "reset-settings", textContent: "The model’s own" });
    reset.addEventListener("click", () => {
      for (const input of form.querySelectorAll("#answer-settings .set-grid input")) input.value = "";
      for (const name of ["quotations", "thinking"]) form.querySelector(`#set-${name} input`).checked = true;
      save();
    });
    const hint =
      "An empty field leaves the choice to the model, whose own value is shown in gray. Without a seed, every answer is different. Quotations word for word are sentences of your documents. What you save applies from the next question on, in every session.";
    const made = section("Answers", ...parts, make("p", { className: "hint", textContent: hint }), reset);
    made.id = "answer-settings";
    return made;
  }

  function prompt() {
    if (settings.session === null) return null;
    const area = make("textarea", { rows: 3, value: settings.session.prompt, maxLength: 8000, placeholder: "The program’s own" });
    const hint = "The first words that the model reads in this session. A session that has been read already takes a new one when it is read again.";
    const reread = make("button", { type: "button", id: "reread-session", textContent: "Save and read again" });
    reread.addEventListener("click", () => save({ again: true }));
    return section(`This session: ${settings.session.name}`, labelled("prompt", "System prompt", area, hint), reread);
  }

  function draw(place) {
    const computing = section(
      "Computing",
      make("p", { className: "set-line" }, `Model: ${settings.model} `, make("button", { type: "button", className: "open-models", textContent: "Choose a model" })),
      grid(
        select("device", "Device", settings.devices, settings.device, "Loads the model again."),
        select("kv", "Keys and values in memory (KV)", settings.kvs, settings.kv, "Loads the model again. Sessions that were read in another format are read again, or kept for when you go back."),
        settings.at_rest === undefined ? null : select("at-rest", "Keys and values on disk", settings.at_rests, settings.at_rest, settings.at_rest_hint),
      ),
    );
    const storage = section(
      "Storage",
      grid(
        text("quota", "Limit for saved states", settings.quota, "no limit", `${settings.used} are used. The ones not used for longest make room; texts and conversations stay.`),
        text("library", "Library folder", settings.chosen_library, settings.library, "Takes effect after a restart. Nothing is moved."),
      ),
    );
    const error = make("p", { id: "settings-error", className: "form-error" });
    form = make("form", { noValidate: true }, section("Appearance", radios("theme", "Theme", settings.themes.map(([key, words]) => [words, key]), settings.theme)));
    const session_part = prompt();
    form.append(answers(), ...(session_part === null ? [] : [session_part]), computing, storage, error);
    const cancel = make("button", { type: "button", id: "close-settings", textContent: "Cancel" });
    cancel.addEventListener("click", () => settingsDialog.close());
    form.append(make("div", { className: "dialog-foot" }, make("button", { type: "submit", id: "save-settings", className: "primary", textContent: "Save" }), cancel));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      save();
    });
    form.querySelector("#set-theme").addEventListener("change", () => setTheme(choice("theme"))); // seen at once
    form.querySelector(".open-models").addEventListener("click", () => settingsDialog.close());
    place.append(form);
  }

  function changed() {
    const values = {
      theme: choice("theme"),
      quota: field("quota").value,
      library: field("library").value,
      device: field("device").value,
      kv: field("kv").value,
      answers: { quotations: choice("quotations"), thinking: choice("thinking") },
    };
    for (const name of ["temperature", "top-p", "max-tokens", "seed", "thinking-budget"]) values.answers[name] = field(name).value;
    if (settings.at_rest !== undefined) values.at_rest = field("at-rest").value;
    if (settings.session !== null) Object.assign(values, { session, prompt: field("prompt").value });
    const before = { ...settings, library: settings.chosen_library, prompt: settings.session?.prompt };
    for (const name of ["theme", "quota", "library", "device", "kv", "at_rest", "prompt"]) if (values[name] === before[name]) delete values[name];
    if (Object.entries(values.answers).every(([name, value]) => value === settings.answers[name])) delete values.answers;
    return values;
  }

  let isSaved = false;
  async function save({ again = false } = {}) {
    const error = form.querySelector("#settings-error");
    error.textContent = "";
    error.removeAttribute("role");
    try {
      const { notes } = await api("POST", "settings", changed());
      if (again) await api("POST", `sessions/${session}/reread`);
      isSaved = true;
      settingsDialog.close();
      window.salaSnack?.(["Saved.", ...notes].join(" "));
    } catch (problem) {
      error.setAttribute("role", "alert");
      error.textContent = problem.message;
      error.scrollIntoView({ block: "nearest" });
    }
  }

  const settingsDialog = dialog("settings-form", "Settings", {
    async draw(place) {
      isSaved = false;
      session = valueOf("session-id");
      try {
        settings = await api("GET", `settings?session=${encodeURIComponent(session)}`);
        draw(place);
        form.querySelector("input")?.focus();
      } catch (error) {
        place.append(make("p", { className: "form-error", role: "alert", textContent: error.message }));
      }
    },
    closed: () => {
      if (!isSaved && settings !== null) setTheme(settings.theme);
    },
  });

  onPress("#settings", settingsDialog.open);
  onChanges(showTheme);
})();
