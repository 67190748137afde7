"""Which encoding made these bytes: the one whose text is most likely in any language that is written in it."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from .decoders import decode_with
from .letter_pairs import language_odds
from .profiles import UNLIKELY, profiles

SAMPLE_BYTES = 16 * 1024
_WEST = (
    "Western", "French", "German", "Spanish", "Portuguese", "Italian", "Swedish", "Danish", "Finnish", "Dutch",
    "Icelandic", "Catalan", "Irish", "Albanian",
)  # fmt: skip
_CENTRAL = ("Czech", "Polish", "Hungarian", "Slovak", "Croatian", "Slovenian", "Romanian", "German")
_BALTIC = ("Lithuanian", "Latvian", "Estonian")
_CYRILLIC = ("Russian", "Ukrainian", "Bulgarian", "Serbian", "Belarusian", "Macedonian")
# (codec, log of its prior, languages): what is left in files today. Of equal candidates the first is taken.
_CANDIDATES: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("cp1252", 0.0, _WEST),
    ("cp1250", -1.0, _CENTRAL),
    ("cp1251", -1.0, _CYRILLIC),
    ("gb18030", -1.0, ("Chinese", "Traditional Chinese")),
    ("cp932", -1.0, ("Japanese",)),
    ("big5hkscs", -1.5, ("Traditional Chinese",)),
    ("cp949", -1.5, ("Korean",)),
    ("euc_jp", -1.5, ("Japanese",)),
    ("iso8859_2", -1.5, _CENTRAL),
    ("cp1254", -1.5, ("Turkish",)),
    ("koi8_r", -1.5, _CYRILLIC),
    ("koi8_u", -1.5, _CYRILLIC),
    ("cp1253", -1.5, ("Greek",)),
    ("cp1255", -1.5, ("Hebrew",)),
    ("cp1256", -1.5, ("Arabic", "Persian")),
    ("cp1257", -1.5, _BALTIC),
    ("cp874", -1.5, ("Thai",)),
    ("iso8859_7", -2.0, ("Greek",)),
    ("iso8859_15", -2.5, _WEST),
    ("cp1258", -2.5, ("Vietnamese",)),
    ("cp866", -2.0, _CYRILLIC),
    ("iso8859_5", -2.5, _CYRILLIC),
    ("mac_roman", -6.0, _WEST),
    ("cp850", -6.0, _WEST),
    ("cp437", -6.5, _WEST),
    ("cp852", -6.5, _CENTRAL),
    ("mac_cyrillic", -3.0, _CYRILLIC),
    ("iso8859_6", -3.0, ("Arabic",)),
    ("iso8859_8", -3.0, ("Hebrew",)),
    ("iso8859_13", -3.0, _BALTIC),
    ("iso8859_16", -3.5, ("Romanian",)),
    ("iso8859_3", -7.0, ("Esperanto", "Maltese", "Turkish")),
    ("cp737", -3.5, ("Greek",)),
    ("cp857", -7.0, ("Turkish",)),
    ("cp862", -3.5, ("Hebrew",)),
)
_UTF16 = (("utf-16-le", -1.0), ("utf-16-be", -1.5))
_ASCII_COST = {**{chr(code): -14.0 for code in range(32)}, "\n": -2.0, "\r": -2.0, "\t": -3.0, " ": -1.8, "\x7f": -14.0}
_BROKEN = -20.0
_CAPITALS = -6.0
_MAX_CAPITALS = 120
# "Western" has the letters of all its languages: likelier for a text that mixes them, and for no other
_LANGUAGE_COST = {"Western": -4.0}
_WORD = re.compile(r"[^\W\d_]+")
_REPEATED_LETTER = re.compile(r"([^\W\d_\x00-\x7f])\1{3,}")
_REPEATED_RULE = re.compile("([─═│║░▒▓█■▀▄])(?=\\1)")
# signs that end a word or stand alone, directly in front of a word
_SIGN_BEFORE_WORD = re.compile(r"(?:^|\s)(?:[’—”‡†€©®™…°·]|‘(?![^’]{0,200}’))(?=[^\W\d_])")
_CJK = r"[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]"
# one ideograph in a Latin word: two of its bytes were letters of an alphabet
_IDEOGRAPH_IN_WORD = re.compile(
    rf"(?<=[a-z]){_CJK}{{1,2}}(?=[a-z])|(?<!{_CJK}){_CJK}(?=[a-z])|(?<=[a-z]){_CJK}(?!{_CJK})"
)
_FINAL_FORM_INSIDE = re.compile("[ךםןףץς](?=[א-תα-ω])")
_CAPITAL_BEFORE_NAME = re.compile(r"\b[^\W\d_\x00-\x7f](?=[A-Z][a-z])")
# Thai, Hebrew, Arabic, Greek: one letter between Latin words
_LONE_LETTER = re.compile(r"(?:^|(?<=[\s\x00-\x40]))[\u0370-\u0e7f](?=[\x00-\x40]|$)(?<=[^\W\d_])")
_LATIN_WORD = re.compile(r"(?<![^\x00-\x40])[A-Za-z]{2,}(?![^\x00-\x40])")
_LETTER_AND_NUMBER = re.compile(r"(?<![^\W\d_])[\u0080-\u058f](?<=[^\W\d_])(?=\d)")
_SIGN_IN_WORD = re.compile(
    r"(?<=[^\W\d_])[^\w\s\x00-\x7f\u0300-\u036f\u00ad’‘·—–…\u200c\u200d\u0e31-\u0e4e](?=[^\W\d_])"
)
# possessive and anchored: otherwise a long line takes quadratic time
_LINE_BEYOND_ASCII = re.compile(rb"^[^\n\x80-\xff]*+[\x80-\xff][^\n]*+\n?", re.MULTILINE)


def guess_codec(data: bytes, *, utf16: bool = True) -> str:
    """Return the Python codec whose text of `data` is most likely. utf16: UTF-16 without a BOM is possible too."""
    sample = _sample(data)
    odds = language_odds(sample)
    best, best_score = "cp1252", -float("inf")
    for codec, prior, languages in _CANDIDATES:
        score = prior + likelihood(decode_with(sample, codec), languages, odds)
        if score > best_score:
            best, best_score = codec, score
    if utf16 and len(data) >= 4:
        head = data[: SAMPLE_BYTES // 2 * 2]
        # the sample of lines is no whole number of UTF-16 units: compare on the head of the file instead
        baseline = (
            best_score
            if sample == head
            else max(prior + likelihood(decode_with(head, codec), languages) for codec, prior, languages in _CANDIDATES)
        )
        for codec, prior in _UTF16:
            score = prior + likelihood(decode_with(head, codec), tuple(profiles()))
            if score > baseline:
                best, baseline = codec, score
    return best


def likelihood(text: str, languages: tuple[str, ...], odds: Mapping[str, float] = MappingProxyType({})) -> float:
    """Return the log-likelihood of `text` in the most likely of these languages (keys of `profiles`).

    odds: language -> log of its odds by what is known beside this text (see `language_odds`), 0 if missing.
    """
    counts = Counter(text)
    shouting = 0.0
    if len(counts) < _MAX_CAPITALS and _is_in_capitals(counts):
        counts = Counter(text.lower())
        shouting = _CAPITALS
    fixed = _BROKEN * counts.pop("\ufffd", 0)
    for char in [char for char in counts if char.isascii()]:
        fixed += _ASCII_COST.get(char, -3.0) * counts.pop(char)
    tables = profiles()
    best = max(
        _LANGUAGE_COST.get(name, 0.0)
        + odds.get(name, 0.0)
        + sum(_cost(tables[name], char) * count for char, count in counts.items())
        for name in languages
    )
    return fixed + shouting + best + _penalties(text)


def _is_in_capitals(counts: Counter[str]) -> bool:
    """Whether there are capitals beyond ASCII, and no small letters beyond ASCII."""
    beyond = [char for char in counts if char > "\x7f"]
    return any(char.isupper() for char in beyond) and not any(char.islower() for char in beyond)


def _cost(table: dict[str, float], char: str) -> float:
    try:
        return table[char]
    except KeyError:
        return -24.0 if not char.isprintable() and char != "\u3000" else UNLIKELY


def _penalties(text: str) -> float:
    """Costs of what no language writes: signs and capitals inside words, and words of two scripts."""
    penalty = -4.0 * len(_SIGN_IN_WORD.findall(text)) - 2.0 * len(_SIGN_BEFORE_WORD.findall(text))
    penalty -= 3.0 * len(_IDEOGRAPH_IN_WORD.findall(text))
    penalty -= 4.0 * len(_FINAL_FORM_INSIDE.findall(text)) + 4.0 * len(_CAPITAL_BEFORE_NAME.findall(text))
    if _LATIN_WORD.search(text):
        penalty -= 3.0 * len(_LONE_LETTER.findall(text))
    penalty -= sum(8.0 * (len(run[0]) - 3) for run in _REPEATED_LETTER.finditer(text))
    penalty += 5.0 * len(_REPEATED_RULE.findall(text))
    penalty -= 4.0 * len(_LETTER_AND_NUMBER.findall(text))
    for word in _WORD.findall(text):
        if word.isascii():
            continue
        if not (word.islower() or word.isupper() or word[1:].islower()):
            # a capital after a small letter; scripts without capitals never get here with a mixed count
            penalty -= 3.0 * sum(
                left.islower() and right.isupper() and not (left.isascii() and right.isascii())
                for left, right in itertools.pairwise(word)
            )
        if word[0] > "\x7f" and word[0].isupper() and word[1:].islower():
            penalty += 1.0  # a capital is as frequent at the start of a word as it is rare elsewhere
        has_latin = any(char < "\u0250" for char in word)
        if has_latin:
            penalty -= 6.0 * any("\u0370" <= char < "\u0e80" for char in word)
    return penalty


def _sample(data: bytes) -> bytes:
    """A short file whole; of a long one the lines with bytes beyond ASCII, up to `SAMPLE_BYTES`."""
    if len(data) <= SAMPLE_BYTES:
        return data
    lines: list[bytes] = []
    size = 0
    for line in _LINE_BEYOND_ASCII.finditer(data):
        lines.append(line[0][: SAMPLE_BYTES - size])
        size += len(lines[-1])
        if size >= SAMPLE_BYTES:
            break
    return b"".join(lines)
