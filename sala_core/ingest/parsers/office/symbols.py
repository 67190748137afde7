"""Characters of symbol fonts: `w:sym`, and letters of the private use area, as the characters that they show."""

# Adobe's Symbol encoding (also Microsoft's Symbol), from 0x20 and from 0xA1
_SYMBOL = dict(
    enumerate(" !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼", 0x20)
) | dict(
    enumerate(
        "ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪\u20ac〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
        0xA1,
    )
)
_WINGDINGS = {
    0x21: "✏", 0x22: "✂", 0x28: "☎", 0x29: "✆", 0x2A: "✉", 0x36: "⌛", 0x3F: "✍", 0x41: "✌", 0x43: "👍", 0x44: "👎",
    0x45: "☜", 0x46: "☞", 0x47: "☝", 0x48: "☟", 0x4A: "☺", 0x4B: "😐", 0x4C: "☹", 0x4E: "☠", 0x52: "☼", 0x54: "❄",
    0x58: "✠", 0x59: "✡", 0x5B: "☯", 0x6C: "●", 0x6D: "❍", 0x6E: "■", 0x6F: "□", 0x70: "□", 0x71: "❑", 0x72: "❒",
    0x75: "◆", 0x76: "❖", 0x77: "◆", 0x78: "⌧", 0x7B: "❀", 0x7D: "“", 0x7E: "”", 0x80: "⓪",
    **{0x81 + i: chr(0x2460 + i) for i in range(10)}, 0x8B: "⓿", **{0x8C + i: chr(0x2776 + i) for i in range(10)},
    0x9E: "·", 0x9F: "•", 0xA1: "○", 0xA4: "◉", 0xA5: "◎", 0xA7: "▪", 0xA8: "☐", 0xAB: "★", 0xD8: "➢", 0xDC: "➲",
    0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "➔", 0xEF: "⇦", 0xF0: "⇨", 0xF1: "⇧", 0xF2: "⇩", 0xF3: "⬄",
    0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}  # fmt: skip
_WINGDINGS_2 = {0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0x98: "●", 0xA3: "□"}
_WINGDINGS_3 = {0x22: "↑", 0x23: "↓", 0x21: "→", 0x7D: "▶", 0x75: "◀", 0xC6: "⯈"}
_WEBDINGS = {0x61: "✓", 0x63: "☐", 0x67: "■", 0x72: "✗", 0x59: "♥", 0xFC: "🚫"}
_FONTS = {
    "symbol": _SYMBOL, "wingdings": _WINGDINGS, "wingdings 2": _WINGDINGS_2, "wingdings 3": _WINGDINGS_3,
    "webdings": _WEBDINGS,
}  # fmt: skip


def is_symbol_font(font: str) -> bool:
    """Return whether the letters of a font are pictures of other characters."""
    return font.strip().lower() in _FONTS


def symbol(font: str, code: str) -> str:
    """Return what a `w:sym` shows: font, and its code in hexadecimal (`F0B7`); U+FFFD if it is not known."""
    try:
        value = int(code, 16)
    except ValueError:
        return "\ufffd"
    return _shown(font, value)


def symbol_text(font: str, text: str) -> str:
    """Return a text set in a symbol font as the characters that it shows."""
    if not is_symbol_font(font):
        return text
    return "".join(
        _shown(font, ord(char)) if "\uf000" <= char <= "\uf0ff" or ord(char) < 256 else char for char in text
    )


def _shown(font: str, value: int) -> str:
    code = value - 0xF000 if 0xF000 <= value <= 0xF0FF else value
    found = _FONTS.get(font.strip().lower())
    if found is not None and code < 256:
        return found.get(code, " " if code == 0x20 else "\ufffd")
    if 0xE000 <= value <= 0xF8FF:
        return "\ufffd"
    return chr(value) if 0 < value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else "\ufffd"
