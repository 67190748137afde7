"use strict";
// The text of a document as it was read, in blocks of rows that are fetched when they come into view. All words become
// text nodes: nothing of a document is ever parsed as HTML.
(() => {
  const BLOCK_ROWS = 80;
  const ROW_PX = { code: 20, table: 20, prose: 25 };
  const MAX_BLOCKS = 60; // kept in memory

  const element = (name, className, ...children) => {
    const made = Object.assign(document.createElement(name), { className });
    made.append(...children);
    return made;
  };

  class SourceText {
    // facts: of the document, from the program. get: fetches JSON below the document's address.
    constructor(box, facts, get, onScroll) {
      Object.assign(this, { box, facts, get });
      this.blocks = new Map();
      this.marks = [];
      this.pageRows = new Map(facts.page_rows.map((row, index) => [row, index + 1]));
      this.numBlocks = Math.max(1, Math.ceil(facts.num_rows / BLOCK_ROWS));
      this.kept = { row: 0, share: 0 }; // the row that stays where it is when the width changes
      this.list = new window.salaSourceList(box, {
        make: (index) => this.make(index),
        drop: () => {},
        onScroll: () => {
          if (this.list.moves !== this.kept.move) this.kept = { row: this.rowInView(), share: 0 };
          onScroll();
        },
        onWidth: () => this.showRow(this.kept.row, this.kept.share),
      });
      box.dataset.layout = facts.layout;
      box.toggleAttribute("data-numbered", facts.page_rows.length === 0 || facts.page_word === "sheet");
      const perRow = Math.max(ROW_PX[facts.layout], this.guess());
      this.list.reset(Array.from({ length: this.numBlocks }, (_, index) => perRow * this.rowsIn(index)));
    }

    end() {
      this.list.end();
      delete this.box.dataset.layout;
    }

    rowsIn(block) {
      return Math.min(BLOCK_ROWS, this.facts.num_rows - block * BLOCK_ROWS);
    }

    // Height of a mean row, in pixels: long lines are wrapped.
    guess() {
      const perLine = Math.max(20, this.box.clientWidth / 8);
      const chars = this.facts.num_chars / Math.max(1, this.facts.num_rows);
      return Math.ceil(chars / perLine) * ROW_PX[this.facts.layout];
    }

    make(index) {
      const made = element("div", index === 0 ? "source-block first" : "source-block");
      made.style.minHeight = `${this.list.heights[index]}px`;
      const ready = this.rows(index).then((rows) => {
        made.style.minHeight = "";
        made.replaceChildren(...rows.flatMap((row, at) => this.row(row, index * BLOCK_ROWS + at)));
      });
      made.ready = ready.catch((error) => made.replaceChildren(element("p", "source-fault", error.message)));
      return made;
    }

    rows(index) {
      if (!this.blocks.has(index)) {
        if (this.blocks.size >= MAX_BLOCKS) this.blocks.delete(this.blocks.keys().next().value);
        const asked = this.get(`rows?first=${index * BLOCK_ROWS}&count=${BLOCK_ROWS}`).then(({ rows }) => rows);
        asked.catch(() => this.blocks.delete(index));
        this.blocks.set(index, asked);
      }
      return this.blocks.get(index);
    }

    row({ line, start, level, runs }, number) {
      const made = element("div", level ? `source-row heading level-${level}` : "source-row");
      made.dataset.row = number;
      made.append(element("span", "source-number", line === 0 ? "" : String(line)));
      const words = element(level || this.facts.layout === "prose" ? "span" : "code", "source-words");
      let at = start;
      runs.forEach(([name, text], index) => {
        const hidden = level && index === 0 ? level + 1 : 0; // "## " before a heading
        words.append(...this.marked(name, text.slice(hidden), at + hidden));
        at += [...text].length;
      });
      if (words.textContent === "") words.append("\u00a0");
      const [passage, hit] = ["passage", "hit"].map((kind) => this.touches(kind, start, at));
      if (passage) made.classList.add("in-passage");
      if (hit) made.classList.add("has-hit");
      if (level) {
        words.setAttribute("role", "heading");
        words.setAttribute("aria-level", String(Math.min(6, level + 2)));
      }
      made.append(words);
      const page = this.pageRows.get(number);
      return page === undefined ? [made] : [element("div", "source-page-mark", `${this.facts.page_word} ${page}`), made];
    }

    touches(kind, start, end) {
      return this.marks.some((mark) => mark.kind === kind && mark.start < Math.max(end, start + 1) && mark.end > start);
    }

    // A run of text, cut where marks begin and end. Places count characters, not UTF-16 units.
    marked(name, text, start) {
      const chars = [...text];
      const end = start + chars.length;
      const cuts = new Set([start, end]);
      for (const mark of this.marks)
        for (const cut of [mark.start, mark.end]) if (cut > start && cut < end) cuts.add(cut);
      const ends = [...cuts].sort((a, b) => a - b);
      return ends.slice(0, -1).map((from, index) => {
        const to = ends[index + 1];
        const kinds = this.marks.filter((mark) => mark.start < to && mark.end > from).map(({ kind }) => kind);
        const part = chars.slice(from - start, to - start).join("");
        if (kinds.length > 0) return element("mark", `${name} ${kinds.join(" ")}`.trim(), part);
        return name === "" ? document.createTextNode(part) : element("span", name, part);
      });
    }

    // marks: {kind: "passage" or "hit", start, end, row_start}. Moves to the last one.
    async mark(marks, { move = true } = {}) {
      this.marks = marks;
      for (const index of this.list.shown.keys()) this.refill(index);
      const target = marks.at(-1);
      if (move && target !== undefined) await this.showRow(target.row_start);
    }

    refill(index) {
      const old = this.list.shown.get(index);
      this.rows(index)
        .then((rows) => old.replaceChildren(...rows.flatMap((row, at) => this.row(row, index * BLOCK_ROWS + at))))
        .catch(() => {});
    }

    async showRow(row, share = 0.3) {
      const block = Math.floor(row / BLOCK_ROWS);
      const move = this.list.moved();
      this.kept = { row, share, move };
      this.list.show(block, 0, 0);
      const made = this.list.shown.get(block);
      if (made === undefined) return;
      await made.ready;
      if (this.list.moves !== move) return;
      const found = made.querySelector(`[data-row="${row}"]`);
      this.list.show(block, found?.offsetTop ?? 0, share);
    }

    // The first row in view.
    rowInView() {
      const top = this.list.top;
      const index = this.list.at(top);
      const within = top - this.list.offsets[index];
      const rows = [...(this.list.shown.get(index)?.querySelectorAll("[data-row]") ?? [])];
      const found = rows.find((row) => row.offsetTop + row.offsetHeight > within + 4);
      return found === undefined ? index * BLOCK_ROWS : Number(found.dataset.row);
    }

    pageInView() {
      const row = this.rowInView();
      return this.facts.page_rows.filter((first) => first <= row).length;
    }

    showPage(page) {
      return this.showRow(this.facts.page_rows[page - 1], 0.02);
    }

    turn(step) {
      this.list.moved();
      this.box.scrollBy({ top: step * this.box.clientHeight * 0.9 });
    }
  }

  window.salaSourceText = SourceText;
})();
