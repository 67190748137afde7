"use strict";
// "Source": the document behind a passage, beside the conversation. Quotation marks, places of evidence, cells of the
// attention map and the list of sources open it; it never leaves the session.
(() => {
  const SEARCH_MS = 200;
  const SESSION = "#session-id :is(textarea, input)";
  const sessionId = () => document.querySelector(SESSION)?.value ?? "";

  async function fetchJson(path, options = {}) {
    const response = await fetch(`api/sources/${path}`, { cache: "no-store", ...options }).catch(() => null);
    if (response === null) throw new Error("The program does not answer.");
    const found = await response.json().catch(() => ({}));
    if (!response.ok || found.error) throw new Error(found.error ?? `The program refused this (${response.status}).`);
    return found;
  }

  const turns = new Map();
  function fetchTurn(session, message) {
    const path = `turns/${encodeURIComponent(session)}/${encodeURIComponent(message)}`;
    if (!turns.has(path)) {
      const asked = fetchJson(path);
      asked.catch(() => turns.delete(path));
      turns.set(path, asked);
    }
    return turns.get(path);
  }

  // The panel. `parts` are its controls; `now` is what it shows.

  let parts = null;
  let now = null;
  let view = null;
  let wantsText = false; // the user has chosen "Text" for documents that have pages
  let home = null; // the session of what is shown or on its way
  let opened = 0; // counts what was opened, so that a late answer to an earlier click changes nothing
  let typed = 0; // what was open or on its way when words to search for were typed last
  let pause = 0; // the timer that waits for the end of typing
  let asked = null; // what was asked for last, also while it is on its way
  let before = null;

  function build(place) {
    parts = window.salaSourceControls();
    place.append(parts.section);
    connect();
    clear();
  }

  function connect() {
    parts.close.addEventListener("click", close);
    parts.previous.addEventListener("click", () => step(-1));
    parts.next.addEventListener("click", () => step(1));
    parts.back.addEventListener("click", () => turnPage(-1));
    parts.forward.addEventListener("click", () => turnPage(1));
    parts.pages.addEventListener("click", () => choose(false));
    parts.text.addEventListener("click", () => choose(true));
    parts.headings.addEventListener("change", () => goToHeading());
    parts.earlier.addEventListener("click", () => goToHit(-1));
    parts.later.addEventListener("click", () => goToHit(1));
    parts.open.addEventListener("click", openOriginal);
    parts.search.addEventListener("input", () => {
      typed = opened;
      window.clearTimeout(pause);
      pause = window.setTimeout(search, SEARCH_MS);
    });
    parts.search.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (now?.query === parts.search.value.trim()) goToHit(event.shiftKey ? -1 : 1);
      else search();
    });
    parts.section.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      if (event.target === parts.search && parts.search.value !== "") {
        parts.search.value = "";
        search();
      } else close();
    });
  }

  // The panel is built once its place is there, and cleared when another session is open.
  function ready() {
    const place = document.getElementById("source");
    if (place !== null && (parts === null || !parts.section.isConnected)) build(place);
    if (home !== null && home !== sessionId()) clear();
  }

  function clear() {
    opened += 1;
    home = null;
    parts.section.removeAttribute("aria-busy");
    forget();
    parts.search.value = "";
    parts.section.classList.add("empty");
    parts.note.textContent = "Open a quotation, a place of evidence or a source: it is shown here.";
  }

  // Nothing is shown, and no control acts on what was.
  function forget() {
    view?.end();
    view = now = null;
    for (const words of [parts.name, parts.where, parts.page, parts.hits]) words.textContent = "";
    for (const control of [parts.evidence, parts.choice, parts.headings, parts.open, parts.found]) control.hidden = true;
    parts.back.disabled = parts.forward.disabled = true;
    parts.map.replaceChildren();
  }

  function close() {
    const back = before;
    clear();
    window.salaLayout?.show(back?.panel ?? "evidence");
    if (back?.focus?.isConnected) back.focus.focus();
  }

  // What is asked for: {message, key} a place of an answer; {message, cell} a cell of its map; {document} a source.
  async function open(wanted) {
    ready();
    if (parts === null) return;
    const number = (opened += 1);
    asked = wanted;
    const session = (home = sessionId());
    const panel = window.salaLayout?.shown?.() ?? "evidence";
    if (panel !== "source") before = { panel, focus: document.activeElement };
    window.salaLayout?.show("source");
    parts.section.classList.remove("empty");
    parts.section.setAttribute("aria-busy", "true");
    try {
      const turn = wanted.message ? await fetchTurn(session, wanted.message) : null;
      const place = turn?.places.find(({ key }) => key === wanted.key) ?? null;
      const id = place?.document_id ?? wanted.cell?.document_id ?? wanted.document;
      const [facts, found] = await Promise.all([factsOf(session, id), spanOf(session, wanted, place)]);
      if (number !== opened) return;
      await show({ session, wanted, turn, place, facts, span: found.span, cell: found.cell ?? null });
      if (!parts.section.contains(document.activeElement)) parts.body.focus({ preventScroll: true });
    } catch (error) {
      if (number === opened) fail(error);
    } finally {
      if (number === opened) parts.section.removeAttribute("aria-busy");
    }
  }

  const factsOf = (session, id) =>
    now !== null && now.session === session && now.facts.id === id
      ? now.facts
      : fetchJson(`documents/${encodeURIComponent(id)}?session=${encodeURIComponent(session)}`);

  function spanOf(session, wanted, place) {
    const [message, document] = [wanted.message, wanted.cell?.document_id].map((one) => encodeURIComponent(one ?? ""));
    if (place !== null) return fetchJson(`turns/${encodeURIComponent(session)}/${message}/places/${place.key}`);
    if (wanted.cell) return fetchJson(`documents/${document}/tokens/${wanted.cell.token}`);
    return { span: null };
  }

  function fail(error) {
    forget();
    parts.note.textContent = error.message;
  }

  async function show(next) {
    const isSame = now !== null && view !== null && now.facts === next.facts;
    const { query, hits, total } = isSame ? now : { query: "", hits: [], total: 0 };
    now = { ...next, query, hits, total, hit: -1 };
    const { facts, place } = now;
    parts.name.textContent = facts.name;
    parts.name.title = facts.name;
    parts.where.textContent = whereWords();
    parts.body.setAttribute("aria-label", `Text of ${facts.name}`);
    parts.choice.hidden = !facts.has_pictures;
    parts.open.hidden = !facts.can_open;
    parts.evidence.hidden = now.turn === null;
    if (now.turn !== null) {
      const at = now.turn.places.indexOf(place);
      parts.count.textContent = place === null ? "Evidence" : `${kindOf(place)} ${place.rank} of ${numOf(place.kind)}`;
      parts.previous.disabled = at <= 0;
      parts.next.disabled = at === now.turn.places.length - 1;
    }
    drawMap();
    listHeadings();
    if (!isSame) {
      if (typed !== opened) parts.search.value = "";
      makeView();
    }
    showHits();
    await mark();
    if (now?.wanted === next.wanted && parts.search.value.trim() !== now.query) await search();
  }

  const kindOf = ({ kind }) => (kind === "quotation" ? "Quotation" : "Evidence");
  const numOf = (wanted) => now.turn.places.filter(({ kind }) => kind === wanted).length;

  function whereWords() {
    const { place, wanted, facts } = now;
    if (place !== null) return place.kind === "quotation" ? `Word for word, ${place.where}` : place.where;
    if (wanted.cell) return wanted.cell.where;
    const { length } = facts.page_rows;
    return length > 0 ? counted(length, facts.page_word) : counted(facts.num_lines, "line");
  }

  const counted = (number, noun, ending = "s") => `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : ending}`;

  function drawMap() {
    parts.map.replaceChildren();
    if (now.turn === null || now.turn.map === null) return;
    const { message } = now.wanted;
    const current = now.cell ?? (now.wanted.cell ? now.turn.map.indexOf(now.wanted.cell) : null);
    const options = { current, isBrief: true, open: (cell) => open({ message, cell }) };
    parts.map.append(window.salaAttentionMap(now.turn.map, options));
  }

  function listHeadings() {
    const { headings } = now.facts;
    parts.headings.hidden = headings.length < 2;
    if (parts.headings.facts === now.facts) return;
    parts.headings.facts = now.facts;
    parts.headings.replaceChildren(
      new Option("Contents", ""),
      ...headings.map(([row, level, words]) => new Option(`${"\u2003".repeat(level - 1)}${words}`, String(row))),
    );
  }

  function goToHeading() {
    const row = parts.headings.value;
    parts.headings.value = "";
    if (row === "" || now === null) return;
    if (!(view instanceof window.salaSourceText)) choose(true, { move: false });
    view.showRow(Number(row), 0.02);
  }

  function makeView() {
    view?.end();
    const { facts, session } = now;
    const address = (path) => `documents/${encodeURIComponent(facts.id)}/${path}`;
    const query = `session=${encodeURIComponent(session)}`;
    const withSession = (path) => `${address(path)}${path.includes("?") ? "&" : "?"}${query}`;
    const isText = wantsText || !facts.has_pictures;
    parts.text.setAttribute("aria-pressed", String(isText));
    parts.pages.setAttribute("aria-pressed", String(!isText));
    const get = (path) => fetchJson(withSession(path));
    view = isText
      ? new window.salaSourceText(parts.body, facts, (path) => fetchJson(address(path)), follow)
      : new window.salaSourcePages(parts.body, facts, get, (path) => `api/sources/${withSession(path)}`, follow);
    parts.body.scrollTop = 0;
    follow();
  }

  async function choose(text, { move = true } = {}) {
    if (now === null) return;
    const page = view?.pageInView() ?? 1;
    wantsText = text;
    makeView();
    if (now.span === null && now.hit < 0) {
      if (move && now.facts.page_rows.length > 0) await view.showPage(page);
    } else await mark({ move });
  }

  // Marks the passage and the hit of the search, and moves to the one chosen last.
  async function mark({ move = true } = {}) {
    const shown = now;
    const marks = shown.span === null ? [] : [{ ...shown.span, kind: "passage" }];
    if (shown.hit >= 0) marks.push({ ...shown.hits[shown.hit], kind: "hit" });
    let note = shown.facts.note;
    if (shown.place !== null && shown.span === null)
      note = "This passage cannot be placed in the text as it is stored, so nothing is marked.";
    parts.note.textContent = note;
    try {
      const unplaced = await view.mark(marks, { move });
      if (now === shown && unplaced) parts.note.textContent = unplaced;
    } catch (error) {
      if (now === shown) parts.note.textContent = error.message;
    }
    follow();
  }

  function step(by) {
    const { places } = now.turn;
    const at = places.findIndex(({ key }) => key === asked.key) + by;
    if (at >= 0 && at < places.length) open({ message: now.wanted.message, key: places[at].key });
  }

  // The page that is in view.
  function follow() {
    if (now === null || view === null) return;
    const { length } = now.facts.page_rows;
    if (length === 0) {
      parts.page.textContent = "";
      parts.back.disabled = parts.forward.disabled = false;
      return;
    }
    const page = Math.max(1, view.pageInView());
    parts.page.textContent = `${page} of ${length}`;
    parts.back.disabled = page <= 1;
    parts.forward.disabled = page >= length;
  }

  function turnPage(by) {
    if (view === null) return;
    const { length } = now.facts.page_rows;
    if (length === 0) view.turn(by);
    else view.showPage(Math.max(1, Math.min(length, view.pageInView() + by)));
  }

  async function search() {
    window.clearTimeout(pause);
    const shown = now;
    if (shown === null) return;
    const query = parts.search.value.trim();
    Object.assign(shown, { query, hits: [], hit: -1, total: 0 });
    if (query !== "") {
      const path = `documents/${encodeURIComponent(shown.facts.id)}/search?query=${encodeURIComponent(query.slice(0, 200))}`;
      const found = await fetchJson(path).catch((error) => ({ error: error.message }));
      if (now !== shown || parts.search.value.trim() !== query) return;
      if (found.error) {
        shown.query = null; // so that "Enter" asks again
        showHits();
        parts.note.textContent = found.error;
        return;
      }
      Object.assign(shown, found);
      const page = view.pageInView?.() ?? 0;
      const row = view.rowInView?.() ?? shown.facts.page_rows[page - 1] ?? 0;
      shown.hit = shown.hits.findIndex((hit) => hit.row_start >= row);
      if (shown.hit < 0 && shown.hits.length > 0) shown.hit = 0;
    }
    showHits();
    await mark({ move: shown.hit >= 0 });
  }

  function showHits() {
    const { hits, hit, total } = now;
    const isAsked = now.query !== "" && parts.search.value.trim() === now.query;
    const place = `${(hit + 1).toLocaleString("en-US")} of ${total.toLocaleString("en-US")}`;
    const words = hits.length === 0 ? "none" : hit < 0 ? counted(total, "match", "es") : place;
    parts.hits.textContent = isAsked ? words : "";
    parts.found.hidden = !isAsked;
    parts.earlier.disabled = parts.later.disabled = hits.length < (hit < 0 ? 1 : 2);
  }

  function goToHit(by) {
    if (now === null || now.hits.length === 0) return;
    const at = now.hit < 0 && by < 0 ? now.hits.length : now.hit;
    now.hit = (at + by + now.hits.length) % now.hits.length;
    showHits();
    mark();
  }

  async function openOriginal() {
    const path = `documents/${encodeURIComponent(now.facts.id)}/open?session=${encodeURIComponent(now.session)}`;
    try {
      parts.note.textContent = (await fetchJson(path, { method: "POST" })).done;
    } catch (error) {
      parts.note.textContent = error.message;
    }
  }

  window.salaSource = { open, close, ready, fetchTurn, sessionId };
})();
