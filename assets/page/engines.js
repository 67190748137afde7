"use strict";
// Engines elsewhere in "Models": those found on this machine, any address, and which of them writes the answers.
(() => {
  const { make, api } = window.salaDialogs;
  const SENDS = [
    ["auto", "The whole text where it fits, otherwise passages"],
    ["passages", "Passages only"],
    ["text", "The whole text only"],
  ];
  let place = null;
  let found = null; // the last answer of api/models/engines
  let looked = []; // servers at addresses that were typed

  function say(words) {
    const error = place.querySelector(".engines-error");
    error.textContent = words;
    if (words !== "") error.scrollIntoView({ block: "nearest" });
  }

  async function attempt(run) {
    say("");
    try {
      await run();
    } catch (error) {
      say(error.message);
    }
  }

  function button(words, label, run) {
    const made = make("button", { type: "button", textContent: words, "aria-label": label });
    made.addEventListener("click", () =>
      attempt(async () => {
        made.disabled = true;
        try {
          await run();
        } finally {
          made.disabled = false;
        }
        draw();
      }),
    );
    return made;
  }

  const use = (body) => api("POST", "models/engines/use", body).then((now) => (found.chosen = now.chosen));
  const isChosen = (engine) => found.chosen !== null && found.chosen.url === engine.url && found.chosen.model === engine.model;

  function card(engine, privacy, key) {
    const words = [make("h4", { textContent: engine.title }), make("p", { className: "facts", textContent: engine.facts })];
    if (privacy !== "") words.push(make("p", { className: "note", textContent: privacy }));
    const body = { url: engine.url, model: engine.model, key };
    const press = button("Use", `Use ${engine.title}`, () => use(body));
    const buttons = make("div", { className: "model-buttons" }, press);
    return make("li", { className: "model-card" }, make("div", { className: "model-words" }, ...words), buttons);
  }

  function server(one) {
    if (one.problem === "") return one.engines.filter((engine) => !isChosen(engine)).map((engine) => card(engine, one.privacy, one.key ?? ""));
    const words = make("p", { className: "facts", textContent: `${one.name} at ${one.url}: ${one.problem}` });
    return [make("li", { className: "model-card" }, words)];
  }

  function chosen() {
    const now = found.chosen;
    const sends = make("select", { id: "engine-sends" });
    for (const [value, words] of SENDS) sends.append(make("option", { value, textContent: words, selected: value === now.sends }));
    sends.addEventListener("change", () => attempt(() => use({ ...again(now), sends: sends.value }).then(draw)));
    const context = make("input", { id: "engine-context", type: "number", min: 512, step: 1, placeholder: "as the engine tells it" });
    context.value = now.context ?? "";
    context.addEventListener("change", () =>
      attempt(() => use({ ...again(now), context: context.value === "" ? null : Number(context.value) }).then(draw)),
    );
    return make(
      "section",
      { className: "active-model", "aria-label": "Engine that writes the answers" },
      make("h4", { textContent: now.model }),
      make("span", { className: "state state-ready", textContent: "Writes the answers" }),
      make("span", { className: "facts", textContent: now.facts }),
      now.privacy === "" ? null : make("p", { className: "note", textContent: now.privacy }),
      make(
        "p",
        { className: "note" },
        "The model here has read the text and finds the places; quotations are checked here, word for word. Temperature, " +
          "top-p, longest answer, thinking and seed of “Settings” hold for it too.",
      ),
      make("label", { for: "engine-sends", textContent: "It gets" }),
      sends,
      make("label", { for: "engine-context", textContent: "Context in tokens" }),
      context,
      button("Let the model here answer", "Let the model here answer", () => api("POST", "models/engines/leave", {}).then(() => (found.chosen = null))),
    );
  }

  const again = (now) => ({ url: now.url, model: now.model, context: now.context, sends: now.sends });

  function draw() {
    const lists = place.querySelector(".engine-lists");
    const servers = [...found.servers, ...looked.filter((one) => !found.servers.some((other) => other.url === one.url))];
    const cards = servers.flatMap(server);
    const shown = [];
    if (found.chosen !== null) shown.push(chosen());
    if (cards.length > 0) shown.push(make("ul", { className: "model-list" }, ...cards));
    else if (servers.length === 0) shown.push(make("p", { className: "facts", textContent: `None answers. Asked were ${found.asked}.` }));
    lists.replaceChildren(...shown);
  }

  function form() {
    const address = make("input", { id: "engine-url", type: "text", placeholder: "http://127.0.0.1:8080", maxLength: 2048, autocomplete: "off" });
    const secret = make("input", { id: "engine-key", type: "password", placeholder: "only if it wants one", maxLength: 8192, autocomplete: "off" });
    const made = make(
      "form",
      { className: "model-form" },
      make("label", { for: "engine-url", textContent: "Address of another engine (any server with an OpenAI-compatible API)" }),
      address,
      make("label", { for: "engine-key", textContent: "Its key" }),
      secret,
      make("button", { type: "submit", textContent: "Look" }),
    );
    made.addEventListener("submit", (event) => {
      event.preventDefault();
      if (address.value.trim() === "") return;
      attempt(async () => {
        const key = secret.value.trim(); // for this server alone
        const now = await api("POST", "models/engines/look", { url: address.value.trim(), key });
        looked = now.servers.map((one) => ({ ...one, key }));
        draw();
      });
    });
    return made;
  }

  // The section for the dialog; it fills itself.
  function section() {
    looked = [];
    place = make(
      "section",
      { className: "engines", "aria-label": "Engines on this machine" },
      make("h3", { textContent: "Engines on this machine" }),
      make("p", { className: "engines-error form-error", role: "alert" }),
      make("div", { className: "engine-lists" }, make("p", { className: "facts", textContent: "Looking at the ports of this computer" })),
      form(),
    );
    attempt(async () => {
      found = await api("GET", "models/engines");
      draw();
    });
    return place;
  }

  window.salaEngines = { section };
})();
