"""Verified quotations: the passages of an answer that are word for word in the documents."""

import re
from collections.abc import Callable, Iterable, Iterator

from sala_core.events import Quotation
from sala_core.evidence.places import DocumentSpan
from sala_core.ingest import SourceMap

_MIN_CHARS = 12
_MIN_WORDS = 3
_QUOTED = re.compile(r"\"([^\"\n]+(?:\n[^\"\n]+)*)\"|“([^“”]+)”|«([^«»]+)»|„([^„“]+)“|`([^`\n]+)`")
_CLOSING = ",.;:…"
"""Punctuation that may be inside the quotation marks although it is not in the source."""

_BLOCKQUOTE = re.compile(r"(?:^>[^\n]*\n?)+", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def verify_quotations(
    answer: str, spans: Iterable[DocumentSpan], source_map: Callable[[str], SourceMap | None]
) -> tuple[Quotation, ...]:
    """Find each quoted passage of `answer` in the documents, which are searched in the order of `spans`.

    Passages in quotation marks, block quotes and code blocks count from 12 characters and 3 words on. White space and
    typographic variants are folded (`SourceMap.find`), and punctuation at the end may be the answer's own. A passage
    that is in no document is not in the result.
    """
    passages = list(dict.fromkeys(_passages(answer)))
    found: list[Quotation] = []
    documents = {span.document_id: span for span in spans}
    for document_id, span in documents.items():
        if not passages:
            break
        lines = source_map(document_id)
        if lines is None:
            continue
        for passage in list(passages):
            spellings = dict.fromkeys((passage, passage.rstrip(_CLOSING)))
            place = next(filter(None, map(lines.find, spellings)), None)
            if place is None:
                continue
            passages.remove(passage)
            found.append(
                Quotation(
                    text=passage,
                    document=span.name,
                    document_id=document_id,
                    page=place.page,
                    line_start=place.line_start,
                    line_end=place.line_end,
                )
            )
    return tuple(found)


def _passages(answer: str) -> Iterator[str]:
    for match in _CODE_BLOCK.finditer(answer):
        yield from _long_enough(match[1])
    for match in _BLOCKQUOTE.finditer(answer):
        yield from _long_enough(re.sub(r"^>[ ]?", "", match[0], flags=re.MULTILINE))
    for match in _QUOTED.finditer(answer):
        yield from _long_enough(next(group for group in match.groups() if group is not None))


def _long_enough(passage: str) -> Iterator[str]:
    text = passage.strip()
    if len(text) >= _MIN_CHARS and len(text.split()) >= _MIN_WORDS:
        yield text
