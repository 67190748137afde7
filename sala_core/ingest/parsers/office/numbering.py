"""The numbers of numbered paragraphs in Word documents, as Word shows them (ECMA-376 part 1, section 17.9)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..html.lists import numeral
from .symbols import is_symbol_font
from .xml_tree import Node

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_DIGITS = {
    "japaneseCounting": "〇一二三四五六七八九", "chineseCounting": "○一二三四五六七八九",
    "chineseCountingThousand": "○一二三四五六七八九", "taiwaneseCountingThousand": "○一二三四五六七八九",
    "ideographDigital": "〇一二三四五六七八九", "koreanCounting": "영일이삼사오육칠팔구",
}  # fmt: skip
_SEQUENCES = {
    "russianLower": "абвгдежзиклмнопрстуфхцчшщыэюя", "russianUpper": "АБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЩЫЭЮЯ",
    "aiueoFullWidth": "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン",
    "aiueo": "ｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾊﾋﾌﾍﾎﾏﾐﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜｦﾝ",
    "irohaFullWidth": "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセス",
    "ideographTraditional": "甲乙丙丁戊己庚辛壬癸", "ideographZodiac": "子丑寅卯辰巳午未申酉戌亥",
    "ganada": "가나다라마바사아자차카타파하", "chosung": "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ",
    "hebrew2": "אבגדהוזחטיכלמנסעפצקרשת", "arabicAlpha": "أبتثجحخدذرزسشصضطظعغفقكلمنهوي", "chicago": "*†‡§",
    "arabicAbjad": "أبجدهوزحطيكلمنسعفصقرشتثخذضظغ", "thaiLetters": "กขคงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ",
}  # fmt: skip
_REPEATED = frozenset({"chicago", "russianLower", "russianUpper"})
_MAX_LEVELS = 9


def number_text(value: int, kind: str) -> str:
    """Return a number as a format of Word shows it (`ST_NumberFormat`); in digits if the format is not known."""
    match kind:
        case "none":
            return ""
        case "lowerRoman" | "upperRoman":
            return numeral(value, "i" if kind == "lowerRoman" else "I")
        case "lowerLetter" | "upperLetter" if value > 0:
            letter = chr(ord("a" if kind == "lowerLetter" else "A") + (value - 1) % 26)
            return letter * min((value - 1) // 26 + 1, 30)  # aa, bb: Word repeats the letter
        case "decimalZero":
            return f"{value:02}"
        case "ordinal":
            suffix = {1: "st", 2: "nd", 3: "rd"}.get(value % 10 if value % 100 not in (11, 12, 13) else 0, "th")
            return f"{value}{suffix}"
        case "cardinalText":
            return _cardinal(value).capitalize()
        case "ordinalText":
            head, dash, last = _cardinal(value).rpartition("-" if "-" in _cardinal(value) else " ")
            ordinal = _ORDINALS.get(last) or (last.removesuffix("y") + "ieth" if last.endswith("y") else last + "th")
            return f"{head}{dash}{ordinal}".capitalize()
        case "decimalEnclosedCircle" | "decimalEnclosedCircleChinese" if 0 < value <= 20:
            return chr(0x245F + value)
        case "decimalEnclosedParen" if 0 < value <= 20:
            return chr(0x2473 + value)
        case "decimalFullWidth" | "decimalFullWidth2":
            return str(value).translate({ord("0") + i: chr(0xFF10 + i) for i in range(10)})
        case "numberInDash":
            return f"- {value} -"
    if kind in _DIGITS and value > 0:
        return _ideographs(value, _DIGITS[kind], places=kind != "ideographDigital")
    if (sequence := _SEQUENCES.get(kind)) and value > 0:
        letter = sequence[(value - 1) % len(sequence)]
        return letter * (min((value - 1) // len(sequence) + 1, 30) if kind in _REPEATED else 1)
    return str(value)


def _cardinal(value: int) -> str:
    if not 0 <= value < 1000:
        return str(value)
    if value >= 100:
        rest = f" {_cardinal(value % 100)}" if value % 100 else ""
        return f"{_ONES[value // 100]} hundred{rest}"
    if value < 20:
        return _ONES[value]
    return _TENS[value // 10] + (f"-{_ONES[value % 10]}" if value % 10 else "")


def _ideographs(value: int, digits: str, *, places: bool) -> str:
    if not places or value >= 10_000:
        return "".join(digits[int(digit)] for digit in str(value))
    text = ""
    for power, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, value = divmod(value, power)
        if digit:
            text += ("" if digit == 1 and power == 10 and not text else digits[digit]) + name
    return text


@dataclass(kw_only=True)
class _Level:
    start: int = 1
    kind: str = "decimal"
    text: str = ""
    restart: int | None = None
    is_legal: bool = False
    style: str = ""


@dataclass(kw_only=True)
class _Numbering:
    """One `w:num`. counter: that of its abstract numbering, which several share. starts: levels that start anew."""

    levels: dict[int, _Level]
    counter: dict[int, int]
    starts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """The numbers of all lists of a document, while its paragraphs are read in order."""

    def __init__(self, root: Node | None) -> None:
        """root: of `numbering.xml`."""
        self._nums: dict[str, _Numbering] = {}
        self.by_style: dict[str, tuple[str, int]] = {}
        """Style id -> (number id, level) of a style that a level names."""
        if root is None:
            return
        abstract = {node.get("abstractNumId"): node for node in root.all("w:abstractNum")}
        by_link = {link.get("val"): node for node in abstract.values() if (link := node.child("w:styleLink"))}
        counters: dict[str, dict[int, int]] = {}
        for num in root.all("w:num"):
            reference = num.child("w:abstractNumId")
            key = reference.get("val") if reference else ""
            base = abstract.get(key)
            if base is not None and (link := base.child("w:numStyleLink")):
                base = by_link.get(link.get("val"), base)
            levels = _levels(base) if base else {}
            numbering = _Numbering(levels=levels, counter=counters.setdefault(key, {}))
            for override in num.all("w:lvlOverride"):
                level = _integer(override.get("ilvl"), 0)
                if (own := override.child("w:lvl")) is not None:
                    levels[level] = _level(own)
                if (start := override.child("w:startOverride")) is not None:
                    numbering.starts[level] = _integer(start.get("val"), 1)
            self._nums[num.get("numId")] = numbering
            for index, found in levels.items():
                if found.style:
                    self.by_style.setdefault(found.style, (num.get("numId"), index))

    def mark(self, num_id: str, level: int) -> str | None:
        """Count one paragraph and return what stands before it; None if it has no number and no bullet."""
        numbering = self._nums.get(num_id)
        if numbering is None or not 0 <= level < _MAX_LEVELS:
            return None
        found = numbering.levels.get(level) or _Level(text=f"%{level + 1}.")
        counter = numbering.counter
        if level in numbering.starts:
            counter[level] = numbering.starts.pop(level) - 1
        elif level not in counter:
            counter[level] = found.start - 1
        counter[level] += 1
        for deeper in [key for key in counter if key > level]:
            restart = (numbering.levels.get(deeper) or _Level()).restart
            if restart is None or level < restart:
                del counter[deeper]
        if found.kind == "bullet":
            return "-"
        if found.kind == "none" and "%" not in found.text:
            return found.text.strip() or None
        return _filled(found, numbering).strip() or None


def _filled(level: _Level, numbering: _Numbering) -> str:
    """The text of a level with the numbers of its own and outer levels."""

    def shown(index: int) -> str:
        other = numbering.levels.get(index) or _Level()
        kind = "decimal" if level.is_legal and other.kind not in ("none", "decimalZero") else other.kind
        return number_text(numbering.counter.setdefault(index, other.start), kind)

    return _replaced(level.text, shown)


def _replaced(text: str, shown: Callable[[int], str]) -> str:
    for index in range(_MAX_LEVELS):
        if f"%{index + 1}" in text:
            text = text.replace(f"%{index + 1}", shown(index))
    return text


def _levels(abstract: Node) -> dict[int, _Level]:
    return {_integer(node.get("ilvl"), index): _level(node) for index, node in enumerate(abstract.all("w:lvl"))}


def _level(node: Node) -> _Level:
    def value(name: str, default: str = "") -> str:
        found = node.child(name)
        return found.get("val", default) if found else default

    text = value("w:lvlText")
    kind = value("w:numFmt", "decimal")
    fonts = node.child("w:rPr", "w:rFonts")
    if kind != "bullet" and fonts and is_symbol_font(fonts.get("ascii")) and "%" not in text:
        kind = "bullet"
    restart = node.child("w:lvlRestart")
    legal = node.child("w:isLgl")
    return _Level(
        start=_integer(value("w:start", "1"), 1),
        kind=kind,
        text=text,
        restart=_integer(restart.get("val"), 0) if restart else None,
        is_legal=legal is not None and legal.get("val", "1") not in ("0", "false", "off"),
        style=value("w:pStyle"),
    )


def _integer(text: str, default: int) -> int:
    try:
        return max(-(10**9), min(int(text), 10**9))
    except ValueError:
        return default
