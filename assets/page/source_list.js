"use strict";
// A list of any length in a scrolling box: only what is in view, and a little around it, is in the document. Heights are
// estimated until an item was shown; what is in view stays where it is while others find their height.
(() => {
  const MARGIN_PX = 600;
  const MOVING = ["wheel", "touchmove", "pointerdown", "keydown"];
  const MAX_PX = 8e6; // browsers cannot scroll through much more; a longer list moves faster than the bar

  class SourceList {
    // make(index): the element of an item. drop(index, element): it has left the view. onScroll: the view has moved.
    // onWidth(before): the box has another width, so that all heights change.
    constructor(box, { make, drop, onScroll, onWidth }) {
      Object.assign(this, { box, make, drop, onScroll, onWidth });
      this.sizer = Object.assign(document.createElement("div"), { className: "source-sizer" });
      box.replaceChildren(this.sizer);
      this.shown = new Map();
      this.heights = new Float64Array(0);
      this.offsets = new Float64Array(1);
      this.sizes = new ResizeObserver(() => this.measure());
      this.scrolled = () => {
        this.render();
        this.onScroll();
      };
      box.addEventListener("scroll", this.scrolled, { passive: true });
      this.moves = 0; // counts what moves the view on purpose, so that a late answer does not move it back
      this.moved = () => (this.moves += 1);
      for (const name of MOVING) box.addEventListener(name, this.moved, { passive: true });
      this.width = box.clientWidth;
      this.boxSize = new ResizeObserver(() => this.resized());
      this.boxSize.observe(box);
    }

    // Another list may have the box from now on: nothing that comes late may move it.
    end() {
      this.isOver = true;
      this.box.removeEventListener("scroll", this.scrolled);
      for (const name of MOVING) this.box.removeEventListener(name, this.moved);
      this.boxSize.disconnect();
      this.sizes.disconnect();
      for (const [index, element] of this.shown) this.drop(index, element);
      this.shown.clear();
      this.sizer.remove();
    }

    resized() {
      const before = this.width;
      this.width = this.box.clientWidth;
      if (this.width !== before && this.width > 0 && before > 0) this.onWidth(before);
      this.render();
    }

    reset(heights) {
      this.heights = Float64Array.from(heights);
      this.addUp();
      this.render();
    }

    addUp() {
      const offsets = new Float64Array(this.heights.length + 1);
      for (let index = 0; index < this.heights.length; index += 1) offsets[index + 1] = offsets[index] + this.heights[index];
      this.offsets = offsets;
      const total = offsets[this.heights.length];
      this.scale = Math.min(1, MAX_PX / Math.max(1, total));
      this.sizer.style.height = `${total * this.scale}px`;
    }

    get top() {
      return this.box.scrollTop / this.scale;
    }

    // The item at a height of the list.
    at(height) {
      let [low, high] = [0, Math.max(0, this.heights.length - 1)];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (this.offsets[middle] <= height) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    render() {
      if (this.isOver || this.heights.length === 0 || this.box.clientHeight === 0) return;
      const { top } = this;
      const first = this.at(top - MARGIN_PX);
      const last = this.at(top + this.box.clientHeight + MARGIN_PX);
      for (const [index, element] of this.shown) {
        if (index >= first && index <= last) continue;
        this.sizes.unobserve(element);
        this.shown.delete(index);
        element.remove();
        this.drop(index, element);
      }
      for (let index = first; index <= last; index += 1) {
        if (this.shown.has(index)) continue;
        const element = this.make(index);
        this.shown.set(index, element);
        const next = [...this.shown.keys()].filter((other) => other > index).sort((a, b) => a - b)[0];
        this.sizer.insertBefore(element, next === undefined ? null : this.shown.get(next));
        this.sizes.observe(element);
      }
      for (const [index, element] of this.shown)
        element.style.transform = `translateY(${this.box.scrollTop + this.offsets[index] - top}px)`;
    }

    measure() {
      if (this.isOver || this.box.clientHeight === 0) return;
      const { top } = this;
      const anchor = this.at(top);
      let moved = 0;
      let isChanged = false;
      for (const [index, element] of this.shown) {
        const height = element.offsetHeight;
        const change = height - this.heights[index];
        if (height === 0 || Math.abs(change) < 0.5) continue;
        isChanged = true;
        if (index < anchor) moved += change;
        this.heights[index] = height;
      }
      if (!isChanged) return;
      this.addUp();
      if (moved !== 0) this.box.scrollTop = (top + moved) * this.scale;
      this.render();
    }

    // Moves the view so that a place of an item, in pixels from its top, is near the upper third.
    show(index, pixels = 0, share = 0.3) {
      if (this.isOver) return;
      this.measure();
      this.box.scrollTop = Math.max(0, (this.offsets[index] + pixels - this.box.clientHeight * share) * this.scale);
      this.render();
    }
  }

  window.salaSourceList = SourceList;
})();
