"use strict";
// The attention map: a strip over all documents of an answer, one cell a stretch. A cell names its most attended place
// and opens it; arrow keys move, Enter opens, and the places with most attention are buttons too.
(() => {
  const NUM_TOP = 3;
  const element = (name, className, ...children) => {
    const made = Object.assign(document.createElement(name), { className });
    made.append(...children);
    return made;
  };
  const percent = (share) => {
    if (share < 0.0005) return "under 0.1%";
    return share >= 0.0995 ? `${Math.round(share * 100)}%` : `${(share * 100).toFixed(1)}%`;
  };

  function placeOf(cell, isOnly) {
    if (cell.where === "") return cell.document;
    return isOnly ? cell.where : `${cell.document}, ${cell.where}`;
  }

  // cells: from the program, or null where no map was kept. open(cell): a place was chosen. current: the cell of the
  // place that is shown, or null. isBrief: without the list of places.
  function makeMap(cells, { open, current = null, isBrief = false }) {
    const home = element("section", isBrief ? "attention-map brief" : "attention-map");
    home.setAttribute("aria-label", "Attention map");
    if (cells === null) {
      home.append(element("p", "hint", "No attention map was kept with this answer."));
      return home;
    }
    const isOnly = new Set(cells.map((cell) => cell.document_id)).size === 1;
    const greatest = Math.max(...cells.map(({ share }) => share));
    const strip = element("div", "map-strip");
    const label = element("p", "map-place");
    const rest = isBrief ? "" : "Where the model attended, from start to end";
    label.textContent = rest;
    cells.forEach((cell, index) => {
      const mark = element("i", index === current ? "current" : "");
      mark.style.setProperty("--share", String(Math.round(Math.sqrt(cell.share / greatest) * 100)));
      if (index > 0 && cell.document_id !== cells[index - 1].document_id) mark.classList.add("begins");
      strip.append(mark);
    });
    const words = (index) => `${placeOf(cells[index], isOnly)} · ${percent(cells[index].share)} of the attention`;
    const best = cells.map((_, index) => index).sort((a, b) => cells[b].share - cells[a].share);
    let at = current ?? best[0];
    strip.tabIndex = 0;
    const attributes = { role: "slider", "aria-label": "Stretch of the documents", "aria-valuemin": 1 };
    for (const [name, value] of Object.entries({ ...attributes, "aria-valuemax": cells.length }))
      strip.setAttribute(name, value);

    function point(index, isShown = true) {
      at = Math.max(0, Math.min(cells.length - 1, index));
      strip.setAttribute("aria-valuenow", at + 1);
      strip.setAttribute("aria-valuetext", words(at));
      strip.querySelector(".pointed")?.classList.remove("pointed");
      if (isShown) strip.children[at].classList.add("pointed");
      label.textContent = isShown ? words(at) : rest;
    }

    const under = (event) => {
      const { left, width } = strip.getBoundingClientRect();
      return Math.floor(((event.clientX - left) / width) * cells.length);
    };
    strip.addEventListener("pointermove", (event) => point(under(event)));
    strip.addEventListener("pointerleave", () => point(at, document.activeElement === strip));
    strip.addEventListener("focus", () => point(at));
    strip.addEventListener("blur", () => point(at, false));
    strip.addEventListener("click", (event) => {
      point(under(event));
      open(cells[at]);
    });
    strip.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
      if (event.key === "Enter" || event.key === " ") open(cells[at]);
      else if (event.key === "Home") point(0);
      else if (event.key === "End") point(cells.length - 1);
      else if (step !== undefined) point(at + step);
      else return;
      event.preventDefault();
    });
    point(at, false);
    home.append(strip, label);
    if (!isBrief) home.append(topPlaces(best.slice(0, NUM_TOP).map((index) => cells[index]), isOnly, open));
    return home;
  }

  // The same as words: the places with most attention.
  function topPlaces(cells, isOnly, open) {
    const line = element("p", "map-top", "Most at ");
    cells.filter(({ share }) => share > 0).forEach((cell, index) => {
      const button = element("button", "plain-link", placeOf(cell, isOnly));
      button.type = "button";
      button.title = `${percent(cell.share)} of the attention`;
      button.addEventListener("click", () => open(cell));
      line.append(...(index > 0 ? [", ", button] : [button]));
    });
    return line;
  }

  window.salaAttentionMap = makeMap;
})();
