"""From Markdown tokens to HTML. Nothing outside of `ELEMENTS` can be written: each token has its own rule here, and a
token without a rule is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from markdown_it.token import Token
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from app.page.markdown.formulas import DISPLAY, INLINE
from app.page.markup import escape, tag

ELEMENTS = {
    "a": ("href", "rel", "target", "title", "data-host"),
    "article": ("class", "data-message"),
    "blockquote": (),
    "br": (),
    "button": (
        *("class", "type", "title", "aria-label"),
        *("data-copy", "data-passage", "data-action", "data-turn", "data-question"),
    ),
    "code": (),
    "del": (),
    "details": ("class",),
    "div": ("class", "role", "tabindex", "aria-label"),
    "em": (),
    "h3": (),
    "h4": (),
    "h5": (),
    "hr": (),
    "li": (),
    "ol": ("start",),
    "p": ("class",),
    "pre": ("tabindex",),
    "span": ("class",),
    "strong": (),
    "summary": (),
    "table": (),
    "tbody": (),
    "td": ("class",),
    "th": ("class",),
    "thead": (),
    "tr": (),
    "ul": (),
}
"""Element -> its attributes: all that a conversation on the page consists of. `talk.js` has the same list."""
SCHEMES = ("http", "https")
MARK = "quotation_mark"
"""Type of the token that marks a passage which stands word for word in a source. Its `content` is finished HTML."""
MAX_HIGHLIGHTED_CHARS = 20_000
_PLAIN_PAIRS = {
    "blockquote": "blockquote",
    "bullet_list": "ul",
    "em": "em",
    "list_item": "li",
    "s": "del",
    "strong": "strong",
    "tbody": "tbody",
    "thead": "thead",
    "tr": "tr",
}
_HEADINGS = {"h1": "h3", "h2": "h4"}


def is_web_address(url: str) -> bool:
    """Whether a link may lead there: an address with a host, by one of `SCHEMES`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme.lower() in SCHEMES and bool(parts.hostname)


def write(tokens: Sequence[Token], *, highlight: bool = True) -> str:
    """The HTML of the tokens, on one line. highlight: color the code; a block that still grows is not colored."""
    return "".join(_pieces(tokens, highlight))


def plain_text(token: Token) -> str:
    """The text that a token shows."""
    if token.type in ("softbreak", "hardbreak"):
        return "\n"
    if token.type == "image":
        return "".join(map(plain_text, token.children or []))
    return token.content if token.type in ("text", "code_inline", "fence", "code_block", INLINE, DISPLAY) else ""


def code_html(code: str, language: str, *, highlight: bool = True) -> str:
    """A block of code with its language and a button that copies it."""
    shown = code.removesuffix("\n")
    head = tag("span", escape(language[:40]), class_="language") + tag("button", "Copy", type="button", class_="copy")
    body = "".join(_colored(shown, language)) if highlight else escape(shown)
    return tag("div", tag("div", head, class_="code-head"), tag("pre", tag("code", body), tabindex="0"), class_="code")


def _pieces(tokens: Sequence[Token], highlight: bool) -> Iterator[str]:
    for token in tokens:
        kind, _, side = token.type.rpartition("_")
        if token.hidden:  # the paragraphs of a tight list
            continue
        if token.type == "inline":
            yield from _pieces(token.children or [], highlight)
        elif token.type in ("fence", "code_block"):
            yield code_html(token.content, (token.info.split() or [""])[0], highlight=highlight)
        elif side in ("open", "close") and kind in _PLAIN_PAIRS:
            yield f"<{'/' * (side == 'close')}{_PLAIN_PAIRS[kind]}>"
        else:
            yield _RULES[token.type](token)


def _colored(code: str, language: str) -> Iterator[str]:
    """The code as spans with Pygments' classes; as it is if the language is unknown or the code is very long."""
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        lexer = None
    if lexer is None or len(code) > MAX_HIGHLIGHTED_CHARS:
        yield escape(code)
        return
    for kind, text in lexer.get_tokens(code):
        name = STANDARD_TYPES.get(kind) or STANDARD_TYPES.get(kind.parent or kind, "")
        yield tag("span", escape(text), class_=name) if name else escape(text)


def _link_open(token: Token) -> str:
    url = str(token.attrGet("href"))
    if not url:  # of "[text]()"
        return "<a>"
    assert is_web_address(url), url  # the parser makes no other links
    host = escape(str(urlsplit(url).hostname))
    fixed = 'rel="noopener noreferrer nofollow" target="_blank"'
    return f'<a href="{escape(url)}" title="{escape(url)}" data-host="{host}" {fixed}>'


def _list_open(token: Token) -> str:
    start = token.attrGet("start")
    return "<ol>" if start is None else f'<ol start="{int(start)}">'


def _cell(token: Token) -> str:
    style = str(token.attrGet("style") or "")
    side = next((side for side in ("right", "center") if style.endswith(side)), "")
    return f'<{token.tag} class="{side}">' if side else f"<{token.tag}>"


def _heading(token: Token) -> str:
    return f"<{'/' * (token.nesting < 0)}{_HEADINGS.get(token.tag, 'h5')}>"


_RULES: dict[str, Callable[[Token], str]] = {
    "code_inline": lambda token: tag("code", escape(token.content)),
    DISPLAY: lambda token: tag("span", escape(token.content), class_="formula formula-display"),
    INLINE: lambda token: tag("span", escape(token.content), class_="formula"),
    "hardbreak": lambda token: "<br>",
    "heading_close": _heading,
    "heading_open": _heading,
    "hr": lambda token: "<hr>",
    "image": lambda token: tag("span", escape(plain_text(token) or "picture"), class_="picture"),
    "link_close": lambda token: "</a>",
    "link_open": _link_open,
    MARK: lambda token: token.content,
    "ordered_list_close": lambda token: "</ol>",
    "ordered_list_open": _list_open,
    "paragraph_close": lambda token: "</p>",
    "paragraph_open": lambda token: "<p>",
    "softbreak": lambda token: escape("\n"),
    "table_close": lambda token: "</table></div>",
    "table_open": lambda token: '<div class="table" role="region" tabindex="0" aria-label="Table"><table>',
    "td_close": lambda token: "</td>",
    "td_open": _cell,
    "text": lambda token: escape(token.content),
    "th_close": lambda token: "</th>",
    "th_open": _cell,
}
