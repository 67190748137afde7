"""First questions about what a session has read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

from sala_core.finder.parts import body_of
from sala_core.suggestions.names import find_names
from sala_core.suggestions.terms import abbreviations, defined_terms, headings, options, symbols

MAX_QUESTIONS = 4
MAX_TEXT_CHARS = 1_500_000
"""Most characters of one text that are looked at."""
MAX_TEXTS = 3
"""Most texts that questions are taken from; most files of code are `MAX_CODE_FILES`."""
MAX_CODE_FILES = 400
MIN_HEADINGS = 3
"""A text with fewer is not taken for a manual or a paper."""
_CODE_SUFFIXES_TEXT = """
    py rs go js ts tsx jsx java kt c h cc cpp hpp cs rb php swift scala lua jl r sh pl hs ml ex erl zig dart
"""
_CODE_SUFFIXES = frozenset(_CODE_SUFFIXES_TEXT.split())
_ENGLISH = re.compile(r"\b(?:the|and|of|to|in|is|was|that|it)\b")
_ENGLISH_SHARE = 0.12
_SPEECH = re.compile(
    r"(?:^|[\n ])(?:[“\"][^”\"]{2,300}[”\"]|[‘'][A-Z][^’'\n]{2,200}(?:[’'][a-z][^’'\n]{0,100}){0,3}[,.!?—][’'])"
)
_CODE = re.compile(r"`[^`\n]+`|^ {4,}\S.*[=({;]|^```", re.MULTILINE)
_QUESTION = re.compile(r"(?:What|Why|How|When|Where|Who|Which|Can|Do|Does|Is|Are)\b.*\?$")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A text that was read. name: as the session shows it."""

    name: str
    text: str

    @property
    def is_code(self) -> bool:
        """Whether it is source code, by its name."""
        return self.name.rpartition(".")[2].lower() in _CODE_SUFFIXES and "." in self.name


def suggest(sources: Sequence[Source]) -> list[str]:
    """Up to MAX_QUESTIONS questions that the texts answer; fewer, or none, where nothing in them is telling.

    sources: in the order in which they were read. Only texts in English are looked at, because the questions are.
    """
    code = [source for source in sources if source.is_code][:MAX_CODE_FILES]
    texts = [source for source in sources if not source.is_code and is_english(source.text)]
    if len(texts) > MAX_TEXTS:  # a book in chapters
        joined = "\n\n".join(_body(source.text) for source in texts)[:MAX_TEXT_CHARS]
        texts = [Source(name=texts[0].name, text=joined)]
    lists = [list(islice(_of_code(code), MAX_QUESTIONS))] if len(code) * 2 > len(sources) or not texts else []
    lists += [list(islice(_of_text(source), MAX_QUESTIONS)) for source in texts]
    mixed = chain.from_iterable(zip_longest(*lists))
    return list(islice(dict.fromkeys(question for question in mixed if question), MAX_QUESTIONS))


def is_english(text: str) -> bool:
    """Whether the beginning of a text is English prose."""
    middle = len(text) // 3
    sample = text[middle : middle + 20_000].lower()
    words = len(re.findall(r"\b[^\W\d_]+\b", sample))
    return words >= 40 and len(_ENGLISH.findall(sample)) >= words * _ENGLISH_SHARE


def _of_text(source: Source) -> Iterator[str]:
    text = _body(source.text)[:MAX_TEXT_CHARS]
    if len(headings(text)) >= MIN_HEADINGS and not is_story(text):
        yield from _of_manual(text)
    elif is_story(text):
        yield from _of_story(text)
    else:
        yield from _of_essay(text)


def _body(text: str) -> str:
    """A text without the license around it."""
    start, end = body_of(text)
    return text[start:end]


def is_story(text: str) -> bool:
    """Whether people talk in a text, and it has no code: at least one line of speech in 3,000 characters."""
    sample = text[: MAX_TEXT_CHARS // 3]
    return len(_SPEECH.findall(sample)) * 3000 > len(sample) and len(_CODE.findall(sample)) * 4000 < len(sample)


def _of_story(text: str) -> Iterator[str]:
    names = find_names(text)
    people = [name.text for name in names if name.is_person]
    places = [name.text for name in names if name.is_place]
    whom = [f"Who is {name}?" for name in people]
    what = [f"What happens {_at(text, place)} {place}?" for place in places[:2]]
    yield from whom[:2]
    yield from what[:1]
    yield from whom[2:3]
    yield from what[1:]
    yield from whom[3:]


def _at(text: str, place: str) -> str:
    """ "in" or "at", as the text has it more often before this place."""
    return max(("at", "in"), key=lambda word: text.count(f" {word} {place}"))


def _of_essay(text: str) -> Iterator[str]:
    names = [name for name in find_names(text) if not name.text.isupper()]
    short = [f"What does {name} stand for?" for name in abbreviations(text)]
    about = [f"What does the text say about {name.text}?" for name in names]
    yield from (question for pair in zip_longest(short[:1], about[:4]) for question in pair if question)


def _of_manual(text: str) -> Iterator[str]:
    asked = [heading for heading in headings(text) if _QUESTION.match(heading)]
    short = [f"What does {name} stand for?" for name in abbreviations(text)]
    terms = [f"What {'are' if _is_plural(term) else 'is'} {_with_article(term, text)}?" for term in defined_terms(text)]
    said = [f"What does the section “{heading}” say?" for heading in headings(text) if not _QUESTION.match(heading)]
    chosen = [f"What does the option {option} do?" for option in options(text)]
    mixed = zip_longest(asked[:2], terms[:3], short[:2], chosen[:2], _spread(said, 3))
    yield from (question for question in chain.from_iterable(mixed) if question)


def _of_code(code: Sequence[Source]) -> Iterator[str]:
    names = symbols(source.text for source in code)
    if not names:
        return
    yield f"Where is {names[0]} defined?"
    for name in names[1:3]:
        yield f"What is {name} for?" if name[0].isupper() else f"What does {name} do?"
    for name in names[3:]:
        yield f"Where is {name} used?" if name[0].isupper() else f"Who calls {name}?"


def _spread(items: Sequence[str], count: int) -> list[str]:
    """Some of many, from the beginning, the middle and the end."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]


def _is_plural(term: str) -> bool:
    last = term.split()[-1]
    return last.endswith("s") and not last.endswith(("ss", "us", "is")) and last[:1].islower()


def _with_article(term: str, text: str) -> str:
    """A term with the article that it has in the text most often, if any."""
    if term[:1].isupper() or _is_plural(term):
        return term
    counts = {article: len(re.findall(rf"\b{article} {re.escape(term)}\b", text)) for article in ("a", "an", "the")}
    bare = len(re.findall(rf"(?<!\ba )(?<!\ban )(?<!\bthe )\b{re.escape(term)}\b", text))
    best = max(counts, key=lambda article: counts[article])
    return f"{best} {term}" if counts[best] * 2 > bare else term
