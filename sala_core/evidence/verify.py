"""Verified quotations: the passages of an answer that are word for word in the documents."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sala_core.events import Quotation
from sala_core.evidence.citations import quotation
from sala_core.evidence.places import DocumentSpan
from sala_core.ingest import Place, SourceMap

_MIN_CHARS = 12
_MIN_WORDS = 3
_QUOTED = re.compile(r"\"([^\"\n]+(?:\n[^\"\n]+)*)\"|“([^“”]+)”|«([^«»]+)»|„([^„“]+)“|`([^`\n]+)`")
_CLOSING = ",.;:…"
"""Punctuation that may be inside the quotation marks although it is not in the source."""

_BLOCKQUOTE = re.compile(r"(?:^>[^\n]*\n?)+", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_OPENS = re.compile(r"(?:(?<=[\s(\[—–\"])|^)\"(?=\S)", re.MULTILINE)
_CLOSES = re.compile(r"(?<=\S)\"(?=[\s.,;:!?)\]—–\"]|$)", re.MULTILINE)
_MAX_INNER_MARKS = 12
_MAX_PARAGRAPH_MARKS = 60
_PARAGRAPH = re.compile(r"(?:[^\n]+\n?)+")


@dataclass(frozen=True, kw_only=True)
class _Passage:
    """What the answer quotes, between two of its characters. is_nested: other quotation marks are inside."""

    start: int
    end: int
    text: str
    is_nested: bool = False


@dataclass(frozen=True, kw_only=True)
class _Hit:
    span: DocumentSpan
    place: Place


def verify_quotations(
    answer: str, spans: Iterable[DocumentSpan], source_map: Callable[[str], SourceMap | None]
) -> tuple[Quotation, ...]:
    """Find each quoted passage of `answer` in the documents, which are searched in the order of `spans`.

    Passages in quotation marks, block quotes and code blocks count from 12 characters and 3 words on. White space and
    typographic variants are folded (`SourceMap.find`), and punctuation at the end may be the answer's own. Of passages
    inside each other, as in a quoted dialogue, the longest that stands in a document counts. A passage that is in no
    document is not in the result, which is in the order of the answer.
    """
    passages = list(_passages(answer))
    hits: dict[str, _Hit] = {}
    wanted = {passage.text for passage in passages if not passage.is_nested}
    for span in {span.document_id: span for span in spans}.values():
        if not wanted:
            break
        if (lines := source_map(span.document_id)) is None:
            continue
        found = _found_in(lines, wanted)
        wanted -= found.keys()
        around = {outer.text for outer in passages if outer.is_nested and _holds_any(outer, passages, found)}
        for text, place in (found | _found_in(lines, around - hits.keys())).items():
            hits[text] = _Hit(span=span, place=place)
    texts = [passage.text for passage in _longest(passages, hits)]
    return tuple(quotation(hits[text].span, hits[text].place, text) for text in texts)


def unverified_quotations(answer: str, verified: Iterable[Quotation]) -> tuple[str, ...]:
    """The quoted passages of an answer that stand in no document, in its order.

    A passage that overlaps a verified one is not among them. verified: what `verify_quotations` found.
    """
    passages = list(_passages(answer))
    texts = {quotation.text for quotation in verified}
    found = [passage for passage in passages if passage.text in texts]
    lost = [
        passage.text
        for passage in sorted(passages, key=lambda one: one.start)
        if not passage.is_nested and all(passage.end <= other.start or other.end <= passage.start for other in found)
    ]
    return tuple(dict.fromkeys(lost))


def _found_in(lines: SourceMap, texts: Iterable[str]) -> dict[str, Place]:
    found = {}
    for text in texts:
        spellings = dict.fromkeys((text, text.rstrip(_CLOSING)))
        if (place := next(filter(None, map(lines.find, spellings)), None)) is not None:
            found[text] = place
    return found


def _holds_any(outer: _Passage, passages: list[_Passage], found: dict[str, Place]) -> bool:
    """Whether a found passage is inside of another one: only then that one can stand in the same document."""
    return any(inner.text in found and outer.start <= inner.start and inner.end <= outer.end for inner in passages)


def _longest(passages: list[_Passage], hits: dict[str, _Hit]) -> list[_Passage]:
    """The found passages, each text once, without those that overlap a longer one; in the order of the answer."""
    chosen: list[_Passage] = []
    found = [passage for passage in passages if passage.text in hits]
    for passage in sorted(found, key=lambda one: (one.start - one.end, one.start)):
        if all(passage.end <= other.start or other.end <= passage.start for other in chosen):
            chosen.append(passage)
    by_text: dict[str, _Passage] = {}
    for passage in sorted(chosen, key=lambda one: one.start):
        by_text.setdefault(passage.text, passage)
    return list(by_text.values())


def _passages(answer: str) -> Iterator[_Passage]:
    for match in _CODE_BLOCK.finditer(answer):
        yield from _long_enough(match[1], match.start(1))
    for match in _BLOCKQUOTE.finditer(answer):
        text = re.sub(r"^>[ ]?", "", match[0], flags=re.MULTILINE)
        yield from _long_enough(text, match.start(), match.end())
    for match in _QUOTED.finditer(answer):
        group = next(number for number, text in enumerate(match.groups(), start=1) if text is not None)
        yield from _long_enough(match[group], match.start(group))
    for match in _PARAGRAPH.finditer(answer):
        if 2 < match[0].count('"') <= _MAX_PARAGRAPH_MARKS:
            yield from _nested(match[0], match.start())


def _nested(paragraph: str, offset: int) -> Iterator[_Passage]:
    """The passages between an opening and a closing straight mark: with no mark inside, or with others."""
    opens = [match.start() for match in _OPENS.finditer(paragraph)]
    closes = [match.start() for match in _CLOSES.finditer(paragraph)]
    for start in opens:
        for end in [end for end in closes if end > start][:_MAX_INNER_MARKS]:
            text = paragraph[start + 1 : end]
            yield from _long_enough(text, offset + start + 1, is_nested='"' in text)


def _long_enough(passage: str, start: int, end: int | None = None, *, is_nested: bool = False) -> Iterator[_Passage]:
    text = passage.strip()
    if len(text) >= _MIN_CHARS and len(text.split()) >= _MIN_WORDS:
        yield _Passage(start=start, end=start + len(passage) if end is None else end, text=text, is_nested=is_nested)
