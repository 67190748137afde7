"""Characters of symbol fonts, whose codes are read as letters or private characters: Symbol, Wingdings, signs of TeX.

TeX also draws underscores as rules.

Sources: the encodings of Symbol and ZapfDingbats (ISO 32000-1, annexes D.5 and D.6); for ZapfDingbats that is not
embedded, MuPDF gives the numbers of glyphs of the font that it takes instead; the encoding OMX of TeX's large signs
(D. E. Knuth, The TeXbook, appendix F).
"""

import re
from collections.abc import Iterable, Sequence, Set
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
# private characters of the Adobe Glyph List (corporate use): signs, and pieces of large brackets
PRIVATE_SIGNS = {
    **dict(zip("\uf6d9\uf6da\uf6db\uf8e8\uf8e9\uf8ea", "©®™®©™", strict=True)),
    **dict(zip("\uf8e5\uf8e6\uf8e7", "‾⏐⎯", strict=True)),
    **dict(zip(map(chr, range(0xF8EB, 0xF8FF)), "⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪⎮⎞⎟⎠⎤⎥⎦⎫⎬⎭", strict=True)),
}
_MAX_UNDERSCORES = 500  # on a page: more are a drawing
_IS_CID = 128  # FZ_STEXT_UNICODE_IS_CID: the code stands for an unknown character
_TEX_SIGNS = re.compile(r"(?:^|\+)CMEX\d+$")
_TEX = dict(
    zip(
        [*range(0x01, 0x50), *range(0x50, 0x62), *range(0x68, 0x75)],
        ")[]⌊⌋⌈⌉{}⟨⟩|‖/\\()()[]⌊⌋⌈⌉{}⟨⟩/\\()[]⌊⌋⌈⌉{}⟨⟩/\\/\\⎛⎞⎡⎤⎣⎦⎢⎥⎧⎫⎩⎭⎨⎬⎪⏐⎝⎠⎜⎟⟨⟩⨆⨆∮∮⨀⨀⨁⨁⨂⨂"
        "∑∏∫⋃⋂⊎⋀⋁∑∏∫⋃⋂⊎⋀⋁∐∐[]⌊⌋⌈⌉{}√√√√⎷",
        strict=True,
    )
)
# a family of publishers' fonts whose signs have the names of letters
_PUBLISHER_SIGNS = re.compile(r"(?:^|\+)Adv(?:MacMthSy|P4C4E74)")
_PUBLISHER = {0x02: "−", 0x03: "×", 0xBC: "=", 0xF0: "(", 0xFE: "+", 0xDE: ")"}
_PUBLISHER_DEGREE = re.compile(r"(?:^|\+)AdvEls-ent5$")


def name_symbols(spans: Iterable[dict[str, Any]], fonts: Set[str]) -> None:
    """Replace the codes of symbol fonts by the characters that they show, in place.

    spans: as in PyMuPDF's `dict`. fonts: the names of all of their fonts.
    """
    if any(font.startswith(("CMEX", "Adv")) for font in fonts):
        _name_signs(spans)
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


def is_underscore(box: Sequence[float]) -> bool:
    """Whether a box (x0, y0, x1, y1, in points) has the shape of an underscore that TeX draws."""
    return 1.5 < box[2] - box[0] < 12 and 0 < box[3] - box[1] < 1.2


def name_underscores(lines: Sequence[dict[str, Any]], drawn: Iterable[Sequence[float]]) -> None:
    """Put `_` where a short rule stands at the foot of a line, between or behind its characters, in place.

    lines: as in PyMuPDF's `dict`. drawn: boxes of lines and rectangles, in points.
    """
    rules = sorted(tuple(box) for box in drawn if is_underscore(box))
    for line in lines if 0 < len(rules) <= _MAX_UNDERSCORES else ():
        size, foot = line["spans"][0]["size"], line["spans"][0]["origin"][1]
        beside = [
            rule
            for rule in rules
            if abs((rule[1] + rule[3]) / 2 - foot) < 0.12 * size and 0.25 * size < rule[2] - rule[0] < 0.5 * size
        ]
        if not beside or line["dir"][0] < 0.99:
            continue
        for span in line["spans"]:
            x0, _, x1, _ = span["bbox"]
            inside = [rule for rule in beside if x0 - 0.1 * size <= rule[0] and rule[2] <= x1 + 0.1 * size]
            if inside and span["text"] == " ":
                before, after = inside[0][0] - x0 > 0.2 * size, x1 - inside[-1][2] > 0.2 * size
                span["text"] = " " * before + "_" * len(inside) + " " * after
        for rule in beside:
            last, x1 = line["spans"][-1], line["bbox"][2]
            if -0.1 * size < rule[0] - x1 < 0.2 * size and last["text"].strip():
                last["text"] += "_"
                last["bbox"] = (*last["bbox"][:2], rule[2], last["bbox"][3])
                line["bbox"] = (*line["bbox"][:2], rule[2], line["bbox"][3])


def _name_signs(spans: Iterable[dict[str, Any]]) -> None:
    for span in spans:
        font = span["font"]
        if _TEX_SIGNS.search(font):
            table = _TEX if span["char_flags"] & _IS_CID else {}
        elif _PUBLISHER_SIGNS.search(font):
            table = _PUBLISHER
        else:
            table = {ord("1"): "°"} if _PUBLISHER_DEGREE.search(font) else {}
        text = span["text"]
        if table and all(ord(char) in table or char == " " for char in text):
            span["text"] = text.translate(table)
            span["char_flags"] &= ~_IS_CID


def _translated(text: str, table: dict[int, str], *, plain: bool) -> str:
    """Characters of the private use area by their low byte; with `plain`, those below U+0100 too."""
    return "".join(
        table.get(ord(char) & 0xFF, char)
        if "\uf020" <= char <= "\uf0ff" or (plain and char < "\u0100" and char != " ")
        else char
        for char in text
    )
