"""Answers of a model that only finds: a sentence of the documents, or the nearest passages, said to be no more."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence

from sala_core.events import Evidence, Quotation
from sala_core.evidence.citations import evidence, quotation
from sala_core.evidence.overview_answers import overview_answer
from sala_core.evidence.quotation_marks import quoted, unquoted, word_end
from sala_core.evidence.searched import FoundAnswer, SearchedDocument
from sala_core.evidence.symbol_answers import MAX_PLACES, symbol_answer
from sala_core.finder.overview import overview_question
from sala_core.finder.question import parse_question
from sala_core.finder.ranking import Finder, Found, fitted
from sala_core.finder.symbols import find_symbol, symbol_question
from sala_core.finder.text_index import fold

NOT_FOUND = "I did not find a sentence that answers this."
NEAREST = f"{NOT_FOUND} The nearest passages:"
NO_WORDS = f"{NOT_FOUND} None of its words stands in what was read."
WHAT_IT_CAN_DO = (
    "I find sentences in what was read: ask about something that it tells, such as a person, a place, a number or a "
    "reason, and name it; or what the text is about, its chapters, its names, or what a function in code does."
)
NOTHING_READ = "Nothing is read in this session yet: add a file or a folder, then ask about it."

_WORD = re.compile(r"[^\W_]+")
_NEAREST_SHOWN = 3
_EQUALS_SHOWN = 4
"""Sentences that have all words of the question are given together, as where there are several facts."""

_MAX_CHARS = 800
"""Longer sentences, as of tables, are quoted up to a word before this."""

_MAX_EVIDENCE_CHARS = 1200


class DocumentFinder:
    """Finds sentences in the documents of a session."""

    def __init__(self, documents: Sequence[SearchedDocument]) -> None:
        """Nothing is loaded until `prepare`, or the first question."""
        self._documents = documents

    def prepare(self) -> Finder:
        """Index the texts. The last index is kept in memory, for whoever asks about the same documents next."""
        key = tuple((each.document_id, each.num_tokens) for each in self._documents)
        return _LAST.get(key, lambda: Finder([each.text() for each in self._documents]))

    def answer(self, question: str, *, before: str = "") -> FoundAnswer:
        """Answer a question. before: the turn before it, for a question that refers back to it.

        A question about a name in code gets its definitions or uses, one about the text as a whole what its form tells.
        For any other, a sentence is given as the answer where that is right in four of five cases
        (`Fitted.threshold`).
        """
        if not self._documents:
            return _only_text(NOTHING_READ)
        if (special := self._about_symbol(question) or self._about_whole(question)) is not None:
            return special
        if parse_question(question).is_empty:
            return _only_text(WHAT_IT_CAN_DO)
        findings = self.prepare().find(question, MAX_PLACES, before=before)
        if not findings.sentences:
            return _only_text(NO_WORDS)
        is_sure = findings.confidence >= fitted().threshold
        first, others = findings.sentences[:1], findings.sentences[1:]
        equal = first + tuple(each for each in others if each.has_all_words and first[0].has_all_words)
        shown = equal[:_EQUALS_SHOWN] if is_sure else findings.sentences[:_NEAREST_SHOWN]
        quotations = tuple(each for found in shown if (each := self._quotation(found)) is not None)
        if not quotations:
            return _only_text(NO_WORDS)
        if is_sure:
            text = "\n\n".join(quoted(each.text) for each in quotations)
        else:
            head = _nearest(question, findings.absent_names)
            text = "\n".join([head, "", *(f"{i}. {quoted(each.text)}" for i, each in enumerate(quotations, 1))])
        return FoundAnswer(
            text=text,
            evidence=self._evidence(findings.sentences),
            quotations=quotations,
            confidence=round(findings.confidence, 4),
        )

    def passages(self, words: str, limit: int, *, before: str = "") -> tuple[Evidence, ...]:
        """The places that answer a question, or fit some words, best first. before: as `answer` takes it."""
        if not self._documents:
            return ()
        code = self._about_symbol(words)
        first = code.evidence[:limit] if code is not None else ()
        found = self._evidence(self.prepare().find(words, limit, before=before).sentences)
        others = (each for each in found if not any(share_a_line(each, other) for other in first))
        return (*first, *others)[:limit]

    def _about_whole(self, question: str) -> FoundAnswer | None:
        """The answer to a question about a text as a whole; None for any other, and where its form does not tell."""
        asked = overview_question(question)
        return overview_answer(asked, self._documents, self.prepare().searched.index) if asked is not None else None

    def _about_symbol(self, question: str) -> FoundAnswer | None:
        """The answer to a question about a name in code; None for any other, and for a name that nothing defines."""
        asked = symbol_question(question)
        if asked is None:
            return None
        numbers = self.prepare().texts_with(asked.name)
        texts = [each.text() if number in numbers else "" for number, each in enumerate(self._documents)]
        found = find_symbol(asked, texts, [each.name for each in self._documents], MAX_PLACES)
        return symbol_answer(asked, found, self._documents) if found.places else None

    def _quotation(self, found: Found) -> Quotation | None:
        document = self._documents[found.text]
        if (lines := document.lines()) is None:
            return None
        place = lines.place_of_chars(found.start, found.end)
        text = lines.text(place)
        if len(text) > _MAX_CHARS:
            place = lines.place_of_chars(found.start, found.start + word_end(text, _MAX_CHARS))
            text = lines.text(place)
        return quotation(document, place, unquoted(" ".join(text.split())))

    def _evidence(self, sentences: Sequence[Found]) -> tuple[Evidence, ...]:
        """The places of the sentences, each with its neighbors."""
        places = []
        for found in sentences:
            document = self._documents[found.text]
            if (lines := document.lines()) is None:
                continue
            around = lines.place_of_chars(*found.context)
            text = lines.whole_lines(around)
            if len(text) > _MAX_EVIDENCE_CHARS:
                around = lines.place_of_chars(found.start, found.end)
                text = lines.text(around)[:_MAX_EVIDENCE_CHARS]
            places.append(evidence(document, around, text, found.share))
        return tuple(places)


class _LastFinder:
    """The finder that was made last. A thread that asks while another one makes it waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[tuple[str, int], ...] | None = None
        self._finder: Finder | None = None

    def get(self, key: tuple[tuple[str, int], ...], make: Callable[[], Finder]) -> Finder:
        """The finder of some documents."""
        with self._lock:
            if self._finder is None or self._key != key:
                self._finder, self._key = None, None  # not two indexes in memory at once
                self._finder, self._key = make(), key
            return self._finder


_LAST = _LastFinder()


def share_a_line(one: Evidence, other: Evidence) -> bool:
    """Whether two places share a line."""
    is_same = one.document_id == other.document_id
    return is_same and one.line_start <= other.line_end and other.line_start <= one.line_end


def _nearest(question: str, absent: Sequence[str]) -> str:
    """The sentence above the nearest passages: it names what stands nowhere, as the question has it."""
    spelled = [word for word in dict.fromkeys(_WORD.findall(question)) if fold(word) in absent]
    if not spelled:
        return NEAREST
    names = ", ".join(f"“{word}”" for word in spelled)
    return f"{NOT_FOUND} Nowhere in the text: {names}. The nearest passages:"


def _only_text(text: str) -> FoundAnswer:
    return FoundAnswer(text=text, evidence=(), quotations=(), confidence=0.0)
