"""Natural questions on public texts: what the finder answers, beside a plain word search of the same text.

The questions are in `assets/evals/natural/`; half of them, `untouched`, are for a last measurement only.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sala_core.assets import ASSETS
from sala_core.errors import EvalError
from sala_core.finder.question_texts import find_text
from sala_core.finder.ranking import Finder, fitted

QUESTIONS = ASSETS / "evals" / "natural" / "held-out.jsonl"
PLACES = 5
"""An answer among so many places counts as found."""

Half = Literal["open", "untouched"]
Window = tuple[int, int]
"""Characters start ... end - 1."""

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class NaturalReply:
    """What was found for one question. in_five, first, is_right: whether an answer overlaps one of the first places,
    the first place with its neighbors, the sentence that was quoted. bm25: for each kind of window, whether an answer
    overlaps one of the first places. is_false: the question has no answer in the text. is_given: a sentence was given
    as the answer."""

    group: str
    question: str
    is_false: bool
    is_given: bool
    confidence: float
    in_five: bool
    first: bool
    is_right: bool
    bm25: dict[str, bool]


def run_natural(folders: Sequence[Path], half: Half, should_stop: Callable[[], bool]) -> Iterator[NaturalReply]:
    """Ask every question of one half. folders: where the texts are. Raises EvalError for what is not there."""
    if not QUESTIONS.is_file():
        raise EvalError(f"there are no questions at {QUESTIONS}: they come with the repository, not with the package")
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        if question["half"] == half:
            by_text[question["text"]].append(question)
    for name, questions in by_text.items():
        text = _read_text(name, folders)
        finder, searches = Finder([text]), {kind: WordSearch(text, cut(text)) for kind, cut in WINDOWS.items()}
        for question in questions:
            if should_stop():
                return
            yield _reply(_group(name), question, text, finder, searches)


def _read_text(name: str, folders: Sequence[Path]) -> str:
    """A text by its name in a question. Raises EvalError."""
    file = find_text(name, folders)
    if file is None:
        looked = ", ".join(map(str, folders)) or "no folder"
        raise EvalError(
            f"the text {name} is not in {looked}; name its folder with --text (assets/training/questions/README.md)"
        )
    return file.read_text(encoding="utf-8", errors="replace")


def _group(name: str) -> str:
    return "code" if name.startswith("stdlib:") else "novels" if name.startswith("books/") else "manuals"


def _reply(
    group: str, question: dict[str, Any], text: str, finder: Finder, searches: dict[str, "WordSearch"]
) -> NaturalReply:
    gold = [window for passage in question["passages"] for window in occurrences(text, passage)]
    found = finder.find(question["question"], PLACES)
    exact = [(each.start, each.end) for each in found.sentences]
    around = [each.context for each in found.sentences]
    return NaturalReply(
        group=group,
        question=question["question"],
        is_false=not gold,
        is_given=bool(exact) and found.confidence >= fitted().threshold,
        confidence=found.confidence,
        in_five=any(overlaps(window, gold) for window in around),
        first=bool(around) and overlaps(around[0], gold),
        is_right=bool(exact) and overlaps(exact[0], gold),
        bm25={
            kind: any(overlaps(window, gold) for window in search.find(question["question"], PLACES))
            for kind, search in searches.items()
        },
    )


def occurrences(text: str, passage: str) -> Iterator[Window]:
    """Every place of a passage."""
    at = text.find(passage)
    while at >= 0:
        yield at, at + len(passage)
        at = text.find(passage, at + 1)


def overlaps(window: Window, gold: Sequence[Window]) -> bool:
    """Whether a window shares a character with one of others."""
    return any(window[0] < end and start < window[1] for start, end in gold)


class WordSearch:
    """Okapi BM25 over windows of a text, as a plain search box has it."""

    def __init__(self, text: str, windows: list[Window]) -> None:
        self._windows = windows
        self._counts = [Counter(_WORD.findall(text[start:end].lower())) for start, end in windows]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / max(1, len(windows))
        self._holders: dict[str, list[int]] = defaultdict(list)
        for i, counts in enumerate(self._counts):
            for word in counts:
                self._holders[word].append(i)

    def find(self, question: str, limit: int) -> list[Window]:
        """The best windows, best first, none of which overlaps a better one."""
        scores: dict[int, float] = defaultdict(float)
        for word in dict.fromkeys(_WORD.findall(question.lower())):
            holders = self._holders.get(word, [])
            rarity = math.log(1 + (len(self._windows) - len(holders) + 0.5) / (len(holders) + 0.5))
            for i in holders:
                count = self._counts[i][word]
                norm = _K1 * (1 - _B + _B * self._lengths[i] / self._mean)
                scores[i] += rarity * count * (_K1 + 1) / (count + norm)
        chosen: list[Window] = []
        for i in sorted(scores, key=lambda i: (-scores[i], i)):
            if len(chosen) == limit:
                break
            if not overlaps(self._windows[i], chosen):
                chosen.append(self._windows[i])
        return chosen


def _four_lines(text: str) -> list[Window]:
    starts = [0, *(match.end() for match in re.finditer(r"\n", text))]
    return [(starts[i], starts[i + 4] if i + 4 < len(starts) else len(text)) for i in range(0, len(starts), 2)]


def _paragraphs(text: str) -> list[Window]:
    return [match.span() for match in re.finditer(r"\S(?:.|\n(?!\s*\n))*", text)]


def _sentences(text: str) -> list[Window]:
    """Three sentences each, two of which the next window has too."""
    ends = [match.end() for match in re.finditer(r"[.!?][\"'”’)]*\s+|\n\s*\n", text)]
    starts = [0, *ends]
    return [(start, starts[i + 3] if i + 3 < len(starts) else len(text)) for i, start in enumerate(starts)]


WINDOWS: dict[str, Callable[[str], list[Window]]] = {
    "four lines": _four_lines,
    "paragraphs": _paragraphs,
    "sentences": _sentences,
}
"""What the plain search looks through. Windows of four lines begin at every second line."""
