"""The report: one Markdown file that people read, with the same facts as JSON at its end."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sala_core.disk.files import READABLE_BY_ALL, write_file
from sala_core.doctor.private import is_published
from sala_core.doctor.records import STATUSES, Examination, Figure, Outcome

FORMAT = 1
"""Version of the JSON block."""

_MARKS = {"ok": "ok", "failed": "FAILED", "not possible here": "not possible here", "not run": "not run"}


def write_report(file: Path, examination: Examination, outcomes: Sequence[Outcome], head: dict[str, str]) -> None:
    """Write the report whole. Raises LibraryError, DiskFullError where the file cannot be written.

    Args:
        file: the report.
        examination: what was examined.
        outcomes: in the order of the checks, without private words.
        head: what stands in the first lines, by name: date, version, commit.
    """
    text = "\n".join(_lines(examination, outcomes, head)) + "\n"
    write_file(file, [memoryview(text.encode())], mode=READABLE_BY_ALL)


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many checks have each status: "9 ok, 1 failed"."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]) or "no check"


def _lines(examination: Examination, outcomes: Sequence[Outcome], head: dict[str, str]) -> Iterator[str]:
    yield "# Report of launch.py doctor"
    yield ""
    for name, value in {**head, **_asked(examination)}.items():
        yield f"- {name}: {value}"
    yield f"- result: {summary(outcomes)}"
    yield "- Paths, user names, host names and names of own models are replaced by words in angle brackets."
    yield from _failures(outcomes)
    yield from ("", "| check | result | seconds | remark |", "|---|---|---|---|")
    for outcome in outcomes:
        remark = outcome.reason.replace("|", "/").replace("\n", " ")
        yield f"| {outcome.name} | {_MARKS[outcome.status]} | {outcome.seconds:.1f} | {remark} |"
    for outcome in outcomes:
        yield from _section(outcome)
    data = {"format": FORMAT, **head, **_asked(examination), "checks": [outcome.to_json() for outcome in outcomes]}
    yield from ("", "## Data", "", "<details><summary>The same as JSON</summary>", "")
    yield from ("```json", json.dumps(data, indent=1, ensure_ascii=False), "```", "", "</details>")


def _asked(examination: Examination) -> dict[str, str]:
    """The options of the examination, without private words."""
    return {
        "model": examination.model if is_published(examination.model) else "<model>",
        "device": examination.device,
        "kv": examination.kv,
        "extent": "quick" if examination.quick else "full",
    }


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    bad = [outcome for outcome in outcomes if outcome.status == "failed"]
    if bad:
        yield from ("", "## What failed", "")
    for outcome in bad:
        yield f"- {outcome.name}: {outcome.reason}"
        yield f"  - What to do: {outcome.advice}"


def _section(outcome: Outcome) -> Iterator[str]:
    yield from ("", f"## {outcome.name}: {_MARKS[outcome.status]}", "")
    if outcome.reason:
        yield from (outcome.reason, *([""] if outcome.figures else []))
    for name, value in outcome.figures.items():
        yield f"- {name}: {figure_text(value)}"
    if outcome.text:
        fence = "```" if "```" not in outcome.text else "~~~~"
        yield from ("", f"{fence}text", outcome.text, fence)


def figure_text(value: Figure) -> str:
    """A figure in words: 1,234; 0.0012; yes; unknown."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else value
