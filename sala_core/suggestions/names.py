"""The people and places of a story: names in the middle of sentences, told apart by the words around them."""

import re
from collections import Counter
from dataclasses import dataclass

_TITLES = (
    "Mr|Mrs|Ms|Miss|Dr|Sir|Lady|Lord|Captain|Colonel|Major|General|Count|Countess|Prince|Princess|King|Queen|Madame|"
    "Monsieur|Father|Uncle|Aunt|Inspector|Professor|Judge|Duke|Duchess|Baron|Saint|Don|Squire|Doctor"
)
_NAME = re.compile(
    rf"(?:(?:{_TITLES})\.?[ \n])?[A-Z][a-zà-ÿ]+(?:['’-][A-Z][a-zà-ÿ]+)*(?:[ \n](?:de|von|van|la|of)(?=[ \n][A-Z]))?"
    r"(?:[ \n][A-Z][a-zà-ÿ]+){0,2}"
)
_TITLE = re.compile(rf"(?:{_TITLES})\b\.?")
_WORD = re.compile(r"[A-Za-zà-ÿÀ-Þ]+")
_ENDS = frozenset(".!?:;\"“”‘’'_—-–*()[]")
_VERBS = re.compile(
    r"[ \n,]{1,2}(?:thought|looked|felt|smiled|knew|saw|went|came|took|had|was|did|could|would|began|turned|stood|sat|"
    r"returned|wished|gave)\b"
)
_SPEAKING = re.compile(
    r"[ \n,]{1,2}(?:said|replied|cried|asked|answered|exclaimed|added|continued|whispered|murmured|thought)\b"
)
_SPEAKS = re.compile(r"\b(?:said|replied|cried|asked|answered|exclaimed|added|returned)[ \n]$")
_AT = re.compile(r"\b(?:in|at|near|from|to|into|towards|toward|of|leave|left|reached|visit|around)[ \n]$")
_NOT_NAMES_TEXT = """
    Chapter Volume Book Part Project Gutenberg English French German Latin Greek Roman Italian Spanish American
    British Russian Dutch Irish Scotch Christian Christmas Easter Monday Tuesday Wednesday Thursday Friday
    Saturday Sunday January February March April May June July August September October November December God
    Heaven Lord Sir Madam Lady Miss Mrs Mr Dr Captain Majesty Honour Honor Highness Ladyship Lordship Nature
    Providence Illustration Preface Contents Four Five Six Seven Eight Nine Ten The And But Not Yes Oh Ah Well
    Here There Then Now This That What Who When Where Why How If He She They We You His Her My Our Your Their It
    All Some One Two Three First Second No Nay Good Dear Come Let Never Only Even
"""
_NOT_NAMES = frozenset(_NOT_NAMES_TEXT.split())
_WINDOW = 24
_MIN_COUNT = 4


@dataclass(frozen=True, kw_only=True)
class Name:
    """A name in a text, and how often it stands there."""

    text: str
    count: int
    is_person: bool
    is_place: bool


def find_names(text: str) -> list[Name]:
    """The names of a text in English, the most frequent first. A longer form takes the place of its parts."""
    lower = Counter(word for word in _WORD.findall(text) if word.islower())
    counts: Counter[str] = Counter()
    people: Counter[str] = Counter()
    speakers: Counter[str] = Counter()
    places: Counter[str] = Counter()
    things: Counter[str] = Counter()
    owners: Counter[str] = Counter()
    for match in _NAME.finditer(text):
        name, start = " ".join(match[0].split()), match.start()
        before = text[max(0, start - _WINDOW) : start]
        is_titled = _TITLE.match(name) is not None and " " in name
        if not is_titled and _begins_sentence(before):
            continue
        if any(_is_common(word, lower) for word in name.split() if not _TITLE.fullmatch(word)):
            continue
        counts[name] += 1
        is_speaking = _SPEAKS.search(before) or _SPEAKING.match(text, match.end())
        speakers[name] += bool(is_titled or is_speaking)
        people[name] += bool(is_titled or is_speaking or _VERBS.match(text, match.end()))
        places[name] += bool(not is_titled and _AT.search(before))
        things[name] += before.endswith(("the ", "The ", "a ", "an ", "the\n"))
        owners[name] += text.startswith(("'s", "’s"), match.end())
    found = [
        Name(
            text=name,
            count=count,
            is_person=people[name] * 5 >= count
            and things[name] * 5 < count
            and (places[name] * 2 < count or speakers[name] * 10 >= count),
            is_place=speakers[name] * 20 < count
            and places[name] * 2 >= count
            and things[name] * 5 < count
            and owners[name] * 5 < count,
        )
        for name, count in counts.most_common(400)
        if count >= _MIN_COUNT
    ]
    return _merged(found)


def _begins_sentence(before: str) -> bool:
    stripped = before.rstrip(" \n\t")
    return not stripped or stripped[-1] in _ENDS or before.endswith("\n\n")


def _is_common(word: str, lower: Counter[str]) -> bool:
    """Whether a word is also written small, so that its capital says nothing, or is known to name nobody."""
    return (
        word in _NOT_NAMES
        or len(word) < 3
        or (lower[word.lower()] >= 2 and word not in ("of", "de", "von", "van", "la"))
    )


def _merged(names: list[Name]) -> list[Name]:
    """Leave out a name that is a part of a longer one which stands nearly as often, or of one that is kept already."""
    kept: list[Name] = []
    for name in sorted(names, key=lambda one: (-one.count, -len(one.text))):
        if any(_own(name) & _own(other) for other in kept):
            continue
        longer = [other for other in names if _own(name) < _own(other) and other.count * 6 >= name.count]
        kept.append(max(longer, key=lambda other: other.count) if longer and name.is_person else name)
    return list(dict.fromkeys(kept))


def _own(name: Name) -> set[str]:
    """The words of a name without its title."""
    return {word for word in name.text.split() if not _TITLE.fullmatch(word) and word[0].isupper()}
