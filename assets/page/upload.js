"use strict";
// Uploads: files and folders that are dropped anywhere on the page, or chosen, are sent to the program in batches.
(() => {
  const BATCH_BYTES = 8 << 20;
  const BATCH_FILES = 256;

  class Canceled extends Error {}

  const element = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };
  const count = (number) => number.toLocaleString("en-US");
  const files = (number) => `${count(number)} ${number === 1 ? "file" : "files"}`;
  const size = (bytes) => {
    const units = ["B", "KB", "MB", "GB", "TB"];
    let unit = 0;
    for (; bytes >= 999.5 && unit < units.length - 1; unit++) bytes /= 1000;
    return `${bytes.toFixed(unit > 2 ? 1 : 0)} ${units[unit]}`;
  };

  // The card that shows the progress of an upload.

  class Card {
    constructor(name) {
      this.name = name;
      this.phase = element("span", "phase");
      this.percent = element("span", "percent");
      this.bar = element("progress", "");
      this.facts = element("p", "progress-facts");
      this.button = element("button", "secondary", "Cancel");
      this.button.type = "button";
      this.root = element(
        "div",
        "progress",
        element("p", "progress-head", this.phase, this.percent),
        this.bar,
        this.facts,
        this.button,
      );
      this.root.setAttribute("role", "status");
      this.bar.setAttribute("aria-label", "Copied");
      document.querySelector("#upload").append(this.root);
    }

    onCancel(action) {
      this.button.onclick = action;
    }

    show(phase, facts, share) {
      this.phase.textContent = phase;
      this.facts.textContent = facts;
      this.percent.textContent = share === undefined ? "" : `${Math.floor(share * 100)}%`;
      if (share === undefined) this.bar.removeAttribute("value");
      else this.bar.value = share;
    }

    fail(words) {
      this.root.setAttribute("role", "alert");
      this.phase.textContent = `${this.name} could not be copied`;
      this.percent.textContent = "";
      this.facts.textContent = words;
      this.bar.remove();
      this.button.textContent = "Close";
      this.button.onclick = () => this.close();
    }

    close() {
      this.root.remove();
    }
  }

  // One upload: walk the files, list them, send those that are wanted, start the reading.

  async function call(method, path, body) {
    const options = { method, headers: { "Content-Type": "application/json" } };
    if (body !== undefined) options.body = JSON.stringify(body);
    const response = await fetch(`api/uploads${path}`, options).catch(() => {
      throw new Error("The program does not answer; is it still running?");
    });
    const answer = await response.json().catch(() => ({}));
    return { status: response.status, answer };
  }

  async function need(method, path, body) {
    const { status, answer } = await call(method, path, body);
    if (status >= 400) throw new Error(typeof answer.detail === "string" ? answer.detail : `It was refused (${status}).`);
    return answer;
  }

  const sessionId = () => document.querySelector("#session-id textarea, #session-id input")?.value ?? "";

  class Upload {
    constructor(name, look) {
      this.card = new Card(name);
      this.look = look;
      this.session = sessionId();
      this.id = null;
      this.request = null;
      this.isCanceled = false;
      this.card.onCancel(() => this.cancel());
      this.card.show("Waiting for the upload before it", "");
    }

    cancel() {
      this.isCanceled = true;
      this.request?.abort();
      this.discard();
      this.card.close();
    }

    discard() {
      if (this.id !== null) fetch(`api/uploads/${this.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
      this.id = null;
    }

    check() {
      if (this.isCanceled) throw new Canceled();
    }

    async run() {
      try {
        this.check();
        await this.steps();
        this.card.close();
      } catch (error) {
        this.discard();
        if (!this.isCanceled) this.card.fail(error.message);
      }
    }

    async steps() {
      const { card } = this;
      card.show(`Looking through ${card.name}`, "");
      this.found = new FoundFiles(await need("GET", ""));
      await this.look(this.found, (number) => {
        this.check();
        if (number % 100 === 0) card.show(`Looking through ${card.name}`, `${files(number)} found`);
      });
      this.check();
      const sizes = this.found.files.map(({ path, file }) => [path, file === null ? 1 : file.size]);
      const begun = await need("POST", "", {
        session: this.session,
        files: sizes,
        folders: [...this.found.folders],
        rules: this.found.ignores,
      });
      this.id = begun.upload;
      this.check();
      this.wanted = begun.wanted;
      this.unreadable = this.wanted.filter((index) => this.found.files[index].file === null);
      await this.send(this.wanted.filter((index) => this.found.files[index].file !== null));
      await this.read();
    }

    async send(indices) {
      const fileOf = (index) => this.found.files[index].file;
      this.bytes = indices.reduce((sum, index) => sum + fileOf(index).size, 0);
      this.sentBytes = this.sentFiles = 0;
      for (let first = 0; first < indices.length; ) {
        let last = first;
        let bytes = 0;
        do bytes += fileOf(indices[last++]).size;
        while (last < indices.length && last - first < BATCH_FILES && bytes + fileOf(indices[last]).size <= BATCH_BYTES);
        await this.sendBatch(indices.slice(first, last), true);
        this.sentBytes += bytes;
        first = last;
      }
    }

    async sendBatch(batch, mayRetry) {
      this.check();
      this.showSent(0);
      const parts = batch.map((index) => this.found.files[index].file);
      const head = JSON.stringify(batch.map((index, at) => [index, parts[at].size])) + "\n";
      if (await this.post(new Blob([head, ...parts]), head.length)) {
        this.sentFiles += batch.length;
        return;
      }
      this.check();
      if (!mayRetry) throw new Error("The connection to the program was lost; drop the files again.");
      const readable = [];
      for (const [at, index] of batch.entries()) {
        const isReadable = await parts[at].slice(0, 1).arrayBuffer().then(() => true, () => false);
        (isReadable ? readable : this.unreadable).push(index);
      }
      if (readable.length > 0) await this.sendBatch(readable, false);
    }

    // True when the batch has arrived; false if the connection broke or a file could not be opened.
    post(body, headBytes) {
      return new Promise((resolve, reject) => {
        const request = (this.request = new XMLHttpRequest());
        request.open("POST", `api/uploads/${this.id}/files`);
        request.upload.onprogress = (event) => this.showSent(Math.max(0, event.loaded - headBytes));
        request.onerror = request.onabort = () => resolve(false);
        request.onload = () => {
          if (request.status < 400) return resolve(true);
          let words = `It was refused (${request.status}).`;
          try {
            words = JSON.parse(request.responseText).detail ?? words;
          } catch {
            // not an answer of the program: the status is all that is known
          }
          reject(new Error(words));
        };
        request.send(body);
      });
    }

    showSent(bytes) {
      const sent = Math.min(this.sentBytes + bytes, this.bytes);
      const left = this.found.files.length - this.wanted.length;
      const facts = [
        `${count(this.sentFiles)} of ${files(this.wanted.length)}`,
        `${size(sent)} of ${size(this.bytes)}`,
      ];
      if (left > 0) facts.push(`${count(left)} left out`);
      this.card.show(`Copying ${this.card.name}`, facts.join(" · "), this.bytes > 0 ? sent / this.bytes : 1);
    }

    async read() {
      const { plan } = await need("POST", `/${this.id}/read`, { unreadable: this.unreadable });
      this.id = null;
      window.salaPlan.open(plan);
    }
  }

  const running = new Set();
  let queue = Promise.resolve();
  function start(name, look) {
    const upload = new Upload(name, look);
    running.add(upload);
    queue = queue.then(() => upload.run()).finally(() => running.delete(upload));
  }

  window.addEventListener("beforeunload", (event) => {
    if (running.size > 0) event.preventDefault();
  });
  window.addEventListener("pagehide", () => running.forEach((upload) => upload.discard()));

  // Drag and drop, anywhere on the page.

  const nameOf = (names) => (names.length === 1 ? names[0] : files(names.length));
  const holdsFiles = (event) => event.dataTransfer !== null && event.dataTransfer.types.includes("Files");
  function mark(isOver) {
    document.querySelector("#drop")?.classList.toggle("dragging", isOver);
  }

  function onDrag(type, action) {
    document.addEventListener(
      type,
      (event) => {
        if (!holdsFiles(event)) return;
        event.preventDefault();
        event.stopPropagation();
        action(event);
      },
      true,
    );
  }
  onDrag("dragenter", () => mark(true));
  onDrag("dragleave", (event) => mark(event.relatedTarget !== null));
  onDrag("dragover", (event) => {
    event.dataTransfer.dropEffect = "copy";
  });
  onDrag("drop", (event) => {
    mark(false);
    const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const dropped = items.map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
    const names = dropped.map(({ entry, file }) => entry?.name ?? file?.name).filter((name) => name !== undefined);
    if (names.length === 0) return;
    start(nameOf(names), async (found, progress) => {
      for (const { entry, file } of dropped) {
        if (entry) await found.addEntry(entry, entry.name, progress);
        else if (file) await found.add(file.name, file);
      }
    });
  });

  // File choosers.

  function chooser(id, label, settings) {
    const input = Object.assign(document.createElement("input"), { type: "file", id, hidden: true, multiple: true });
    Object.assign(input, settings);
    input.setAttribute("aria-label", label);
    input.addEventListener("change", () => {
      const chosen = [...input.files];
      input.value = "";
      if (chosen.length === 0) return;
      const names = chosen.map((file) => (file.webkitRelativePath || file.name).split("/")[0]);
      start(nameOf([...new Set(names)]), (found) => found.addChosen(chosen));
    });
    document.body.append(input);
    return input;
  }

  const chosenFiles = chooser("chosen-files", "Files to read", {});
  const chosenFolder = chooser("chosen-folder", "Folder to read", { webkitdirectory: true });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#drop")) chosenFiles.click();
    else if (event.target.closest?.("#choose-folder")) chosenFolder.click();
  });
})();
