"use strict";
// The controls of the panel "Source". source_viewer.js gives them their work.
(() => {
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const button = (words, className, label = words) => {
    const made = element("button", { type: "button", className }, words);
    if (label !== words) made.setAttribute("aria-label", label);
    if (label !== words) made.title = label;
    return made;
  };

  window.salaSourceControls = () => {
    const made = element("section", { className: "source" });
    made.setAttribute("aria-label", "Source");
    const parts = {
      section: made,
      name: element("h2", { className: "source-name" }),
      where: element("p", { className: "source-where" }),
      close: button("×", "source-close", "Close source"),
      map: element("div", { className: "source-map" }),
      previous: button("‹", "step", "Previous evidence"),
      next: button("›", "step", "Next evidence"),
      count: element("span", { className: "source-count" }),
      pages: button("Pages", "choice"),
      text: button("Text", "choice"),
      back: button("‹", "step", "Previous page"),
      forward: button("›", "step", "Next page"),
      page: element("span", { className: "source-count" }),
      headings: element("select", { className: "source-headings" }),
      search: element("input", { type: "search", placeholder: "Search in this document", autocomplete: "off" }),
      hits: element("span", { className: "source-count" }),
      earlier: button("‹", "step", "Previous match"),
      later: button("›", "step", "Next match"),
      open: button("Open original", "source-open"),
      note: element("p", { className: "source-note" }),
      body: element("div", { className: "source-body", tabIndex: 0 }),
    };
    parts.search.setAttribute("aria-label", "Search in this document");
    parts.headings.setAttribute("aria-label", "Headings");
    parts.note.setAttribute("role", "status");
    parts.body.setAttribute("role", "document");
    const group = (className, ...children) => element("div", { className }, ...children);
    parts.evidence = group("source-group", parts.previous, parts.count, parts.next);
    parts.choice = group("source-group choices", parts.pages, parts.text);
    parts.found = group("source-group", parts.hits, parts.earlier, parts.later);
    const pager = group("source-group", parts.back, parts.page, parts.forward);
    made.append(
      element("header", { className: "source-head" }, group("source-title", parts.name, parts.where), parts.close),
      parts.map,
      group("source-bar", parts.evidence, pager, parts.choice, parts.headings, parts.open),
      group("source-bar source-finder", parts.search, parts.found),
      parts.note,
      parts.body,
    );
    return parts;
  };
})();
