"use strict";
// First questions below an empty conversation, question templates, question lists, and the export of a conversation.
(() => {
  const POLL_MS = 1000;
  const FOCUS_MS = 60;
  const { make, api, dialog, valueOf, onPress, onChanges } = window.salaDialogs;
  const session = () => valueOf("session-id");
  const button = (words, run, className = "secondary") => {
    const made = make("button", { type: "button", className, textContent: words });
    made.addEventListener("click", run);
    return made;
  };

  // Puts words into the question box. `send`: ask at once. What stands for something to fill in is selected.
  function intoBox(words, { send = false } = {}) {
    const box = document.querySelector("#question textarea");
    if (box === null) return;
    box.value = words;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    window.salaLayout.show("talk");
    window.setTimeout(() => {
      // after a dialog that closes has given the focus back
      box.focus();
      const blank = words.indexOf("...");
      if (blank >= 0) box.setSelectionRange(blank, blank + 3);
      if (send) document.querySelector("#send")?.click();
    }, FOCUS_MS);
  }

  // First questions: shown while the conversation is empty.

  let shownFor = ""; // session and documents that the shown questions are for
  let asked = "";
  function place() {
    const welcome = document.querySelector("#welcome .welcome-ready");
    const home = document.getElementById("welcome");
    const key = welcome === null ? "" : `${session()} ${document.querySelector("#documents .documents")?.textContent ?? ""}`;
    const list = document.getElementById("first-questions");
    if (key === "" || (list !== null && shownFor !== key)) list?.remove();
    if (key === "" || asked === key) return;
    asked = key;
    api("GET", `sessions/${session()}/first-questions`).then(
      ({ questions }) => {
        if (asked !== key || questions.length === 0) return;
        document.getElementById("first-questions")?.remove();
        shownFor = key;
        const items = questions.map((words) => make("li", {}, button(words, () => intoBox(words, { send: true }), "")));
        const label = { id: "first-questions", "aria-label": "First questions" };
        home.append(make("section", label, make("ul", {}, ...items)));
      },
      () => {}, // the session is gone; the page says so
    );
  }
  onChanges(() => {
    place();
    if (document.querySelector("#welcome .welcome-ready") === null) asked = "";
  });

  // Templates

  function templateList(known, redraw) {
    const use = (words) => () => {
      questions.close();
      intoBox(words);
    };
    const own = known.own.map((words) =>
      make(
        "li",
        {},
        button(words, use(words), "template"),
        button("Remove", () => api("POST", "question-templates/remove", { text: words }).then(redraw, fail), "plain"),
      ),
    );
    const builtIn = known.built_in.map(({ text, fits }) =>
      make(
        "li",
        {},
        button(text, use(text), "template"),
        fits ? null : make("span", { className: "note", textContent: "needs a model that writes" }),
      ),
    );
    return make("ul", { className: "templates" }, ...own, ...builtIn);
  }

  function templates(body) {
    const list = make("div");
    const field = make("input", { type: "text", maxLength: 500, placeholder: "What does ... say about ...?" });
    field.setAttribute("aria-label", "New template");
    const redraw = (known) => list.replaceChildren(templateList(known, redraw));
    const add = make("form", { className: "add-template" }, field, make("button", { type: "submit", textContent: "Add" }));
    add.addEventListener("submit", (event) => {
      event.preventDefault();
      api("POST", "question-templates", { text: field.value }).then((known) => {
        field.value = "";
        redraw(known);
      }, fail);
    });
    body.append(
      make("h3", { textContent: "Templates" }),
      make("p", { className: "note", textContent: "Three dots stand for what you fill in." }),
      list,
      add,
    );
    return api("GET", "question-templates").then(redraw, fail);
  }

  // Lists

  let failure = null;
  function fail(error) {
    if (failure !== null) failure.textContent = error.message;
  }

  const WORDS = {
    waiting: "waiting for other work",
    running: "being answered",
    stopped: "stopped",
    interrupted: "interrupted",
    failed: "failed",
    done: "finished",
  };

  function listItem(view, redraw) {
    const act = (action) => () =>
      api("POST", `sessions/${session()}/lists/${view.id}/${action}`).then(redraw, fail);
    const isActive = view.status === "waiting" || view.status === "running";
    const bar = make("progress", { max: view.total, value: view.answered, "aria-label": `Answered of ${view.name}` });
    const links = ["csv", "md", "jsonl"].map((form) =>
      make("a", {
        href: `api/sessions/${session()}/lists/${view.id}/answers.${form}`,
        download: "",
        textContent: { csv: "CSV", md: "Markdown", jsonl: "JSON lines" }[form],
      }),
    );
    const table = make("details", { className: "list-answers" }, make("summary", { textContent: "Answers" }), make("div"));
    table.addEventListener("toggle", () => table.open && drawTable(view.id, table.lastChild));
    return make(
      "li",
      { className: "question-list" },
      make("h4", { textContent: view.name }),
      make("p", { className: "note", textContent: `${view.answered} of ${view.total} answered, ${WORDS[view.status]}` }),
      isActive ? bar : null,
      view.current === "" ? null : make("p", { className: "note", textContent: view.current }),
      view.error === "" ? null : make("p", { className: "problem", role: "alert", textContent: view.error }),
      make(
        "div",
        { className: "list-actions" },
        isActive ? button("Stop", act("stop")) : null,
        isActive || view.status === "done" ? null : button("Continue", act("resume")),
        ...(view.answered > 0 ? links : []),
        isActive ? null : button("Delete", act("delete"), "plain"),
      ),
      view.answered > 0 ? table : null,
    );
  }

  function drawTable(id, home) {
    api("GET", `sessions/${session()}/lists/${id}`).then(({ rows }) => {
      const head = make("tr", {}, ...["Question", "Answer", "Places"].map((words) => make("th", { textContent: words })));
      const body = rows.map(({ question, answer, places }) =>
        make(
          "tr",
          {},
          make("td", { textContent: question }),
          make("td", { className: "answer", textContent: answer }),
          make("td", {}, ...places.map((words) => make("div", { textContent: words }))),
        ),
      );
      home.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
    }, fail);
  }

  let timer = 0;
  function lists(body) {
    const home = make("ul", { className: "question-lists" });
    const chosen = make("input", { type: "file", accept: ".txt,.csv,.tsv,.md,text/plain,text/csv", hidden: true });
    chosen.id = "chosen-list";
    failure = make("p", { className: "problem", role: "alert" });
    let last = "";
    const redraw = () =>
      api("GET", `sessions/${session()}/lists`).then((answer) => {
        const now = JSON.stringify(answer.lists);
        if (now === last) return;
        last = now;
        const open = home.querySelector("details[open]") !== null;
        home.replaceChildren(...answer.lists.map((view) => listItem(view, redraw)));
        if (open) home.querySelector("details")?.setAttribute("open", "");
      }, fail);
    chosen.addEventListener("change", async () => {
      const [file] = chosen.files;
      chosen.value = "";
      if (file === undefined) return;
      failure.textContent = "";
      const bytes = new Uint8Array(await file.arrayBuffer());
      let text = "";
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
      api("POST", `sessions/${session()}/lists`, { name: file.name, data: btoa(text) }).then(redraw, fail);
    });
    const words =
      "A text file with one question on each line, or a CSV file with a column “question”. Each one is asked of what " +
      "was read, without this conversation and without the others. You can close the window; a list goes on where it was.";
    body.append(
      make("h3", { textContent: "Question lists" }),
      make("p", { className: "note", textContent: words }),
      button("Choose a list", () => chosen.click()),
      chosen,
      failure,
      home,
    );
    window.clearInterval(timer);
    timer = window.setInterval(redraw, POLL_MS);
    return redraw();
  }

  const questions = dialog("questions", "Questions", {
    draw: (body) => {
      const filled = templates(body);
      lists(body);
      return filled;
    },
    closed: () => window.clearInterval(timer),
  });
  onPress("#open-questions", () => questions.open());
  window.salaKeys.add({ key: "t", words: "Question templates and lists", run: () => questions.open() });

  // Export

  const FORMS = [
    ["md", "Markdown", "for notes and editors"],
    ["html", "HTML", "one file for any browser, without scripts"],
    ["json", "JSON", "for programs, with evidence and places"],
  ];
  const exports = dialog("export", "Export this conversation", {
    draw: (body) => {
      const items = FORMS.map(([form, name, use]) => {
        const link = { href: `api/sessions/${session()}/export/${form}`, download: "", textContent: name };
        return make("li", {}, make("a", link), make("span", { className: "note", textContent: use }));
      });
      body.append(make("ul", { className: "exports" }, ...items));
    },
  });
  onPress("#open-export", () => exports.open());
})();
