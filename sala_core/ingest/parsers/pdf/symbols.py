"""Characters of the fonts Symbol, Wingdings and ZapfDingbats, whose codes are read as letters or private characters.

Sources: the encodings of Symbol and ZapfDingbats (ISO 32000-1, annexes D.5 and D.6); for ZapfDingbats that is not
embedded, MuPDF gives the numbers of glyphs of the font that it takes instead.
"""

from collections.abc import Iterable, Set
from typing import Any

_DINGBATS = dict(
    zip(
        [*range(0x0A, 0x50), *range(0x51, 0x55), *range(0x61, 0x71), *range(0x75, 0xCD), *range(0xF0, 0xF1)],
        "✡☛☞✌✍✎✏✑✒✓✔✕✖✗✘✙✚✛✜✢✣✤✥✦✧★✩✪✫✬✭✮✯✰✱✲✳✴✵✶✷✸✹✺✻✼✽✾✿❀❁❂❃❄❅❆❇❈❉❊"
        "❋●❍■❏❑▲▼◆❖◗❘❙❚❛❜❝❞❡❢❣❤✐❥❦❧♠♥♦♣✉✈✇①②③④⑤⑥⑦⑧⑨⑩❶❷❸❹❺❻❼❽❾❿➀➁➂➃➄➅➆"
        "➇➈➉➊➋➌➍➎➏➐➑➒➓➔→➣↔↕➙➛➜➝➞➟➠➡➢➤➥➦➧➨➩➫➭➯➲➳➵➸➺➻➼➽➾➚➪➶➹➘➴➷➬➮➱✃❐❒➰",
        strict=True,
    )
)
_SYMBOL_LOW = "!∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧ∆ΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_�αβχδεφγηιϕκλµνοπθρστυϖωξψζ{|}∼"
_SYMBOL_HIGH = "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…��↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇���∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈���∑����������ð〉∫⌠�⌡���������"
_SYMBOL = dict(zip([*range(0x21, 0x7F), *range(0xA0, 0xFF)], _SYMBOL_LOW + _SYMBOL_HIGH, strict=True))
_WINGDINGS = {
    0x22: "✂", 0x28: "☎", 0x2A: "✉", 0x3F: "✍", 0x41: "✌", 0x45: "☜", 0x46: "☞", 0x47: "☝", 0x48: "☟", 0x4A: "☺",
    0x4C: "☹", 0x4E: "☠", 0x52: "☼", 0x54: "❄", 0x58: "✠", 0x59: "✡", 0x5A: "☪", 0x5B: "☯", 0x6C: "●", 0x6D: "❍",
    0x6E: "■", 0x6F: "□", 0x70: "□", 0x71: "❑", 0x72: "❒", 0x73: "◆", 0x74: "◆", 0x75: "◆", 0x76: "❖", 0x77: "◆",
    0x78: "⌧", 0x7A: "⌘", 0x7B: "❀", 0x7C: "✿", 0x9E: "·", 0x9F: "•", 0xA1: "○", 0xA2: "○", 0xA4: "◉", 0xA5: "◎",
    0xA7: "▪", 0xA8: "□", 0xAA: "✦", 0xAB: "★", 0xAC: "✶", 0xD8: "➢", 0xDC: "➲", 0xDF: "←", 0xE0: "→", 0xE1: "↑",
    0xE2: "↓", 0xE3: "↖", 0xE4: "↗", 0xE5: "↙", 0xE6: "↘", 0xE7: "←", 0xE8: "➔", 0xE9: "↑", 0xEA: "↓", 0xEF: "⇦",
    0xF0: "⇨", 0xF1: "⇧", 0xF2: "⇩", 0xF3: "⇔", 0xF4: "⇕", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}  # fmt: skip
_CIRCLED = {**{0x80 + n: chr(0x245F + n) for n in range(1, 11)}, **{0x8B + n: chr(0x2775 + n) for n in range(1, 11)}}


def name_symbols(spans: Iterable[dict[str, Any]], fonts: Set[str]) -> None:
    """Replace the codes of symbol fonts by the characters that they show, in place.

    spans: as in PyMuPDF's `dict`. fonts: the names of all of their fonts.
    """
    if not any("ingdings" in font or "Dingbats" in font or "Symbol" in font for font in fonts):
        return
    for span in spans:
        font = span["font"]
        if "ingdings" in font:
            if "2" not in font and "3" not in font:
                span["text"] = _translated(span["text"], _WINGDINGS | _CIRCLED, plain=True)
        elif "Dingbats" in font:
            span["text"] = _translated(span["text"], _DINGBATS, plain=True)
        elif "Symbol" in font and not span["text"].isascii():
            span["text"] = _translated(span["text"], _SYMBOL, plain=False)


def _translated(text: str, table: dict[int, str], *, plain: bool) -> str:
    """Characters of the private use area by their low byte; with `plain`, those below U+0100 too."""
    return "".join(
        table.get(ord(char) & 0xFF, char)
        if "\uf020" <= char <= "\uf0ff" or (plain and char < "\u0100" and char != " ")
        else char
        for char in text
    )
