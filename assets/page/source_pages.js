"use strict";
// The pages of a PDF, drawn by the program, with the passage marked on them. A page is a picture: nothing in it runs.
(() => {
  const GAP_PX = 18;
  const WAIT_MS = 60; // a page that is only scrolled past is not drawn
  const element = (name, className, ...children) => {
    const made = Object.assign(document.createElement(name), { className });
    made.append(...children);
    return made;
  };

  class SourcePages {
    // address(path): the whole address of a path below the document's.
    constructor(box, facts, get, address, onScroll) {
      Object.assign(this, { box, facts, get, address });
      this.ratio = 1.32;
      this.ratios = new Map();
      this.marks = [];
      this.boxes = new Map();
      this.list = new window.salaSourceList(box, {
        make: (index) => this.make(index),
        drop: (index, made) => this.drop(made),
        onScroll,
        onWidth: (before) => this.onWidth(before),
      });
      box.dataset.layout = "pages";
      this.list.reset(facts.page_rows.map(() => this.height(this.ratio)));
    }

    end() {
      this.list.end();
      delete this.box.dataset.layout;
    }

    height(ratio) {
      return Math.max(200, this.box.clientWidth - 48) * ratio + GAP_PX;
    }

    // Pages grow with the width of the box; what is in view stays.
    onWidth(before) {
      const { list } = this;
      const scale = (list.width - 48) / Math.max(1, before - 48);
      const index = list.at(list.top);
      const share = (list.top - list.offsets[index]) / list.heights[index];
      list.reset(list.heights.map((height) => (height - GAP_PX) * scale + GAP_PX));
      this.box.scrollTop = (list.offsets[index] + share * list.heights[index]) * list.scale;
    }

    make(index) {
      const number = index + 1;
      const sheet = element("div", "source-sheet");
      sheet.dataset.words = `Drawing page ${number}`;
      sheet.style.aspectRatio = String(1 / (this.ratios.get(index) ?? this.ratio));
      const made = element("figure", index === 0 ? "source-page first" : "source-page", sheet);
      made.setAttribute("aria-label", `Page ${number} of ${this.facts.page_rows.length}`);
      made.leaving = new AbortController();
      made.timer = window.setTimeout(() => this.draw(made, sheet, index), WAIT_MS);
      return made;
    }

    async draw(made, sheet, index) {
      const width = Math.ceil(Math.max(300, this.box.clientWidth - 48) * Math.min(2, window.devicePixelRatio));
      const path = `pages/${index + 1}?width=${Math.min(4000, width)}`;
      try {
        const response = await fetch(this.address(path), { signal: made.leaving.signal });
        if (!response.headers.get("content-type")?.startsWith("image/png"))
          throw new Error((await response.json()).error ?? "The page was not drawn.");
        made.url = URL.createObjectURL(await response.blob());
        const picture = Object.assign(new Image(), { src: made.url, alt: `Page ${index + 1}`, draggable: false });
        await picture.decode();
        const ratio = picture.naturalHeight / picture.naturalWidth;
        this.ratios.set(index, ratio);
        if (this.ratios.size === 1) this.ratio = ratio;
        sheet.style.aspectRatio = String(1 / ratio);
        sheet.prepend(picture);
        sheet.classList.add("drawn");
      } catch (error) {
        if (error.name === "AbortError") return;
        sheet.replaceChildren(element("p", "source-fault", error.message));
        sheet.classList.add("failed");
      }
      this.paint(index);
    }

    drop(made) {
      window.clearTimeout(made.timer);
      made.leaving.abort();
      if (made.url) URL.revokeObjectURL(made.url);
    }

    // Where a passage stands on a page, asked once.
    async place(page, { start, end }) {
      const key = `${page}:${start}:${end}`;
      if (!this.boxes.has(key)) {
        const asked = this.get(`pages/${page}/boxes?start=${start}&end=${end}`);
        asked.catch(() => this.boxes.delete(key));
        this.boxes.set(key, asked);
      }
      return this.boxes.get(key);
    }

    // Marks passage and hit on a page that is in the document.
    async paint(index) {
      const sheet = this.list.shown.get(index)?.querySelector(".source-sheet");
      if (sheet === undefined || sheet === null) return;
      const marks = this.marks.filter((mark) => mark.page_start <= index + 1 && mark.page_end >= index + 1);
      const found = await Promise.all(
        marks.map(async (mark) => [mark, await this.place(index + 1, mark).catch(() => ({ boxes: [] }))]),
      );
      if (marks.some((mark) => !this.marks.includes(mark))) return;
      sheet.querySelectorAll(".source-box").forEach((old) => old.remove());
      for (const [{ kind }, { boxes }] of found)
        for (const [left, top, right, bottom] of boxes) {
          const box = element("div", `source-box ${kind}`);
          Object.assign(box.style, {
            left: `${left * 100}%`,
            top: `${top * 100}%`,
            width: `${(right - left) * 100}%`,
            height: `${(bottom - top) * 100}%`,
          });
          sheet.append(box);
        }
    }

    // Marks, and moves to the last mark. Returns what could not be placed, in words; "" where all was.
    async mark(marks, { move = true } = {}) {
      this.marks = marks;
      const target = marks.at(-1);
      for (const index of this.list.shown.keys()) this.paint(index);
      if (target === undefined) return "";
      if (move) this.showPage(target.page_start);
      const { moves } = this.list;
      const found = await this.place(target.page_start, target);
      // the user may have gone elsewhere in the meantime
      const isHere = this.marks === marks && this.list.moves === moves;
      if (move && isHere && found.boxes.length > 0) this.showPage(target.page_start, found.boxes[0][1]);
      if (found.boxes.length === 0)
        return "The passage cannot be placed on the page as it is drawn. “Text” shows it as it was read.";
      if (found.num_places > 1) return `The same words stand ${found.num_places} times on this page; all are marked.`;
      if (!found.is_whole) return "Only a part of the passage can be placed on this page; “Text” shows all of it.";
      return "";
    }

    showPage(page, fraction = null) {
      this.list.moved();
      const index = page - 1;
      const ratio = this.ratios.get(index) ?? this.ratio;
      const pixels = fraction === null ? 0 : fraction * Math.max(200, this.box.clientWidth - 48) * ratio;
      this.list.show(index, pixels, fraction === null ? 0.01 : 0.3);
      return Promise.resolve();
    }

    pageInView() {
      return this.list.at(this.list.top + this.box.clientHeight * 0.4) + 1;
    }
  }

  window.salaSourcePages = SourcePages;
})();
