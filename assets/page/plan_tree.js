"use strict";
// The files of a plan as a tree with tick boxes, or as one list with the largest first. Folders tick all that is in them.
const PlanTree = (() => {
  const MAX_LARGEST = 200;
  const WANTED = ["new", "changed"];
  const COUNTED = [...WANTED, "removed"];
  const NOTES = {
    changed: "changed: takes the place of its earlier version",
    known: "read already",
    removed: "taken out of this session before",
  };

  const element = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };
  const count = (number) => number.toLocaleString("en-US");
  const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

  class Folder {
    constructor(name, path) {
      Object.assign(this, { name, path, folders: new Map(), files: [], isOpen: path === "", tokens: 0, number: 0 });
    }

    *every() {
      yield* this.files;
      for (const folder of this.folders.values()) yield* folder.every();
    }
  }

  return class PlanTree {
    // onChange: ticks have changed. onUnlock(file, password): the user gives a password.
    constructor({ onChange, onUnlock }) {
      Object.assign(this, { onChange, onUnlock, files: [], isLargestFirst: false, root: new Folder("", "") });
      this.box = element("div", "plan-tree");
      this.box.tabIndex = -1;
    }

    add(files) {
      for (const file of files) {
        file.isTicked = WANTED.includes(file.state);
        this.files.push(file);
        if (file.state === "skipped") continue;
        const names = file.name.split("/");
        let folder = this.root;
        for (const [depth, name] of names.slice(0, -1).entries()) {
          const path = names.slice(0, depth + 1).join("/");
          if (!folder.folders.has(name)) folder.folders.set(name, new Folder(name, path));
          folder = folder.folders.get(name);
          if (depth === 0) folder.isOpen = true;
        }
        folder.files.push(file);
      }
    }

    replace(file) {
      const old = this.files.find(({ name }) => name === file.name);
      Object.assign(old, file, { isTicked: WANTED.includes(file.state) });
    }

    get countable() {
      return this.files.filter(({ state }) => COUNTED.includes(state));
    }

    get chosen() {
      return this.countable.filter(({ isTicked }) => isTicked);
    }

    get leftOut() {
      return this.countable.filter(({ isTicked, made }) => !isTicked && !made).map(({ name }) => name);
    }

    get skipped() {
      return this.files.filter(({ state }) => state === "skipped");
    }

    // Shows the files as they are now. What had the focus keeps it.
    show() {
      const key = document.activeElement?.dataset?.key;
      const top = this.box.scrollTop;
      this.box.replaceChildren(this.isLargestFirst ? this.largest() : this.branch(this.root));
      this.box.scrollTop = top;
      if (key !== undefined) this.box.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
    }

    largest() {
      const files = [...this.countable].sort((one, other) => other.tokens - one.tokens);
      const list = element("ul", "plan-list", ...files.slice(0, MAX_LARGEST).map((file) => this.row(file, file.name)));
      const more = files.length - MAX_LARGEST;
      if (more > 0) list.append(element("li", "plan-more", `and ${plural(more, "smaller file")}`));
      return list;
    }

    branch(folder) {
      const list = element("ul", "plan-list");
      for (const file of folder.files) list.append(this.row(file, file.name.split("/").at(-1)));
      for (const inner of folder.folders.values()) list.append(this.folder(inner));
      return list;
    }

    folder(folder) {
      const files = [...folder.every()];
      const countable = files.filter(({ state }) => COUNTED.includes(state));
      const ticked = countable.filter(({ isTicked }) => isTicked);
      const opener = element("button", "plan-opener");
      opener.type = "button";
      opener.dataset.key = `open ${folder.path}`;
      opener.setAttribute("aria-expanded", String(folder.isOpen));
      opener.setAttribute("aria-label", `Files of ${folder.path}`);
      opener.addEventListener("click", () => {
        folder.isOpen = !folder.isOpen;
        this.show();
      });
      const box = this.tickBox(`folder ${folder.path}`, ticked.length > 0, countable.length === 0, (isOn) => {
        for (const file of countable) file.isTicked = isOn;
      });
      box.indeterminate = ticked.length > 0 && ticked.length < countable.length;
      const label = element("label", "", box, element("span", "plan-file", `${folder.name}/`));
      const tokens = ticked.reduce((sum, file) => sum + file.tokens, 0);
      const facts = `${plural(countable.length, "file")} · ${count(tokens)}`;
      const row = element("div", "plan-row", opener, label, element("span", "plan-tokens", facts));
      return element("li", "", row, ...(folder.isOpen ? [this.branch(folder)] : []));
    }

    row(file, name) {
      const isCounted = COUNTED.includes(file.state);
      const box = this.tickBox(`file ${file.name}`, file.isTicked, !isCounted || file.made, (isOn) => {
        file.isTicked = isOn;
      });
      const words = element("span", "plan-file", name);
      if (NOTES[file.state]) words.append(element("span", "plan-note", NOTES[file.state]));
      if (file.made) words.append(element("span", "plan-note", "a list of the files, written by the program"));
      const facts = file.state === "locked" ? "" : count(file.tokens);
      const row = element("div", "plan-row", element("label", "", box, words), element("span", "plan-tokens", facts));
      const item = element("li", `plan-is-${file.state}`, row);
      if (file.state === "locked") item.append(this.lock(file));
      return item;
    }

    tickBox(key, isTicked, isDisabled, set) {
      const box = element("input", "");
      Object.assign(box, { type: "checkbox", checked: isTicked, disabled: isDisabled });
      box.dataset.key = key;
      box.addEventListener("change", () => {
        set(box.checked);
        this.show();
        this.onChange();
      });
      return box;
    }

    lock(file) {
      const field = Object.assign(element("input", ""), { type: "password", autocomplete: "off", required: true });
      field.dataset.key = `password ${file.name}`;
      field.setAttribute("aria-label", "Password");
      field.placeholder = "Password";
      const button = Object.assign(element("button", "plan-button", "Open"), { type: "submit" });
      const form = element("form", "plan-lock", element("p", "plan-note", file.reason), field, button);
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        field.disabled = button.disabled = true;
        this.onUnlock(file, field.value);
      });
      return form;
    }
  };
})();
