"""Numbers as a spreadsheet shows them, by the format code of their cell (ECMA-376 part 1, section 18.8.30-31)."""

import datetime
import re
from fractions import Fraction
from functools import lru_cache

BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?",
    13: "# ??/??", 14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM",
    20: "h:mm", 21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 37: "#,##0 ;(#,##0)", 38: "#,##0 ;(#,##0)",
    39: "#,##0.00;(#,##0.00)", 40: "#,##0.00;(#,##0.00)", 41: "#,##0", 42: '"$"#,##0', 43: "#,##0.00",
    44: '"$"#,##0.00',
    45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0", 49: "@",
    **{code: "yyyy-mm-dd" for code in (27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58)},
    **{code: "h:mm:ss" for code in (32, 33, 34, 35, 55, 56)},
}  # fmt: skip
"""Formats that files name by number alone. Dates whose order depends on the reader's country are in ISO order."""

_TOKEN = re.compile(
    r'"(?P<text>[^"]*)"?|\\(?P<escaped>.)|_(?P<width>.)|\*(?P<fill>.)|\[\$(?P<currency>[^\]-]*)[^\]]*\]'
    r"|\[(?P<bracket>[^\]]*)\]|(?P<ampm>AM/PM|A/P)|(?P<general>General)|(?P<exponent>E[+-])"
    r"|(?P<date>y+|m+|d+|h+|s+|e+|g+)|(?P<digit>[0#?])|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(-?[\d.]+)\]")
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MAX_SERIAL = 2_958_466.0  # 9999-12-31
_ELAPSED = ("h", "hh", "m", "mm", "s", "ss")

Token = tuple[str, str]


def shown_number(value: float, code: str, *, is_1904: bool = False) -> str:
    """Return a number as a cell with this format code shows it. is_1904: the workbook counts days from 1904."""
    if code in ("", "General", "@"):
        return general(value)
    section, value, is_signed = _section(code, value)
    tokens = _tokens(section)
    kinds = {kind for kind, _ in tokens}
    if "date" in kinds or "elapsed" in kinds:
        return _date(value, tokens, is_1904=is_1904)
    sign = "-" if is_signed and value < 0 else ""
    if not kinds & {"digit", "general"}:
        text = _literals(tokens)
        return sign + text if text.strip() else general(value)  # a format that hides the value
    return _number(abs(value), tokens, section, sign)


def is_date_format(code: str) -> bool:
    """Whether a format code shows a number as a date or a time."""
    return code not in ("", "General", "@") and any(k in ("date", "elapsed") for k, _ in _tokens(_sections(code)[0]))


def shown_text(text: str, code: str) -> str:
    """Return a text as a cell with this format code shows it."""
    sections = _sections(code)
    if len(sections) < 4 or "@" not in sections[3]:
        if not (len(sections) == 1 and "@" in code and code != "@"):
            return text
        sections = ("", "", "", code)
    return "".join(text if (k, v) == ("other", "@") else v for k, v in _tokens(sections[3]) if k in ("text", "other"))


def general(value: float) -> str:
    """Return a number as a cell without a format shows it, in up to 11 digits: 3.3000000000000003 is 3.3."""
    if value == int(value) and abs(value) < 1e11:
        return str(int(value))
    text = f"{value:.11g}" if 1e-4 <= abs(value) < 1e11 else f"{value:.6G}"
    mantissa, mark, exponent = text.upper().partition("E")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}E{exponent}" if mark else mantissa


@lru_cache(maxsize=512)
def _sections(code: str) -> tuple[str, ...]:
    """The parts of a code for positive and negative numbers, zero and text, cut at semicolons outside of quotes."""
    pieces = re.findall(r'(?:"[^"]*"?|\\.|\[[^\]]*\]|[^;"\\\[]|\[)*;?', code, re.DOTALL)
    return tuple(piece.removesuffix(";") for piece in pieces[: code.count(";") + 1])


@lru_cache(maxsize=2048)
def _tokens(section: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for match in _TOKEN.finditer(section):
        kind, value = next((k, v) for k, v in match.groupdict().items() if v is not None)
        if kind == "escaped" or kind == "currency":
            kind = "text"
        elif kind == "width":
            kind, value = "text", " "
        elif kind == "bracket":
            if value.lower() not in _ELAPSED:
                continue
            kind, value = "elapsed", value.lower()
        elif kind == "fill":
            continue
        elif kind in ("date", "ampm"):
            value = value.lower() if kind == "date" else value
            kind = "date"
        tokens.append((kind, value))
    return tuple(tokens)


def _section(code: str, value: float) -> tuple[str, float, bool]:
    """(the section for a value, the value, whether a minus sign has to be added)."""
    sections = _sections(code)
    numbers = sections[:3]
    conditions = [_CONDITION.search(section) for section in numbers]
    if any(conditions):
        for section, condition in zip(numbers, conditions, strict=True):
            if condition is None or _holds(value, condition[1], float(condition[2] or 0)):
                return section, value, True
        return numbers[-1], value, True
    if len(numbers) >= 3 and value == 0:
        return numbers[2], value, False
    if len(numbers) >= 2 and value < 0:
        return numbers[1], -value, False
    return numbers[0], value, True


def _holds(value: float, operator: str, limit: float) -> bool:
    return {
        "<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit, "=": value == limit,
        "<>": value != limit,
    }[operator]  # fmt: skip


def _literals(tokens: tuple[Token, ...]) -> str:
    return "".join(value for kind, value in tokens if kind in ("text", "other"))


def _number(value: float, tokens: tuple[Token, ...], section: str, sign: str) -> str:
    if any(kind == "general" for kind, _ in tokens):
        return sign + "".join(
            general(value) if k == "general" else v for k, v in tokens if k in ("general", "text", "other")
        )
    value *= 100 ** sum(1 for token in tokens if token == ("other", "%"))
    first = next(i for i, token in enumerate(tokens) if token[0] == "digit")
    last = max(i for i, token in enumerate(tokens) if token[0] == "digit")
    core = tokens[first : last + 1]
    if first and tokens[first - 1] == ("other", "."):
        first -= 1
        core = tokens[first : last + 1]
    after = last + 1
    while after < len(tokens) and tokens[after] == ("other", ","):
        value /= 1000
        after += 1
    if any(kind == "exponent" for kind, _ in core):
        text = _scientific(value, core)
    elif ("other", "/") in core:
        text = _fraction(value, core)
    else:
        text = _decimal(value, core)
    if not any(char in "123456789" for char in text):
        sign = ""
    return f"{_literals(tokens[:first])}{sign}{text}{_literals(tokens[after:])}".strip()


def _decimal(value: float, core: tuple[Token, ...]) -> str:
    point = core.index(("other", ".")) if ("other", ".") in core else len(core)
    whole, part = core[:point], core[point + 1 :]
    places = [v for k, v in part if k == "digit"]
    has_commas = any(token == ("other", ",") for token in whole)
    text = f"{_rounded(value, len(places))}"
    digits, _, decimals = text.partition(".")
    required = sum(1 for token in whole if token == ("digit", "0"))
    digits = digits.lstrip("0").rjust(required, "0")
    inner = [t for t in whole if t != ("other", ",")]
    if any(kind != "digit" for kind, _ in inner):
        digits = _interleaved(digits, inner)
    elif has_commas and digits:
        digits = f"{int(digits):,}".rjust(required, "0") if len(digits) >= required else digits
    while decimals and places and places[-1] != "0" and decimals.endswith("0"):
        decimals, places = decimals[:-1], places[:-1]
    shown = "." if point < len(core) and (decimals or ("digit", "0") in part) else ""
    marks = iter(decimals)
    tail = "".join(next(marks, "") if k == "digit" else v for k, v in part)
    return f"{digits}{shown}{tail}" or ("0" if not part else "")


def _interleaved(digits: str, tokens: list[Token]) -> str:
    """Digits with the characters between their places, as in a telephone number: 000-0000."""
    text, left = "", digits
    for index in range(len(tokens) - 1, -1, -1):
        kind, value = tokens[index]
        if kind != "digit":
            text = value + text if left or any(v == "0" for k, v in tokens[:index] if k == "digit") else text
        elif any(k == "digit" for k, _ in tokens[:index]):
            text, left = left[-1:] + text, left[:-1]
        else:
            text, left = left + text, ""
    return text


def _rounded(value: float, places: int) -> str:
    """Half away from zero, by the digits that are shown: 0.285 in two places is 0.29."""
    exact = Fraction(repr(value)) if abs(value) < 1e15 else Fraction(value)
    scaled = int(exact * 10**places + Fraction(1, 2))
    text = str(scaled).rjust(places + 1, "0")
    return f"{text[:-places]}.{text[-places:]}" if places else text


def _scientific(value: float, core: tuple[Token, ...]) -> str:
    mark = next(i for i, token in enumerate(core) if token[0] == "exponent")
    mantissa_tokens, exponent_tokens = core[:mark], core[mark + 1 :]
    point = mantissa_tokens.index(("other", ".")) if ("other", ".") in mantissa_tokens else len(mantissa_tokens)
    step = max(1, sum(1 for k, _ in mantissa_tokens[:point] if k == "digit"))
    exponent = int(f"{value:e}".partition("e")[2]) if value else 0
    exponent = exponent // step * step
    mantissa = _decimal(value / 10.0**exponent, mantissa_tokens)
    width = sum(1 for k, _ in exponent_tokens if k == "digit")
    sign = "-" if exponent < 0 else "+" if core[mark][1].endswith("+") else ""
    return f"{mantissa}E{sign}{abs(exponent):0{width}}"


def _fraction(value: float, core: tuple[Token, ...]) -> str:
    slash = core.index(("other", "/"))
    below = "".join(v for k, v in core[slash + 1 :] if k in ("digit", "other"))
    fixed = below.strip("?# ")
    has_whole = any(token == ("other", " ") for token in core[:slash])
    whole = int(value) if has_whole else 0
    rest = Fraction(repr(value)) - whole
    if fixed.isdigit() and int(fixed) > 0:
        top, bottom = int(rest * int(fixed) + Fraction(1, 2)), int(fixed)
    else:
        found = rest.limit_denominator(10 ** max(1, min(len(below), 5)) - 1)
        top, bottom = found.numerator, found.denominator
    if top == bottom and has_whole:
        whole, top = whole + 1, 0
    if not top:
        return str(whole)
    return f"{whole} {top}/{bottom}" if has_whole and whole else f"{top}/{bottom}"


def _date(value: float, tokens: tuple[Token, ...], *, is_1904: bool) -> str:
    elapsed = any(kind == "elapsed" for kind, _ in tokens)
    if not 0 <= value < _MAX_SERIAL and not elapsed:
        return general(value)
    places = sum(1 for i, t in enumerate(tokens) if t[0] == "digit" and _follows_seconds(tokens, i))
    unit = 86400 * 10**places
    ticks = int(Fraction(repr(value)) * unit + Fraction(1, 2)) if places else round(value * 86400)
    seconds, fraction = divmod(ticks, 10**places)
    days, second = divmod(seconds, 86400)
    moment = _day(days, is_1904=is_1904)
    text, twelve = "", any(kind == "date" and "/" in v for kind, v in tokens)
    for index, (kind, token) in enumerate(tokens):
        if kind == "elapsed":
            amount = seconds // {"h": 3600, "m": 60, "s": 1}[token[0]]
            text += str(amount).rjust(len(token), "0")
        elif kind == "date":
            text += _date_part(token, moment, second, is_minute=_is_minute(tokens, index), twelve=twelve)
        elif kind == "digit":
            if _follows_seconds(tokens, index) and tokens[index - 1][0] != "digit":
                text += str(fraction).rjust(places, "0")
            elif not _follows_seconds(tokens, index):
                text += token
        elif (kind, token) != ("other", "@"):
            text += token
    return text.strip()


def _day(days: int, *, is_1904: bool) -> datetime.date | None:
    """The date of a day number. The calendar of 1900 has a day 60 that never was, 29 February 1900."""
    base = datetime.date(1904, 1, 1) if is_1904 else datetime.date(1899, 12, 31 if days < 60 else 30)
    try:
        return base + datetime.timedelta(days=days)
    except OverflowError:
        return None


def _follows_seconds(tokens: tuple[Token, ...], index: int) -> bool:
    """Whether a digit is a fraction of seconds: `ss.00`."""
    while index and tokens[index][0] == "digit":
        index -= 1
    before = tokens[index - 1] if index else ("", "")
    return tokens[index] == ("other", ".") and before[0] in ("date", "elapsed") and before[1].startswith("s")


def _is_minute(tokens: tuple[Token, ...], index: int) -> bool:
    """Whether `m` stands for minutes: after hours, or before seconds."""
    if not tokens[index][1].startswith("m") or len(tokens[index][1]) > 2:
        return False
    before = [v for k, v in tokens[:index] if k in ("date", "elapsed")]
    after = [v for k, v in tokens[index + 1 :] if k in ("date", "elapsed")]
    return (bool(before) and before[-1].startswith("h")) or (bool(after) and after[0].startswith("s"))


def _date_part(token: str, day: datetime.date | None, second: int, *, is_minute: bool, twelve: bool) -> str:
    hour = second // 3600
    if "/" in token:
        half = "PM" if hour >= 12 else "AM"
        return half if len(token) > 3 else half[0]
    if token[0] == "h":
        return str((hour + 11) % 12 + 1 if twelve else hour).rjust(min(len(token), 2), "0")
    if is_minute:
        return str(second // 60 % 60).rjust(min(len(token), 2), "0")
    if token[0] == "s":
        return str(second % 60).rjust(min(len(token), 2), "0")
    if day is None:
        return token
    if token[0] in "ye":
        return f"{day.year % 100:02}" if token[0] == "y" and len(token) <= 2 else f"{day.year:04}"
    if token[0] == "d":
        return _named(day.day, _DAYS[day.weekday()], len(token))
    if token[0] == "m":
        name = _MONTHS[day.month - 1]
        return name[0] if len(token) == 5 else _named(day.month, name, len(token))
    return ""


def _named(number: int, name: str, length: int) -> str:
    if length <= 2:
        return str(number).rjust(length, "0")
    return name[:3] if length == 3 else name
