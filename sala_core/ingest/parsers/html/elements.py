"""Names of HTML elements by what their tags do: in the syntax (WHATWG HTML, section 13), and in the text."""

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
VOID = frozenset(
    {
        "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "image", "img", "input",
        "keygen", "link", "meta", "param", "source", "track", "wbr",
    }
)  # fmt: skip
HEAD_ONLY = frozenset(
    {
        "base", "basefont", "bgsound", "link", "meta", "noscript", "script", "style", "template", "title",
    }
)  # fmt: skip
RAW = frozenset({"iframe", "noembed", "script", "style", "textarea", "title", "xmp"})
RAW_WITH_REFERENCES = frozenset({"textarea", "title"})
SCOPE = frozenset(
    {
        "applet", "button", "caption", "html", "marquee", "object", "svg", "table", "td", "template", "th",
    }
)  # fmt: skip
CLOSES_P = HEADINGS | frozenset(
    {
        "address", "article", "aside", "blockquote", "center", "details", "dialog", "dir", "div", "dl", "dd",
        "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "li", "listing",
        "main", "menu", "nav", "ol", "p", "plaintext", "pre", "search", "section", "summary", "table", "ul",
        "xmp",
    }
)  # fmt: skip
SPECIAL = SCOPE | CLOSES_P | frozenset(
    {
        "body", "frameset", "head", "iframe", "select", "tbody", "tfoot", "thead", "tr",
    }
)  # fmt: skip
# ends of these close what is open inside; otherwise all that follows would be a superscript, or deleted
CLOSES_ALL = frozenset({"del", "label", "math", "q", "ruby", "s", "strike", "sub", "sup", "svg"})
SECTIONS = frozenset({"tbody", "tfoot", "thead"})
CELLS = frozenset({"td", "th"})
IN_TABLE = SECTIONS | CELLS | {"caption", "colgroup", "tr"}
ITEM_SCOPE = SPECIAL - {"address", "div", "p", "li", "dd", "dt"}
# start tags that end formulas and drawings which were left open
BREAKS_OUT = CLOSES_P | frozenset(
    {
        "b", "big", "br", "code", "em", "i", "img", "ruby", "s", "small", "span", "strong", "sub", "sup", "tt",
        "u", "var",
    }
)  # fmt: skip
FOREIGN = frozenset({"math", "svg"})
FOREIGN_HTML = frozenset({"annotation-xml", "desc", "foreignobject", "mi", "mn", "mo", "ms", "mtext", "title"})
# the text: what is never shown, what stands between empty lines, and what stands on lines of its own
UNSEEN = frozenset(
    {
        "area", "audio", "base", "canvas", "col", "embed", "link", "meta", "noembed", "param",
        "rp", "source", "style", "title", "track", "video", "template",
    }
)  # fmt: skip
PARAGRAPHS = HEADINGS | frozenset({"article", "blockquote", "dl", "figure", "hr", "p", "section"})
BLOCKS = PARAGRAPHS | frozenset(
    {
        "address", "aside", "body", "caption", "center", "dd", "details", "dialog", "dir", "div", "dt",
        "fieldset", "figcaption", "footer", "form", "frameset", "header", "hgroup", "html", "legend", "main",
        "marquee", "nav", "noframes", "optgroup", "search", "summary", "tbody", "tfoot", "thead", "tr",
    }
)  # fmt: skip
# inside of these a text means something else, or is not shown
CHANGES_MEANING = (
    UNSEEN | {"noscript"} | RAW | CLOSES_ALL | IN_TABLE | {"head", "li", "ol", "pre", "rt", "select", "table", "ul"}
)
