"""Formulas in Markdown: `$...$`, `\\(...\\)`, `$$...$$` and `\\[...\\]` become tokens that hold the TeX source.

A dollar sign is also a currency. As in Pandoc, the opening sign has no space after it, the closing sign has none before
it and no letter or digit after it; and a number that is followed by words is a price.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

MAX_TEX_CHARS = 2000
INLINE, DISPLAY = "formula", "formula_display"
_DOLLARS = re.compile(rf"\$(?![\s$])((?:\\.|[^\\$\n]){{1,{MAX_TEX_CHARS}}}?)(?<![\s\\])\$(?![\w$])")
_DOUBLE_DOLLARS = re.compile(rf"\$\$(?!\$)((?:\\.|[^\\$]){{1,{MAX_TEX_CHARS}}}?)\$\$", re.DOTALL)
_PARENTHESES = re.compile(rf"\\\((.{{1,{MAX_TEX_CHARS}}}?)\\\)", re.DOTALL)
_BRACKETS = re.compile(rf"\\\[(.{{1,{MAX_TEX_CHARS}}}?)\\\]", re.DOTALL)
_PRICE = re.compile(r"\d[\d.,]*\s*(?:[kKmMbB]n?|%)?[\s,;:–-]+[^\W\d_]{2,}")
_SIGNS = re.compile(r"[\\^_=+*/<>|{}]")
_CLOSING = {"$$": "$$", "\\[": "\\]"}


def add_formulas(parser: MarkdownIt) -> None:
    """Add the rules to a parser. Their tokens are INLINE and DISPLAY; `content` is the TeX source."""
    parser.inline.ruler.before("escape", "formula", _inline_rule)
    parser.block.ruler.before("fence", "formula_block", _block_rule, {"alt": ["paragraph", "blockquote", "list"]})


def begins_formula(line: str) -> bool:
    """Whether a formula on lines of its own may begin with this line."""
    return line.lstrip(" >")[:2] in _CLOSING


def _inline_rule(state: StateInline, silent: bool) -> bool:
    """A formula inside a paragraph, at the position of `state`."""
    found = _formula_at(state.src, state.pos)
    if found is None or found[0].end() > state.posMax:
        return False
    match, kind = found
    if not silent:
        token = state.push(kind, "", 0)
        token.content = match[1].strip()
    state.pos = match.end()
    return True


def _formula_at(text: str, position: int) -> tuple[re.Match[str], str] | None:
    """(match, token type) of the formula that begins at `position`."""
    if text.startswith("$$", position):
        match = _DOUBLE_DOLLARS.match(text, position)
        return (match, DISPLAY) if match and match[1].strip() else None
    if text.startswith("$", position):
        match = _DOLLARS.match(text, position)
        is_price = match is not None and _PRICE.match(match[1]) and not re.search(r"[\\^_={}]", match[1])
        return (match, INLINE) if match and not is_price else None
    if text.startswith("\\(", position):
        match = _PARENTHESES.match(text, position)
        return (match, INLINE) if match and (_SIGNS.search(match[1]) or match[1].strip().isalpha()) else None
    if text.startswith("\\[", position):
        match = _BRACKETS.match(text, position)
        return (match, DISPLAY) if match and _SIGNS.search(match[1]) else None
    return None


def _block_rule(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A formula on lines of its own: the first begins with `$$` or `\\[`, the last ends with the closing sign."""
    if state.is_code_block(start_line):
        return False
    first = _line(state, start_line)
    closing = _CLOSING.get(first[:2])
    if closing is None:
        return False
    lines: list[str] = [first[2:]]
    line = start_line
    while not lines[-1].rstrip().endswith(closing):
        line += 1
        if line >= end_line or state.isEmpty(line) or sum(map(len, lines)) > MAX_TEX_CHARS:
            return False
        lines.append(_line(state, line))
    tex = "\n".join(lines).rstrip()[: -len(closing)].strip()
    if not tex or closing in tex or (closing == "\\]" and not _SIGNS.search(tex)):
        return False
    if not silent:
        token = state.push(DISPLAY, "", 0)
        token.content, token.map, token.block = tex, [start_line, line + 1], True
        state.line = line + 1
    return True


def _line(state: StateBlock, line: int) -> str:
    """A line without its indentation and the marks of the blocks around it."""
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
