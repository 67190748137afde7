"""What technical texts define: abbreviations, terms that a sentence explains, headings, options, symbols of code."""

import re
from collections import Counter
from collections.abc import Iterable

_ABBREVIATION = re.compile(r"((?:[A-Za-z][\w-]*[ \n]){1,7})\(([A-Z][A-Za-z]{0,2}[A-Z]{1,5}s?)\)")
_DEFINED = re.compile(
    r"(?:^|(?<=[.!?:]\s)|(?<=\n))(?:An? |The )?\*{0,2}[_`]?([A-Za-z][\w+-]*(?:[ -][a-z][\w-]+){0,2})[_`]?\*{0,2}"
    r" (?:is|are) (?:an?|the|a set of|a kind of) (?=[a-z])",
    re.MULTILINE,
)
_HEADING = re.compile(r"^#{1,4} +(\S.{2,70}?)\s*#*$", re.MULTILINE)
_NUMBERED = re.compile(r"^((?:\d{1,2}\.){0,3}\d{1,2})\.? {1,3}([A-Z][^.,;\n]{2,60})$", re.MULTILINE)
_UNDERLINED = re.compile(r"^(\S.{2,70})\n(?:={4,}|-{4,}|~{4,})$", re.MULTILINE)
_OPTION = re.compile(r"(?:^|(?<=[`\[(|/ ]))(--[a-z][a-z-]{1,24}[a-z])(?=[`=\])|/,\n]| <| \[| [A-Z]{3})", re.MULTILINE)
_DEFINITION = re.compile(
    r"^(?:export |pub(?:\([a-z]+\))? |public |async |abstract |final |default )*"
    r"(?:def|class|fn|func|function|struct|enum|trait|interface|type) +(?:\([^)]*\) *)?([A-Za-z]\w{3,40})",
    re.MULTILINE,
)
_SYMBOL = re.compile(r"[A-Za-z_]\w{3,40}")
_PLAIN_HEADINGS_TEXT = """
    abstract introduction references bibliography contents copyright acknowledgements acknowledgments index
    license appendix preface notes summary conclusion conclusions overview examples example usage usages
    discussion footnotes related table figure authors changelog motivation background foreword glossary title
    description synopsis name rationale terminology documentation specification implementation footnote
    definitions history scope results methods recommendations installation status version credits reference
    thanks objections alternatives issues open rejected
"""
_PLAIN_HEADINGS = frozenset(_PLAIN_HEADINGS_TEXT.split())
_VAGUE_TEXT = """
    this that it there here he she they we you i what which who one each these those such another result
    following reason first second last next other same name value example point idea problem question answer
    goal purpose only main most author text section chapter case thing way rest output default program command
"""
_VAGUE = frozenset(_VAGUE_TEXT.split())
_MAX_TERMS = 150
_COMMON_SYMBOLS_TEXT = """
    main test setup init self this init new get set run from with data name value
"""
_COMMON_SYMBOLS = frozenset(_COMMON_SYMBOLS_TEXT.split())


def abbreviations(text: str) -> list[str]:
    """Abbreviations that the text itself spells out: `large language model (LLM)`, the most used first."""
    found: dict[str, int] = {}
    for match in _ABBREVIATION.finditer(text):
        short = match[2].removesuffix("s")
        letters = [letter.lower() for letter in short]
        initials = [word[0].lower() for part in match[1].split() for word in part.split("-") if word]
        if initials[-len(letters) :] == letters and short not in found:
            found[short] = len(re.findall(rf"\b{re.escape(short)}s?\b", text))
    return [short for short, count in sorted(found.items(), key=lambda item: -item[1]) if count >= 2]


def defined_terms(text: str) -> list[str]:
    """Terms that a sentence of the text explains (`A closure is a function ...`), the most used first."""
    lower = text.lower()
    found: Counter[str] = Counter()
    for match in _DEFINED.finditer(text):
        term = match[1]
        words = term.lower().split()
        if words[0] in _VAGUE or words[-1] in _VAGUE or len(term) < 4:
            continue
        name = term if not term[0].isupper() or any(letter.isupper() for letter in term[1:]) else _as_inside(term, text)
        if len(found) == _MAX_TERMS:
            break
        found.setdefault(name, lower.count(name.lower()))
    return [term for term, count in found.most_common() if count >= 3]


def headings(text: str) -> list[str]:
    """The headings of a text that say what a part is about, in order."""
    places = [(match.start(), match[1]) for pattern in (_HEADING, _UNDERLINED) for match in pattern.finditer(text)]
    numbered = list(_NUMBERED.finditer(text))
    if {"1", "2", "3"} <= {match[1] for match in numbered}:
        places += [(match.start(), match[2]) for match in numbered]
    cleaned = (" ".join(heading.replace("`", "").strip(" *:").split()) for _, heading in sorted(places))
    return list(dict.fromkeys(heading for heading in cleaned if _says_something(heading)))


def options(text: str) -> list[str]:
    """Options of a command line that the text names more than once, the most used first."""
    counts = Counter(_OPTION.findall(text))
    return [option for option, count in counts.most_common() if count >= 2]


def symbols(texts: Iterable[str]) -> list[str]:
    """Functions and types that one file defines and others use, the most used first. texts: of the files of code."""
    defined: Counter[str] = Counter()
    files_with: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    for text in texts:
        defined.update(set(_DEFINITION.findall(text)))
        words = Counter(_SYMBOL.findall(text))
        uses.update(words)
        files_with.update(words.keys())
    good = [name for name, count in defined.items() if count == 1 and _is_telling(name)]
    return sorted(good, key=lambda name: (-min(files_with[name], 12), -uses[name], name))


def _as_inside(term: str, text: str) -> str:
    """A term that began a sentence as it is written inside of one: small, unless it is a name."""
    small = term[0].lower() + term[1:]
    count_small = len(re.findall(rf"[a-z,] {re.escape(small)}\b", text))
    count_large = len(re.findall(rf"[a-z,] {re.escape(term)}\b", text))
    return small if count_small >= count_large else term


def _says_something(heading: str) -> bool:
    words = re.findall(r"[A-Za-z]+", heading.lower())
    letters = sum(len(word) for word in words)
    if not words or len(words) > 9 or letters * 2 < len(heading) or heading.endswith((",", ";", ".")):
        return False
    return words[0] not in ("chapter", "part", "book", "volume", "figure", "table", "letter", "act", "scene") and not (
        len(words) <= 2 and words[0] in _PLAIN_HEADINGS
    )


def _is_telling(name: str) -> bool:
    """Whether a symbol is likely to be one of its own: of several words, not a test."""
    lower = name.lower()
    is_error = name.endswith(("Error", "Exception"))
    return (
        lower not in _COMMON_SYMBOLS
        and not is_error
        and not lower.startswith("test")
        and ("_" in name.strip("_") or name[1:] != lower[1:])
    )
