"use strict";
// The conversation. The program sends finished HTML as text in a hidden element (`.carrier`); this shows it, and
// replaces only what has changed: a selection, an opened part and a scrolled code block survive. Nothing outside of
// ELEMENTS is shown. "Copy" copies, KaTeX sets the formulas. Places open in source_viewer.js.
(() => {
  const ELEMENTS = {
    A: ["href", "rel", "target", "title", "data-host"],
    ARTICLE: ["class", "data-message"],
    BLOCKQUOTE: [],
    BR: [],
    BUTTON: ["class", "type", "title", "aria-label", "data-copy", "data-passage", "data-action", "data-turn", "data-question"],
    CODE: [],
    DEL: [],
    DETAILS: ["class"],
    DIV: ["class", "role", "tabindex", "aria-label"],
    EM: [],
    H3: [],
    H4: [],
    H5: [],
    HR: [],
    LI: [],
    OL: ["start"],
    P: ["class"],
    PRE: ["tabindex"],
    SPAN: ["class"],
    STRONG: [],
    SUMMARY: [],
    TABLE: [],
    TBODY: [],
    TD: ["class"],
    TH: ["class"],
    THEAD: [],
    TR: [],
    UL: [],
  };
  const LABELS = { history: "Conversation", live: "Answer in progress", waiting: "Questions that wait" };
  const PARTS = "article, details, .message, .thought"; // patched inside; everything else is replaced whole
  const COPIED_MS = 2000;

  function clean(root) {
    for (const element of [...root.querySelectorAll("*")]) {
      const attributes = Object.hasOwn(ELEMENTS, element.tagName) ? ELEMENTS[element.tagName] : null;
      if (attributes === null) element.remove();
      else for (const { name } of [...element.attributes]) if (!attributes.includes(name)) element.removeAttribute(name);
    }
    for (const link of root.querySelectorAll("a"))
      if (!/^https?:$/.test(link.protocol)) link.removeAttribute("href");
  }

  // Formulas. The files are Gradio's; their names are in the page's head.

  let katex = null;
  let isLoading = false;
  function setFormula(element) {
    const options = {
      displayMode: element.classList.contains("formula-display"),
      throwOnError: false,
      trust: false,
      strict: "ignore",
      maxSize: 10,
      maxExpand: 200,
    };
    const source = element.textContent;
    try {
      katex.render(source, element, options);
    } catch {
      element.textContent = source; // KaTeX gave up: the source is shown
    }
  }

  function setFormulas(root) {
    const formulas = [...root.querySelectorAll(".formula")];
    if (root.matches?.(".formula")) formulas.push(root);
    if (formulas.length === 0) return;
    if (katex !== null) return formulas.forEach(setFormula);
    if (isLoading) return;
    isLoading = true;
    const { script, style } = window.salaFormulas;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: style }));
    import(new URL(script, document.baseURI).href).then((module) => {
      katex = module.default;
      document.querySelectorAll(".talk .formula:not(:has(.katex))").forEach(setFormula);
    });
  }

  // What is shown. Each node remembers the HTML that it was made from.

  const sources = new WeakMap();
  function remember(node) {
    sources.set(node, node.outerHTML ?? node.textContent);
    if (node.matches?.(PARTS)) node.childNodes.forEach(remember);
  }

  function patch(shown, wanted) {
    const nodes = [...wanted.childNodes];
    nodes.forEach((node, index) => {
      const old = shown.childNodes[index];
      const source = node.outerHTML ?? node.textContent;
      if (old !== undefined && sources.get(old) === source) return;
      if (old?.matches?.(PARTS) && old.tagName === node.tagName && old.className === node.className) {
        patch(old, node);
        sources.set(old, source);
        return;
      }
      remember(node);
      if (old === undefined) shown.append(node);
      else old.replaceWith(node);
      if (node instanceof Element) setFormulas(node);
    });
    while (shown.childNodes.length > nodes.length) shown.lastChild.remove();
  }

  const shownHtml = new WeakMap();
  function fill(view, html) {
    if (shownHtml.get(view) === html) return;
    shownHtml.set(view, html);
    const template = document.createElement("template");
    template.innerHTML = html;
    clean(template.content);
    patch(view, template.content);
  }

  function show(id) {
    const home = document.getElementById(id);
    if (home === null) return;
    let view = home.querySelector(":scope > .talk:not(.earlier)");
    if (view === null) {
      view = Object.assign(document.createElement("section"), { className: "talk" });
      view.setAttribute("aria-label", LABELS[id]);
      home.append(view);
    }
    const html = home.querySelector(".carrier")?.textContent ?? "";
    fill(view, html);
  }

  // A change of what is shown is no reason to show it again.
  const isShown = (node) => (node.closest === undefined ? node.parentElement : node)?.closest(".talk") != null;
  new MutationObserver((changes) => {
    if (changes.some(({ target }) => !isShown(target))) Object.keys(LABELS).forEach(show);
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });

  // Buttons.

  async function copy(button) {
    const code = button.closest(".code")?.querySelector("code");
    await navigator.clipboard.writeText(button.dataset.copy ?? code?.textContent ?? "");
    const words = button.textContent;
    if (words === "Copied") return;
    button.textContent = "Copied";
    window.setTimeout(() => (button.textContent = words), COPIED_MS);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".talk button.copy") ?? null;
    if (button !== null) copy(button);
  });

  window.salaTalk = { fill };
})();
