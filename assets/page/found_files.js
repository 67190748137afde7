"use strict";
// The files of one drop or choice: their paths, the folders that are never read, and the texts of ignore files.
const FoundFiles = (() => {
  const MAX_RULES_BYTES = 1 << 20;
  const EXCLUDE = ".git/info/exclude";

  return class FoundFiles {
    constructor(rules) {
      this.rules = rules;
      this.files = [];
      this.folders = new Set();
      this.ignores = [];
    }

    refuses(name) {
      return this.rules.folders.includes(name) || this.rules.suffixes.some((suffix) => name.endsWith(suffix));
    }

    async add(path, file) {
      if (this.files.length >= this.rules.max_entries)
        throw new Error(`More than ${this.rules.max_entries.toLocaleString("en-US")} files: type the folder’s path instead.`);
      this.files.push({ path, file });
      if (path.endsWith("/.gitignore")) await this.addRules(path, file);
    }

    async addRules(path, file) {
      if (file !== null && file.size <= MAX_RULES_BYTES)
        await file.text().then((text) => this.ignores.push([path, text]), () => {});
    }

    // Walks a dropped folder, except folders that are never read. `top`: this entry itself was dropped.
    async addEntry(entry, path, progress, top = true) {
      progress(this.files.length);
      if (entry.isFile) {
        const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
        return this.add(path, file);
      }
      if (!top && this.refuses(entry.name)) return this.skipEntry(entry, path);
      const reader = entry.createReader();
      let entries = [];
      for (let more = null; more === null || more.length > 0; entries = entries.concat(more))
        more = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
      const marked = top ? [] : entries.filter((one) => this.rules.marks.includes(one.name));
      if (marked.length > 0) entries = marked.slice(0, 1);
      if (entries.length === 0) this.folders.add(path);
      for (const one of entries) await this.addEntry(one, `${path}/${one.name}`, progress, false);
    }

    async skipEntry(entry, path) {
      this.folders.add(path);
      if (entry.name !== ".git") return;
      const file = await new Promise((resolve) =>
        entry.getFile("info/exclude", {}, (found) => found.file(resolve, () => resolve(null)), () => resolve(null)),
      );
      await this.addRules(`${path}/info/exclude`, file);
    }

    // Adds a chosen folder, which arrives as a flat list of all its files.
    async addChosen(chosen) {
      const paths = chosen.map((file) => file.webkitRelativePath || file.name);
      const marks = new Map();
      for (const path of paths) {
        const cut = path.lastIndexOf("/");
        const folder = path.slice(0, cut);
        if (folder.includes("/") && this.rules.marks.includes(path.slice(cut + 1)) && !marks.has(folder))
          marks.set(folder, path);
      }
      for (const [index, path] of paths.entries()) {
        const names = path.split("/").slice(0, -1);
        const prefixes = names.map((_, depth) => names.slice(0, depth + 1).join("/"));
        const refused = prefixes.find((_, depth) => depth > 0 && this.refuses(names[depth]));
        const marked = prefixes.find((prefix) => marks.has(prefix));
        if (refused !== undefined) {
          this.folders.add(refused);
          if (path === `${refused.replace(/[^/]*$/, "")}${EXCLUDE}`) await this.addRules(path, chosen[index]);
        } else if (marked === undefined || marks.get(marked) === path) await this.add(path, chosen[index]);
      }
    }
  };
})();
