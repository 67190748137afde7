"""Names in code: a question about a function or class is answered by where the texts define or use it.

Definitions are found by their form, in the languages that name them by a keyword (Python, JavaScript, Rust, Go, Kotlin
and others) and in those of the C family. Nothing is parsed, so unfinished and mixed texts serve as well.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

from sala_core.finder.characters import without_space_around
from sala_core.finder.text_index import word_set
from sala_core.finder.words import FUNCTION_WORDS, QUESTION_WORDS

_PART = r"[^\W\d]\w*"
_NAME = re.compile(rf"`([^`\n]+)`|(?<![\w./])({_PART}(?:(?:\.|::){_PART})*(?:\(\))?)(?!\w)")
_NOUNS = "function|method|class|struct|enum|trait|interface|macro|constant|variable|field|property|decorator|procedure"
_NAMED = re.compile(rf"(?<![Ww]hich )(?<![Ww]hat )\b(?:{_NOUNS}) ({_PART})\b")
_IN_CODE = re.compile(r"_\w|[a-z0-9][A-Z]|\(\)$|::|^\w\w+(?:\.\w\w+)+$")
_FILE = re.compile(
    r"\.(?:py|js|ts|tsx|rs|go|c|h|cc|cpp|hpp|java|kt|rb|php|md|rst|txt|toml|json|ya?ml|html?|css|sh|io)$"
)
_USES = re.compile(
    r"\b(?:who|what|which|where|callers?|usages?|uses)\b.*\b(?:call|use|invoke|reference|import)s?\b"
    r"|\b(?:where|how|when|who)\b.*\b(?:called|used|invoked|referenced|imported)\b|\b(?:callers|usages|uses) of\b"
)
_USED_FOR = re.compile(r"\b(?:used? for|(?:do|does|can|should) (?:i|we|you|one) (?:use|call)|how to (?:use|call))\b")
_DETAILS = re.compile(r"\b(?:returns?|raises?|throws?|takes?|accepts?|arguments?|parameters?)\b")
_ASKED = word_set(
    f"""
    {_NOUNS.replace("|", " ")} type module define defined definition declare declared declaration implement
    implemented implementation located lives live find explain describe show work works working mean means return
    returns raise raises throw throws take takes accept accepts argument arguments parameter parameters signature
    purpose job role value document documented documentation docstring code codebase repository repo project source
    file call calls called caller callers use uses used usage usages invoke invokes invoked reference references
    referenced import imports imported get place places we one anywhere
    """
)
_MODIFIERS = (
    "export|default|pub(?:\\([^)\n]*\\))?|public|private|protected|internal|static|async|abstract|final|inline|extern"
    "|unsafe|override|virtual|declare|open|data|sealed|partial"
)
_KEYWORDS = (
    "def|class|function\\*?|func|fn|fun|sub|struct|enum|union|interface|trait|protocol|type|typedef|module|namespace"
    "|object|record|mixin|macro_rules!|macro|val|var|let|const|static|#[ \t]*define"
)
_NO_STATEMENT = r"(?!return\b|else\b|new\b|throw\b|await\b|yield\b)"
_TOP, _BLOCK = r"(?P<indent>[ \t]*)", r"[^;{}\n]*(?:\n[^;{}\n]*){0,8}"
_PYTHON = (".py", ".pyi", ".pyw")
_STRINGS = re.compile(r"(?s)#[^\n]*|\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_CALL = re.compile(r"[ \t]*\(")
_QUOTES = re.compile(r"\s*[rRuU]?(\"\"\"|''')")
_COMMENT = re.compile(r"[ \t]*(?://|#(?!include|define|\[)|/\*|\*|--|;;|@|#\[)")
_IMPORT = re.compile(r"[ \t]*(?:import|from|use|using|require|#[ \t]*include|export \{)\b")
_ENCLOSING = re.compile(
    rf"(?m)^(?P<indent>[ \t]*)(?:(?:{_MODIFIERS})[ \t]+)*"
    r"(?:def|class|function\*?|func|fn|fun|impl|struct|trait|interface)"
    rf"[ \t]+(?:\([^)\n]*\)[ \t]*)?(?P<name>{_PART})"
)
_MAX_SIGNATURE, _MAX_UNIT, _MAX_COMMENT_LINES = 600, 800, 12
_MAX_CONTEXT, _CONTEXT_LINES = 1200, 3


@dataclass(frozen=True, kw_only=True)
class SymbolQuestion:
    """What a question wants to know of a name. owner: of a method, "" for none. details: of arguments or results."""

    name: str
    owner: str = ""
    uses: bool = False
    details: bool = False


@dataclass(frozen=True, kw_only=True)
class SymbolPlace:
    """A place in a text: characters start ... end - 1 are quoted, `context` is what stands around them.

    text: its number. inside: the definition that holds it; "" at the top level.
    """

    text: int
    start: int
    end: int
    context: tuple[int, int]
    inside: str = ""


@lru_cache(64)
def symbol_question(question: str) -> SymbolQuestion | None:
    """What a question asks about one name in code; None for any other question.

    A name is known by its form (`read_file`, `readFile`, `read()`, `Reader::read`, back quotes), or by the noun before
    it. A question that says more than what is asked of the name is an ordinary one.
    """
    names = list(dict.fromkeys(_names(question)))
    if len(names) != 1:
        return None
    written, rest = names[0], question.replace("`", " ")
    rest = rest.replace(written + "()", " ").replace(written, " ").lower()
    said = re.findall(r"[^\W_]+", rest)
    if any(word not in FUNCTION_WORDS | QUESTION_WORDS | _ASKED for word in said):
        return None
    *owners, name = re.split(r"\.|::", written)
    uses = bool(_USES.search(rest)) and not _USED_FOR.search(rest)
    owner = owners[-1] if owners else ""
    return SymbolQuestion(name=name, owner=owner, uses=uses, details=bool(_DETAILS.search(rest)))


def _names(question: str) -> Iterator[str]:
    """The names in code that a question holds, without brackets behind them."""
    for quoted, bare in _NAME.findall(question):
        written = quoted.strip() or bare
        is_code = bool(quoted) or (_IN_CODE.search(written) and not _FILE.search(written))
        plain = re.sub(r"\(.*\)$", "", written)
        if is_code and re.fullmatch(rf"{_PART}(?:(?:\.|::){_PART})*", plain):
            yield plain
    for name in _NAMED.findall(question):
        if name.lower() not in FUNCTION_WORDS | QUESTION_WORDS | _ASKED:
            yield name


@dataclass(frozen=True, kw_only=True)
class SymbolPlaces:
    """The places that answer a question about a name.

    places: the first ones. count: of all. are_uses: whether they use the name, and do not define it.
    """

    places: tuple[SymbolPlace, ...]
    count: int
    are_uses: bool


def find_symbol(
    asked: SymbolQuestion, texts: Sequence[str], names: Sequence[str], limit: int | None = None
) -> SymbolPlaces:
    """The places that answer; none where no text defines the name.

    Where a name that is defined is not used, its definitions are given.

    Args:
        asked: the question.
        texts: which are looked at.
        names: of the texts, for `module.function`.
        limit: give the first places; None for all.
    """
    held = {number: text for number, text in enumerate(texts) if asked.name in text}
    defined = _definitions(held, asked)
    if asked.owner:
        owned = [place for place in defined if asked.owner in (place.inside, PurePath(names[place.text]).stem)]
        defined = owned or defined
    used = _uses(held, names, asked, defined) if asked.uses and defined else []
    if not used:
        return SymbolPlaces(places=tuple(defined[:limit]), count=len(defined), are_uses=False)
    places = (_use(held[number], number, *_line(held[number], start)) for number, start in used[:limit])
    return SymbolPlaces(places=tuple(places), count=len(used), are_uses=True)


def _definitions(texts: Mapping[int, str], asked: SymbolQuestion) -> list[SymbolPlace]:
    """Where texts define the name: by a keyword or a C-like head; where none does, by an assignment.

    Quoted are the head of the definition, and the documentation below or above it.
    """
    lines = [
        (number, line)
        for number, text in texts.items()
        for line in dict.fromkeys(start for _, start, _ in _occurrences(text, asked.name))
    ]
    for form in _forms(asked.name):
        found = [(number, match) for number, line in lines if (match := form.match(texts[number], line))]
        if found:
            return [_unit(texts[number], number, match, asked) for number, match in found]
    return []


@lru_cache(16)
def _forms(name: str) -> tuple[re.Pattern[str], ...]:
    name = re.escape(name)
    forms = (
        rf"{_TOP}(?:(?:{_MODIFIERS})[ \t]+)*(?:{_KEYWORDS})[ \t]+(?:\([^)\n]*\)[ \t]*)?(?:mut[ \t]+)?{name}\b",
        rf"{_TOP}{_NO_STATEMENT}(?:[\w:<>,\[\]]+[ \t*&]+)+{name}[ \t]*\({_BLOCK}\{{",
        rf"{_TOP}(?:async[ \t]+)?{name}[ \t]*\([^()\n]*\)[ \t]*\{{",
        rf"{_TOP}{name}[ \t]*(?::[^=\n]+)?=(?![=>])",
    )
    return tuple(map(re.compile, forms))


def _occurrences(text: str, name: str) -> Iterator[tuple[int, int, int]]:
    """Where a name stands, with the first character of its line and the one after the line's last."""
    start = end = -1
    for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text):
        if match.start() >= end:
            start, end = _line(text, match.start())
        yield match.start(), start, end


def _uses(
    texts: Mapping[int, str], names: Sequence[str], asked: SymbolQuestion, defined: Sequence[SymbolPlace]
) -> list[tuple[int, int]]:
    """The lines that call the name or, where none does, that name it; without definitions, imports and comments.

    Returns the number of the text and the first character of each.

    Args:
        texts: by number.
        names: of all texts.
        asked: the name.
        defined: its definitions.
    """
    lines: dict[tuple[int, int], bool] = {}
    for number, text in texts.items():
        strings = _long_strings(text) if names[number].endswith(_PYTHON) else []
        strings += [(place.start, place.end) for place in defined if place.text == number]
        for at, start, end in _occurrences(text, asked.name):
            is_said = any(first <= at < after for first, after in strings)
            if not is_said and not _IMPORT.match(text, start, end) and not _COMMENT.match(text, start, end):
                is_call = _CALL.match(text, at + len(asked.name)) is not None
                lines[number, start] = lines.get((number, start), False) or is_call
    return [line for line, is_call in lines.items() if is_call] or list(lines)


def _line(text: str, at: int) -> tuple[int, int]:
    """The first character of the line at `at`, and the one after its last."""
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end


def _long_strings(text: str) -> list[tuple[int, int]]:
    """The strings in triple quotes of a Python text: first characters and ends."""
    return [match.span() for match in _STRINGS.finditer(text) if match[0].startswith(('"""', "'''"))]


def _unit(text: str, number: int, match: re.Match[str], asked: SymbolQuestion) -> SymbolPlace:
    """A definition with its documentation."""
    start = match.start() + len(match["indent"])
    end = _head_end(text, match.end())
    documented = _docstring_end(text, end, whole=asked.details)
    if documented is not None:
        cut = text.rfind("\n", end, start + _MAX_UNIT)
        end = documented if documented - start <= _MAX_UNIT or cut <= end else cut
    else:
        above = _comment_start(text, match.start())
        start = above if above is not None and end - above <= _MAX_UNIT else start
    start, end = without_space_around(text, start, end)
    return SymbolPlace(
        text=number, start=start, end=end, context=(start, _body_end(text, start, end)), inside=_inside(text, start)
    )


def _body_end(text: str, start: int, end: int) -> int:
    """The end of the quoted definition, as its indentation tells it, or of its first _MAX_CONTEXT characters."""
    line = text.rfind("\n", 0, start) + 1
    indent = len(text[line:start].expandtabs())
    stop = end
    while (newline := text.find("\n", stop)) >= 0:
        following = text.find("\n", newline + 1)
        following = len(text) if following < 0 else following
        content = text[newline + 1 : following]
        is_inside = not content.strip() or len(content) - len(content.lstrip()) > indent or content.strip()[0] in "})]{"
        if not is_inside or following - start > _MAX_CONTEXT:
            break
        stop = following
    return start + len(text[start:stop].rstrip())


def _head_end(text: str, at: int) -> int:
    """The end of the head that goes on at `at`: before a brace or semicolon, behind a colon, or at the line's end."""
    depth, begin = 0, text.rfind("\n", 0, at) + 1
    for i in range(begin, min(len(text), at + _MAX_SIGNATURE)):
        character = text[i]
        is_literal = i >= at and character == "{" and text[begin:i].rstrip(" \t").endswith("=")
        depth += (character in "([" or is_literal) - (character in ")]" or (character == "}" and depth > 0))
        if i < at or depth > 0 or character in ")]}":
            continue
        if character in "{;\n":
            return i
        if character == ":" and text[i + 1 : i + 2] in ("\n", ""):
            return i + 1
    return min(len(text), at + _MAX_SIGNATURE)


def _docstring_end(text: str, at: int, *, whole: bool) -> int | None:
    """The end of the docstring below a head, or of its first paragraph; None without one."""
    opening = _QUOTES.match(text, at)
    if opening is None:
        return None
    close = text.find(opening[1], opening.end())
    if close < 0:
        return None
    paragraph = re.compile(r"\n[ \t]*\n").search(text, opening.end(), close)
    return close if whole or paragraph is None else paragraph.start()


def _comment_start(text: str, at: int) -> int | None:
    """The beginning of the comment, with decorators, right above the line at `at`; None without one."""
    start, line_start = None, at
    for _ in range(_MAX_COMMENT_LINES):
        before = text.rfind("\n", 0, max(0, line_start - 1)) + 1
        if line_start == 0 or not _COMMENT.match(text, before, line_start):
            break
        start = line_start = before
    return start


def _use(text: str, number: int, start: int, end: int) -> SymbolPlace:
    """A line, with some around it as its context."""
    start, end = without_space_around(text, start, end)
    first, last = start, end
    for _ in range(_CONTEXT_LINES + 1):
        first = text.rfind("\n", 0, first)
        last = text.find("\n", last + 1)
        if first < 0 or last < 0:
            break
    context = (max(0, first + 1), len(text) if last < 0 else last)
    return SymbolPlace(text=number, start=start, end=end, context=context, inside=_inside(text, start))


def _inside(text: str, at: int) -> str:
    """The name of the nearest definition above that is less indented."""
    line = text.rfind("\n", 0, at) + 1
    indent = len(text[line:at]) - len(text[line:at].lstrip(" \t")) if text[line:at].strip() else at - line
    starts, indents, names = _outline(text)
    for i in range(bisect_left(starts, line) - 1 if indent else -1, -1, -1):
        if indents[i] < indent:
            return names[i]
    return ""


@lru_cache(4)
def _outline(text: str) -> tuple[list[int], list[int], list[str]]:
    """Where all definitions of a text begin, how far they are indented, and what they define."""
    found = list(_ENCLOSING.finditer(text))
    return [each.start() for each in found], [len(each["indent"]) for each in found], [each["name"] for each in found]
