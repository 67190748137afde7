"""Answers to questions about a text as a whole, by a model that does not summarize: what the text's form tells."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from sala_core.events import Evidence, Quotation
from sala_core.evidence.citations import evidence, quotation
from sala_core.evidence.quotation_marks import as_code, quoted, unquoted, word_end
from sala_core.evidence.searched import FoundAnswer, SearchedDocument
from sala_core.finder.characters import without_space_around
from sala_core.finder.names_and_words import most_common_names, occurrences
from sala_core.finder.overview import Overview, OverviewQuestion
from sala_core.finder.parts import Part, are_counted, body_of, find_parts
from sala_core.finder.text_index import TextIndex
from sala_core.ingest import SourceMap

DOES_NOT_SUMMARIZE = (
    "I find and quote sentences; I do not summarize. A larger model does (“Models”). What can be read off the text:"
)
READ_OFF, UNSURE = 0.95, 0.3
"""Confidence of what is counted or read off; and of what is not what was asked, which a larger model would answer."""

NO_AUTHOR = "I did not find a line that names the author. The text begins:"

_MAX_DOCUMENTS, _MAX_PARTS, _MAX_NAMES, _SHOWN_PLACES, _MAX_EVIDENCE = 3, 30, 10, 3, 8
_MIN_NAMES = 3
_MAX_SHOWN_CHARS, _MAX_LISTED_CHARS, _TITLE_PAGE_CHARS, _MIN_PARAGRAPH_CHARS = 200, 250, 3000, 60
"""An answer has 512 tokens at most, if its user has not chosen otherwise."""
_README = re.compile(r"(?i)^(?:readme|index|about|intro)")
_NAME = r"(?:[A-ZÀ-Þ][\w.’'-]*)"
_AUTHOR = re.compile(
    r"(?m)^[ \t]*(?:(?:[Bb]y|BY|[Aa]uthors?:?|AUTHORS?:?|[Ww]ritten by|(?:Autor(?:in)?|Auteure?|Autore|Autora) ?:)"
    r"[ \t]*\n{0,4}[ \t]*(?=[A-Z])[^\n]{3,80}"
    r"|(?i:von|par|por|di)[ \t]*\n{0,4}[ \t]*"
    rf"{_NAME}(?:[ \t]+(?:von|van|de|du|da|di|della|del|{_NAME})){{1,5}})[ \t]*$"
)
_PARAGRAPH = re.compile(r"(?:[^\n]+(?:\n|\Z))+")
_SENTENCE_ENDS = (". ", ".\n", "! ", "? ", "!\n", "?\n")
_LAST_CHARS = 20_000
_NO_PROSE = re.compile(r"[ \t]*(?:[#<|*\-+>=`!\[{}/]|\d+[.)]|import |from |package |use )")


@dataclass(kw_only=True)
class _Draft:
    """An answer in the making. is_sure: whether it is what was asked."""

    text: str = ""
    quotations: list[Quotation] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    is_sure: bool = True

    def finished(self) -> FoundAnswer:
        """The answer."""
        return FoundAnswer(
            text=self.text,
            evidence=tuple(self.evidence),
            quotations=tuple(self.quotations),
            confidence=READ_OFF if self.is_sure else UNSURE,
        )

    def quote(self, document: SearchedDocument, lines: SourceMap, start: int, end: int) -> str:
        """Add a passage to the quotations and the evidence; return it in quotation marks."""
        place = lines.place_of_chars(start, end)
        text = unquoted(" ".join(lines.text(place).split()))
        self.quotations.append(quotation(document, place, text))
        if len(self.evidence) < _MAX_EVIDENCE:
            self.evidence.append(evidence(document, place, lines.whole_lines(place), 0.0))
        return quoted(text)


@dataclass(frozen=True, kw_only=True)
class _Document:
    """A document with its text, its map and its parts."""

    document: SearchedDocument
    text: str
    lines: SourceMap
    parts: list[Part]


def overview_answer(
    asked: OverviewQuestion, documents: Sequence[SearchedDocument], index: TextIndex
) -> FoundAnswer | None:
    """Answer from the form of the texts; None where it does not tell, so that the question is one like any other.

    Args:
        asked: the question.
        documents: the first ones, and files that introduce the others, are looked at.
        index: of all documents.
    """
    if asked.kind is Overview.OCCURRENCES:
        return _occurrences(asked.what, documents, index)
    if asked.kind is Overview.NAMES:
        return _names(documents, index)
    if asked.kind is Overview.LENGTH:
        return _Draft(text="\n\n".join(_length(documents, index))).finished()
    read = list(_first_documents(documents))
    if not read:
        return None
    if asked.kind is Overview.AUTHOR:
        return _author(read)
    if asked.kind is Overview.NUMBER_OF_PARTS:
        return _number_of_parts(asked.what, read)
    if asked.kind is Overview.PARTS:
        return _parts(asked.what, read)
    return _summary(read, documents, index)


def _first_documents(documents: Sequence[SearchedDocument]) -> Iterator[_Document]:
    """The documents that are looked at: all where they are few, else those that introduce the others, or the first."""
    chosen = list(documents)
    if len(documents) > _MAX_DOCUMENTS:
        chosen.sort(key=lambda document: len(PurePath(document.name).parts))
        introduce = [document for document in chosen if _README.match(PurePath(document.name).name)]
        chosen = (introduce or chosen)[:_MAX_DOCUMENTS]
    for document in chosen:
        if (lines := document.lines()) is not None and (text := document.text()).strip():
            yield _Document(document=document, text=text, lines=lines, parts=find_parts(text))


def _summary(read: Sequence[_Document], documents: Sequence[SearchedDocument], index: TextIndex) -> FoundAnswer:
    answer = _Draft(is_sure=False)
    pieces = [DOES_NOT_SUMMARIZE]
    for each in read:
        said = [f"{as_code(each.document.name)}{_of_parts(each.parts)}"]
        if (span := _beginning(each)) is not None:
            said.append(f"begins: {_quote(answer, each, *span)}")
            if len(documents) == 1 and (last := _end(each)) is not None and last[0] > span[1]:
                said.append(f"It ends: {_quote(answer, each, *last)}")
        heads = [_one_line(each, part) for part in _largest(each.parts)]
        if listed := _within(_MAX_LISTED_CHARS // len(read), heads):
            said.append(f"Its headings: {' · '.join(listed)}{' …' if len(listed) < len(heads) else ''}")
        pieces.append(" ".join(said))
    if len(documents) > len(read):
        pieces.append(f"These are {len(read)} of {len(documents):,} documents.")
    if len(names := most_common_names(index, _text_of(documents, index), _MAX_NAMES)) >= _MIN_NAMES:
        pieces.append("Names that stand in it most often: " + _listed(names) + ".")
    answer.text = "\n\n".join(pieces)
    return answer.finished()


def _author(read: Sequence[_Document]) -> FoundAnswer:
    answer = _Draft()
    said = []
    for each in read:
        match = _AUTHOR.search(each.text, 0, _TITLE_PAGE_CHARS)
        if match is not None:
            said.append(_prefix(each, read) + _quote(answer, each, *without_space_around(each.text, *match.span())))
    if not said:
        first = read[0]
        answer.is_sure = False
        opening = [match.span() for match in re.finditer(r"[^\n]*\S[^\n]*", first.text[:_TITLE_PAGE_CHARS])][:3]
        said = [NO_AUTHOR, *(_quote(answer, first, *without_space_around(first.text, *span)) for span in opening)]
    answer.text = "\n\n".join(said)
    return answer.finished()


def _number_of_parts(kind: str, read: Sequence[_Document]) -> FoundAnswer | None:
    answer = _Draft()
    said = []
    for each in read:
        own = [part for part in each.parts if part.kind == kind]
        if not own or not are_counted(each.parts, kind):
            continue
        first, last = (_quote(answer, each, part.start, part.end) for part in (own[0], own[-1]))
        said.append(f"{_prefix(each, read)}{len(own):,} {kind}s, from {first} to {last}.")
    answer.text = "\n\n".join(said)
    return answer.finished() if said else None


def _parts(kind: str, read: Sequence[_Document]) -> FoundAnswer | None:
    answer = _Draft()
    said = []
    for each in read:
        own = [part for part in each.parts if part.kind == kind] or _largest(each.parts) or each.parts
        shown = own[: len(_within(_MAX_LISTED_CHARS * 2 // len(read), (_one_line(each, part) for part in own)))]
        if not shown:
            continue
        lines = [f"{i}. {_quote(answer, each, part.start, part.end)}" for i, part in enumerate(shown, 1)]
        more = f"and {len(own) - len(shown):,} more" if len(own) > len(shown) else ""
        said.append("\n\n".join(filter(None, (_prefix(each, read).strip(), "\n".join(lines), more))))
    answer.text = "\n\n".join(said)
    return answer.finished() if said else None


def _names(documents: Sequence[SearchedDocument], index: TextIndex) -> FoundAnswer | None:
    names = most_common_names(index, _text_of(documents, index), _MAX_NAMES)
    if len(names) < _MIN_NAMES:
        return None
    head = "Who matters most is for a larger model to say (“Models”). The names that stand here most often, of persons"
    return _Draft(text=f"{head} and places: {_listed(names)}.", is_sure=False).finished()


def _occurrences(words: str, documents: Sequence[SearchedDocument], index: TextIndex) -> FoundAnswer | None:
    rows = occurrences(index, words)
    if rows is None:
        return None
    answer = _Draft(text=f"“{words}” stands nowhere here.")
    if not len(rows):
        return answer.finished()
    times = "once" if len(rows) == 1 else f"{len(rows):,} times"
    said: list[str] = []
    for row in dict.fromkeys(rows.tolist()):
        number, start, end = index.place(row)
        if (lines := documents[number].lines()) is not None:
            if end - start > _MAX_SHOWN_CHARS:
                end = start + word_end(lines.text(lines.place_of_chars(start, end)), _MAX_SHOWN_CHARS)
            said.append(f"{len(said) + 1}. {answer.quote(documents[number], lines, start, end)}")
        if len(said) == _SHOWN_PLACES:
            break
    answer.text = f"“{words}” stands here {times}. The first places:\n\n" + "\n".join(said)
    return answer.finished()


def _length(documents: Sequence[SearchedDocument], index: TextIndex) -> Iterator[str]:
    """One line for each of the first documents, and one for all."""
    for document in documents if len(documents) <= _MAX_DOCUMENTS else ():
        if (lines := document.lines()) is not None:
            last = lines.place_of_chars(max(0, lines.num_chars - 1), lines.num_chars)
            pages = f", {last.page:,} pages" if last.page else ""
            yield f"{as_code(document.name)}: {last.line_end:,} lines{pages}."
    count = f"{len(documents):,} documents have" if len(documents) > 1 else "It has"
    yield f"{count} {len(index.ids):,} words."


def _within(num_chars: int, lines: Iterable[str]) -> list[str]:
    """The first lines that have so many characters together, at most _MAX_PARTS; the first one in any case."""
    kept: list[str] = []
    for line in lines:
        num_chars -= len(line) + 4  # with what stands between two
        if kept and (num_chars < 0 or len(kept) == _MAX_PARTS):
            break
        kept.append(line)
    return kept


def _largest(parts: Sequence[Part]) -> list[Part]:
    """All parts of the largest kinds, as far as they are few enough to be listed."""
    shown: list[Part] = []
    for rank in sorted({part.rank for part in parts}):
        upto = [part for part in parts if part.rank <= rank]
        if len(upto) > _MAX_PARTS:
            break
        shown = upto
    return shown


def _of_parts(parts: Sequence[Part]) -> str:
    """How many parts of each kind there are, in brackets."""
    kinds = dict.fromkeys(part.kind for part in sorted(parts, key=lambda part: part.rank) if part.kind != "heading")
    counts = {kind: sum(part.kind == kind for part in parts) for kind in kinds if are_counted(parts, kind)}
    return f" ({', '.join(f'{count:,} {kind}s' for kind, count in counts.items())})" if counts else ""


def _beginning(each: _Document) -> tuple[int, int] | None:
    """The first sentences of prose behind the title page."""
    start, end = body_of(each.text)
    divisions = [part for part in each.parts if part.number is not None]
    smallest = max((part.rank for part in divisions), default=None)
    heads = (part for part in each.parts if part.rank == smallest or part.kind == "heading")
    start = max(start, next((part.end for part in heads), 0))
    for begin, stop in _prose(each.text, start, end):
        paragraph = each.text[begin:stop]
        if len(paragraph) <= _MAX_SHOWN_CHARS:
            return begin, stop
        sentence = max(paragraph.rfind(mark, 0, _MAX_SHOWN_CHARS) for mark in _SENTENCE_ENDS) + 1
        return begin, begin + (sentence or word_end(paragraph, _MAX_SHOWN_CHARS))
    return None


def _end(each: _Document) -> tuple[int, int] | None:
    """The last sentences of prose."""
    start, end = body_of(each.text)
    last = None
    for last in _prose(each.text, max(start, end - _LAST_CHARS), end):  # noqa: B007 - the last one is wanted
        pass
    if last is None:
        return None
    begin, stop = last
    if stop - begin <= _MAX_SHOWN_CHARS:
        return last
    tail = each.text[stop - _MAX_SHOWN_CHARS : stop]
    first = min((at for mark in _SENTENCE_ENDS if (at := tail.find(mark)) >= 0), default=tail.find(" ") - 1)
    return stop - _MAX_SHOWN_CHARS + first + 2, stop


def _prose(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The paragraphs that are sentences, and no list, table, code or heading."""
    for match in _PARAGRAPH.finditer(text, start, end):
        begin, stop = without_space_around(text, *match.span())
        paragraph = text[begin:stop]
        is_long = len(paragraph) >= _MIN_PARAGRAPH_CHARS and re.search(r"[.!?。]", paragraph) is not None
        is_in_capitals = sum(map(str.isupper, paragraph)) * 2 > sum(map(str.isalpha, paragraph))
        if is_long and not is_in_capitals and not _NO_PROSE.match(text, begin):
            yield begin, stop


def _quote(answer: _Draft, each: _Document, start: int, end: int) -> str:
    return answer.quote(each.document, each.lines, start, end)


def _prefix(each: _Document, read: Sequence[_Document]) -> str:
    """The document's name where there are several."""
    return f"{as_code(each.document.name)}: " if len(read) > 1 else ""


def _one_line(each: _Document, part: Part) -> str:
    return " ".join(each.text[part.start : part.end].split())


def _listed(names: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in names)


def _text_of(documents: Sequence[SearchedDocument], index: TextIndex) -> Callable[[int], str]:
    """Gives the characters of a sentence of the index."""

    def sentence(row: int) -> str:
        number, start, end = index.place(row)
        lines = documents[number].lines()
        return "" if lines is None else lines.text(lines.place_of_chars(start, end))

    return sentence
