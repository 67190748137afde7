"""The text of a line from its spans: raised and lowered characters are kept apart from their base."""

import re
from collections import defaultdict
from typing import Any

_IS_SYNTHETIC = 512  # FZ_STEXT_SYNTHETIC: a space that the file does not have
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_CAN_RAISE = re.compile(r"[0-9+\-−=()ni]+(?:[,;*] ?[0-9]+)*")
_LAST_WORD = re.compile(r"[^\W_]+$|\S$")
_CAN_LOWER = re.compile(r"[0-9+\-−=()]+")
_EXPONENT = re.compile(r"(?=.*\w)[+\-−]?[\w.,;/+\-−*∗†‡]+")
_MARKS = frozenset(",;*∗†‡")
_ORDINAL = re.compile(r"(?:st|nd|rd|th|er|re|r|e|o|a|º|ª|ème|ère|ers|mo|ma|me|lle|tm|sm)s?", re.IGNORECASE)


def main_span(spans: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the span of the size that takes most of the area: the `10` of `10⁻²⁴`, though its exponent is longer."""
    num_chars: dict[float, int] = defaultdict(int)
    for span in spans:
        num_chars[span["size"]] += len(span["text"])
    if len(num_chars) == 1:
        return spans[0]
    size = max(num_chars, key=lambda size: num_chars[size] * size * size)
    return next(span for span in spans if span["size"] == size)


def spans_text(spans: list[dict[str, Any]], *, is_level: bool) -> str:
    """Return the joined text of spans.

    Smaller spans above or below the baseline become raised or lowered characters, and so do digits of the same size.
    is_level: whether the line is written from left to right; heights say nothing about a rotated one.
    """
    if len({span["size"] for span in spans}) == 1:
        if not is_level or len({round(span["origin"][1]) for span in spans}) == 1:
            return "".join([span["text"] for span in spans])
        return _raised_digits(spans)
    size = main_span(spans)["size"]
    baseline = main_baseline(spans, size)
    spans = _joined(spans, size)
    pieces: list[str] = []
    for number, span in enumerate(spans):
        text = span["text"]
        if span["char_flags"] & _IS_SYNTHETIC and 0 < number < len(spans) - 1:
            before, after = spans[number - 1], spans[number + 1]
            if before["size"] != after["size"] and after["bbox"][0] - before["bbox"][2] < 0.15 * size:
                continue
        if span["size"] < 0.88 * size and text.strip():
            rise = baseline - span["origin"][1]
            base = "".join(pieces[-3:])
            if rise > 0.12 * size:
                text = raised(text, base)
            elif rise < -0.06 * size:
                text = _lowered(text, base[-1:])
        if text:
            pieces.append(text)
    return "".join(pieces)


def main_baseline(spans: list[dict[str, Any]], size: float) -> float:
    """Return the height of most characters of a size: signs of sums and roots hang below a height of their own.

    A span that begins with the space behind such a sign, or behind a raised character, has the height of what is
    before it, but its box ends below its own characters.
    """
    num_chars: dict[float, int] = defaultdict(int)
    for span in spans:
        if span["size"] == size and not span["char_flags"] & _IS_SYNTHETIC:
            height = span["origin"][1]
            if span["text"][:1] == " ":
                foot = span["bbox"][3] + span["descender"] * size
                height = foot if foot > height + 0.12 * size else height
            num_chars[height] += len(span["text"].strip())
    return max(num_chars, key=lambda height: (num_chars[height], height)) if num_chars else spans[0]["origin"][1]


def _joined(spans: list[dict[str, Any]], size: float) -> list[dict[str, Any]]:
    """Join small spans at one height around commas and stars, as in the `a,b,*` behind the name of an author."""
    joined = spans[:1]
    for span in spans[1:]:
        last = joined[-1]
        if (
            max(last["size"], span["size"]) < 0.88 * size
            and abs(last["origin"][1] - span["origin"][1]) < 0.05 * size
            and not (last["char_flags"] | span["char_flags"]) & _IS_SYNTHETIC
            and (span["text"].strip() in _MARKS or last["text"].strip()[-1:] in _MARKS)
        ):
            box = (*last["bbox"][:2], *span["bbox"][2:])
            joined[-1] = {**last, "text": last["text"] + span["text"], "bbox": box}
        else:
            joined.append(span)
    return joined


def _raised_digits(spans: list[dict[str, Any]]) -> str:
    """Join spans of one size: digits above or below the baseline of most characters are raised or lowered."""
    num_chars: dict[float, int] = defaultdict(int)
    for span in spans:
        num_chars[round(span["origin"][1], 1)] += len(span["text"])
    baseline, size = max(num_chars, key=lambda height: num_chars[height]), spans[0]["size"]
    pieces: list[str] = []
    for span in spans:
        text, rise = span["text"], baseline - span["origin"][1]
        if _CAN_LOWER.fullmatch(text.strip()) and abs(rise) > 0.15 * size:
            text = text.translate(_RAISED if rise > 0 else _LOWERED)
        pieces.append(text)
    return "".join(pieces)


def raised(text: str, before: str) -> str:
    """`10` and a raised `6` as `10⁶`; what has no raised form as `e^kt`; ordinals and marks of notes as they are.

    before: the text in front of it.
    """
    core = text.strip()
    if _CAN_RAISE.fullmatch(core) and not core.isalpha():
        return text.translate(_RAISED)
    word = _LAST_WORD.search(before)
    if not word or not _EXPONENT.fullmatch(core):
        return text
    if _ORDINAL.fullmatch(core) and (word[0][-1].isdigit() or len(word[0]) <= 2):
        return text
    return text.translate(_RAISED) if core in "ni" else "^" + text.lstrip()


def _lowered(text: str, before: str) -> str:
    """`H`, a lowered `2` and `O` as `H₂O`; letters as `x_max`."""
    if _CAN_LOWER.fullmatch(text.strip()):
        return text.translate(_LOWERED)
    if before.isalnum() and text[0].isalnum():
        return "_" + text
    return text
