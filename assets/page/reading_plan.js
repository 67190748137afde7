"use strict";
// "What will be read": the files of a drop, a path or an address, counted and chosen before anything is read.
// upload.js opens a plan by `window.salaPlan.open(id)`; the program does so with a hidden element `.plan-ID`.
(() => {
  const POLL_MS = 300;
  const FILES_SHOWN = 100;

  const element = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };
  const button = (words, className, action) => {
    const made = Object.assign(element("button", className, words), { type: "button" });
    made.addEventListener("click", action);
    return made;
  };
  const count = (number) => number.toLocaleString("en-US");
  const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
  const pause = (ms) => new Promise((resolve) => window.setTimeout(resolve, ms));

  async function call(method, path, body) {
    const options = { method, headers: { "Content-Type": "application/json" } };
    if (body !== undefined) options.body = JSON.stringify(body);
    const response = await fetch(`api/plans${path}`, options);
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? `It was refused (${response.status}).`);
    return answer;
  }

  // Shows the session that reads a plan in this window.
  function follow(session) {
    const box = document.querySelector("#upload-target textarea, #upload-target input");
    if (box === null) return;
    box.value = `${session}:${Date.now()}`;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  class Plan {
    constructor(id, isAsked) {
      Object.assign(this, { id, isAsked, isOwn: isAsked, isOver: false, seen: 0, isFinal: false, estimates: 0 });
      this.tree = new PlanTree({ onChange: () => this.chosen(), onUnlock: (...given) => this.unlock(...given) });
      this.buildCard();
    }

    // The card beside the sources: while nothing has to be decided, and after "Later".

    buildCard() {
      this.phase = element("span", "phase", "Counting");
      this.bar = element("progress", "");
      this.bar.setAttribute("aria-label", "Counted");
      this.openButton = button("What will be read", "secondary", () => this.show());
      this.openButton.hidden = true;
      const cancel = button("Cancel", "secondary", () => this.cancel());
      const buttons = element("p", "plan-card-buttons", this.openButton, cancel);
      this.card = element("div", "progress plan-card", element("p", "progress-head", this.phase), this.bar, buttons);
      this.card.setAttribute("role", "status");
      document.querySelector("#upload").append(this.card);
    }

    async follow() {
      try {
        while (!this.isOver) {
          const plan = await call("GET", `/${this.id}?since=${this.seen}`);
          if (this.isOver) return;
          if (plan.status === "gone") throw new Error(plan.error);
          this.take(plan);
          if (plan.status === "reading") return this.read(plan.session, this.isOwn);
          const isEstimated = this.isFinal || this.dialog === undefined; // nobody has asked what it takes
          const isWaiting = ["announced", "failed"].includes(plan.status) || (plan.status === "ready" && isEstimated);
          if (plan.status === "ready" && !isEstimated) await this.estimate();
          await pause(isWaiting ? 4 * POLL_MS : POLL_MS);
        }
      } catch (error) {
        if (!this.isOver) this.fail(error.message);
      }
    }

    take(plan) {
      this.plan = plan;
      this.seen = plan.since + plan.files.length;
      this.tree.add(plan.files);
      const isCounting = plan.status === "counting";
      this.phase.textContent = isCounting ? `Counting ${plan.name}` : `“${plan.name}” waits for you`;
      this.bar.hidden = !isCounting;
      if (plan.total > 0) Object.assign(this.bar, { max: plan.total, value: plan.done });
      if (!plan.needs_decision) return;
      this.openButton.hidden = false;
      if (this.isAsked && this.dialog === undefined) this.show();
      else if (this.dialog?.open) this.render(plan.files.length > 0);
    }

    // The dialog.

    show() {
      this.isAsked = true;
      if (document.querySelector("dialog.plan-dialog[open]") !== null) return;
      if (this.dialog === undefined) this.buildDialog();
      this.card.hidden = true;
      this.dialog.showModal();
      this.render(true);
      (this.readButton.disabled ? this.dialog.querySelector("h2") : this.readButton).focus();
      if (this.plan.status === "ready") this.chosen();
    }

    buildDialog() {
      const heading = Object.assign(element("h2", "", "What will be read"), { id: `plan-${this.id}`, tabIndex: -1 });
      this.name = element("p", "plan-name");
      this.total = element("p", "plan-total");
      this.facts = element("dl", "plan-facts");
      this.again = element("p", "plan-again");
      this.refusal = element("p", "plan-refusal");
      this.refusal.setAttribute("role", "alert");
      this.counting = element("p", "plan-counting");
      this.counting.setAttribute("role", "status");
      this.countingBar = element("progress", "");
      this.countingBar.setAttribute("aria-label", "Counted");
      this.largest = button("Largest first", "plan-button", () => {
        this.tree.isLargestFirst = !this.tree.isLargestFirst;
        this.largest.setAttribute("aria-pressed", String(this.tree.isLargestFirst));
        this.tree.show();
      });
      this.largest.setAttribute("aria-pressed", "false");
      this.tools = element("div", "plan-tools", element("span", "plan-tools-title", "Files"), this.largest);
      this.skipped = element("details", "plan-skipped");
      this.readButton = button("Read", "plan-button plan-read", () => this.start());
      const cancel = button("Cancel", "plan-button", () => this.cancel());
      const later = button("Later", "plan-button plan-later", () => this.dialog.close());
      this.dialog = element(
        "dialog",
        "plan-dialog",
        element("header", "", heading, this.name),
        element("div", "plan-summary", this.total, this.facts, this.again),
        this.refusal,
        element("div", "plan-progress", this.counting, this.countingBar),
        element("div", "plan-body", this.tools, this.tree.box, this.skipped),
        element("footer", "", later, cancel, this.readButton),
      );
      this.dialog.setAttribute("aria-labelledby", heading.id);
      this.dialog.addEventListener("keydown", (event) => event.stopPropagation());
      this.dialog.addEventListener("close", () => {
        this.card.hidden = false;
        if (!this.isOver) this.isAsked = false;
        waiting.find((plan) => plan !== this && plan.isAsked && !plan.isOver && plan.plan?.needs_decision)?.show();
      });
      document.body.append(this.dialog);
    }

    render(isChanged) {
      const { plan, tree } = this;
      this.name.textContent = plan.addresses.length > 0 && plan.files.length === 0 && this.seen === 0 ? "" : plan.name;
      const isAnnounced = plan.status === "announced";
      const isCounting = plan.status === "counting" || plan.status === "fetching";
      this.dialog.classList.toggle("plan-is-bare", isAnnounced || plan.status === "failed" || this.seen === 0);
      this.counting.textContent = this.words();
      this.counting.hidden = this.counting.textContent === "";
      this.countingBar.hidden = !isCounting;
      if (plan.total > 0 && isCounting) Object.assign(this.countingBar, { max: plan.total, value: plan.done });
      else this.countingBar.removeAttribute("value");
      if (plan.error !== "") this.refusal.textContent = plan.error;
      this.refusal.hidden = this.refusal.textContent === "";
      this.readButton.textContent = isAnnounced ? "Fetch" : "Read";
      if (isChanged) {
        tree.show();
        this.showTotal();
        this.showSkipped();
      }
      this.enable();
    }

    words() {
      const { plan } = this;
      if (plan.status === "announced") return `To be fetched from the network: ${plan.addresses.join(", ")}`;
      if (plan.status === "fetching") return plan.note || `Fetching ${plan.addresses.join(", ")}`;
      if (plan.status === "counting") return `Counting: ${plural(this.seen, "file")} so far`;
      if (plan.status === "ready" && this.tree.countable.length === 0) return this.nothing();
      return "";
    }

    nothing() {
      const isKnown = this.tree.files.some(({ state }) => state === "known");
      if (this.tree.files.some(({ state }) => state === "locked")) return "";
      return isKnown ? "Everything here is read already, and nothing has changed." : "Nothing here can be read.";
    }

    enable() {
      const { status } = this.plan;
      const isReady = status === "ready" && this.tree.chosen.some(({ made }) => !made) && this.refusal.hidden;
      this.readButton.disabled = !(isReady || status === "announced") || this.isBusy === true;
    }

    showTotal() {
      const { chosen } = this.tree;
      const files = chosen.filter(({ made }) => !made).length;
      const tokens = chosen.reduce((sum, file) => sum + file.tokens, 0);
      const words = [element("strong", "", count(tokens)), ` tokens in ${plural(files, "file")}`];
      this.total.replaceChildren(...(files === 0 ? ["Nothing is chosen."] : words));
    }

    showSkipped() {
      const { skipped } = this.tree;
      const gone = this.plan.gone.map((name) => ({ name, reason: "gone from its folder; its text stays" }));
      const rows = [...skipped, ...gone];
      this.skipped.hidden = rows.length === 0;
      const reasons = new Map(rows.map(({ reason }) => [reason, []]));
      for (const row of rows) reasons.get(row.reason).push(row);
      const list = element("ul", "");
      for (const [reason, files] of [...reasons].sort(([, one], [, other]) => other.length - one.length)) {
        const names = files.slice(0, FILES_SHOWN).map(({ name }) => name);
        if (files.length > names.length) names.push(`and ${count(files.length - names.length)} more`);
        const head = files.length === 1 ? reason : `${reason} (${count(files.length)})`;
        list.append(element("li", "", element("span", "plan-reason", head), element("span", "plan-names", names.join(", "))));
      }
      const title = element("summary", "", `${plural(rows.length, "file")} ${rows.length === 1 ? "is" : "are"} not read`);
      this.skipped.replaceChildren(title, list);
      if (this.tree.countable.length === 0) this.skipped.open = true;
    }

    // What is chosen has changed: count it up at once, and ask the program what it takes.
    chosen() {
      this.showTotal();
      this.enable();
      window.clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.estimate(), 150);
    }

    async estimate() {
      const number = (this.estimates += 1);
      const found = await call("POST", `/${this.id}/estimate`, { left_out: this.tree.leftOut });
      if (this.isOver || number !== this.estimates || this.dialog === undefined) return;
      this.isFinal = found.is_final;
      this.facts.replaceChildren(
        ...found.facts.map(([title, value, remark]) =>
          element("div", "", element("dt", "", title), element("dd", "", value, element("small", "", remark))),
        ),
      );
      this.again.textContent = found.again ?? "";
      this.again.hidden = this.again.textContent === "";
      this.refusal.textContent = found.refusal === "" ? "" : `This does not fit: ${found.refusal}`;
      this.refusal.hidden = found.refusal === "";
      this.enable();
    }

    async unlock(file, password) {
      try {
        this.tree.replace(await call("POST", `/${this.id}/password`, { name: file.name, password }));
        this.render(true);
        this.chosen();
      } catch (error) {
        this.showError(error.message);
      }
    }

    async start() {
      this.isBusy = true;
      this.enable();
      try {
        if (this.plan.status === "announced") await call("POST", `/${this.id}/fetch`);
        else this.read((await call("POST", `/${this.id}/read`, { left_out: this.tree.leftOut })).session);
      } catch (error) {
        this.showError(error.message);
      }
      this.isBusy = false;
      if (!this.isOver) this.enable();
    }

    // isShown: show the session in this window, because the plan was begun or decided here.
    read(session, isShown = true) {
      if (this.isOver) return;
      this.end();
      if (isShown) follow(session);
    }

    cancel() {
      fetch(`api/plans/${this.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
      this.end();
    }

    showError(words) {
      this.refusal.textContent = words;
      this.refusal.hidden = false;
      this.tree.show();
    }

    // The plan is gone: another window has decided, or the program was started again.
    fail(words) {
      this.end();
      const close = button("Close", "secondary", () => card.remove());
      const card = element("div", "progress plan-card", element("p", "progress-facts", words), close);
      card.setAttribute("role", "alert");
      document.querySelector("#upload")?.append(card);
    }

    end() {
      this.isOver = true;
      window.clearTimeout(this.timer);
      waiting.splice(waiting.indexOf(this), 1);
      this.dialog?.close();
      this.dialog?.remove();
      this.card.remove();
    }
  }

  const waiting = [];
  // isAsked: this window has begun it, so the dialog opens by itself as soon as something has to be decided.
  function open(id, isAsked = true) {
    if (waiting.some((plan) => plan.id === id)) return;
    const plan = new Plan(id, isAsked);
    waiting.push(plan);
    plan.follow();
  }
  window.salaPlan = { open };

  const taken = new Set();
  function takeCarried() {
    const carrier = document.querySelector("#plan .plan");
    const id = carrier === null ? undefined : [...carrier.classList].find((name) => name.startsWith("plan-"))?.slice(5);
    if (id === undefined || taken.has(id)) return;
    taken.add(id);
    open(id);
  }

  async function takeUndecided() {
    for (const { id } of await call("GET", "").catch(() => [])) open(id, false);
  }

  let isReady = false;
  new MutationObserver(() => {
    if (!isReady && document.querySelector("#upload") !== null) {
      isReady = true;
      takeUndecided();
    }
    takeCarried();
  }).observe(document.documentElement, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });
})();
