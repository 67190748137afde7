"""HTML and XHTML to a tree, in linear time and without an error: as browsers do it (WHATWG HTML, section 13.2).

Simplified where it does not change the text: no adoption agency, no foster parents. Unlike a browser, an unclosed
comment ends at its first `>`, and CDATA is text everywhere, so that no words are lost.
"""

import html
import re
from collections import Counter
from functools import cached_property

from .elements import (
    BREAKS_OUT,
    CELLS,
    CHANGES_MEANING,
    CLOSES_ALL,
    CLOSES_P,
    FOREIGN,
    FOREIGN_HTML,
    HEAD_ONLY,
    HEADINGS,
    IN_TABLE,
    ITEM_SCOPE,
    RAW,
    RAW_WITH_REFERENCES,
    SCOPE,
    SECTIONS,
    SPECIAL,
    VOID,
)

# deeper elements become siblings, as in browsers; the renderer is recursive. Those that change what a text means may be
# deeper: otherwise 10<sup>6</sup> would become 106.
MAX_DEPTH = 120
MAX_MEANING_DEPTH = 140

_Rule = tuple[frozenset[str], frozenset[str]]
# start tag -> (open elements that it ends, elements beyond which it ends none)
_ENDS: dict[str, _Rule] = {
    **{name: (frozenset({"p"}), SCOPE) for name in CLOSES_P},
    "a": (frozenset({"a"}), SPECIAL),
    "button": (frozenset({"button"}), SCOPE - {"button"}),
    "dd": (frozenset({"dd", "dt", "p"}), ITEM_SCOPE),
    "dt": (frozenset({"dd", "dt", "p"}), ITEM_SCOPE),
    "li": (frozenset({"li", "p"}), ITEM_SCOPE),
    "option": (frozenset({"option"}), SPECIAL),
    "optgroup": (frozenset({"option", "optgroup"}), SPECIAL),
    "rb": (frozenset({"rb", "rp", "rt", "rtc"}), SPECIAL | {"ruby"}),
    "rtc": (frozenset({"rb", "rp", "rt", "rtc"}), SPECIAL | {"ruby"}),
    "rp": (frozenset({"rb", "rp", "rt"}), SPECIAL | {"ruby", "rtc"}),
    "rt": (frozenset({"rb", "rp", "rt"}), SPECIAL | {"ruby", "rtc"}),
    "td": (CELLS | {"caption", "colgroup"}, frozenset({"table", "template", "tr"})),
    "th": (CELLS | {"caption", "colgroup"}, frozenset({"table", "template", "tr"})),
    "tr": (CELLS | {"caption", "colgroup", "tr"}, frozenset({"table", "template"}) | SECTIONS),
    **{name: (IN_TABLE, frozenset({"table", "template"})) for name in SECTIONS | {"caption", "colgroup"}},
}
_PREFIX = re.compile("^(?:h|html|m|math|mml|svg|xhtml):(?=.)")
_NAME = re.compile(r"[a-zA-Z][^\t\n\r\f />]*+")
# a value with a ">" whose last quotation mark has no space, end or attribute behind it: the first mark has no partner,
# and the tag ends at that ">"
_ATTRIBUTES = re.compile(
    r"""((?:[^>=]++|=\s*+(?:"[^">]*+"|'[^'>]*+'|"[^"]*+"(?=[\s/>]|[\w:.-]++=)|'[^']*+'(?=[\s/>]|[\w:.-]++=))?+)*+)>"""
)
_PLAIN_ATTRIBUTES = re.compile(r"([^>]*+)>")
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]++)))?+""")
_CUT_TAG = re.compile(r"</[a-zA-Z]*+\Z|<[a-zA-Z][\w:-]*+\s[^=]*+=\s*+[\"']")
_COMMENT_END = re.compile("--!?>")
_RAW_END = {name: re.compile(rf"</{name}(?=[\t\n\r\f />])", re.IGNORECASE) for name in RAW}
_SCRIPT_START = re.compile(r"<script[\t\n\r\f />]", re.IGNORECASE)


class Element:
    """An element. children: elements, and the texts between them without character references."""

    def __init__(self, name: str, attributes: str = "") -> None:
        self.name = name
        self.children: list[Element | str] = []
        self._attributes = attributes

    @cached_property
    def attributes(self) -> dict[str, str]:
        """Name in lower case -> value; the first of several with one name counts."""
        found: dict[str, str] = {}
        for name, double, single, bare in _ATTRIBUTE.findall(self._attributes):
            found.setdefault(name.lower(), html.unescape(double or single or bare))
        return found

    def get(self, name: str) -> str:
        """Return the value of an attribute, "" if it is absent or has none."""
        return self.attributes.get(name, "") if self._attributes else ""

    @property
    def has_attributes(self) -> bool:
        """Whether the tag has any."""
        return bool(self._attributes)

    def mentions(self, word: str) -> bool:
        """Return whether the attributes hold a word as they are written; they need not be parsed for that."""
        return word in self._attributes

    @property
    def raw_attributes(self) -> str:
        """The attributes as they are written."""
        return self._attributes

    def search(self, pattern: re.Pattern[str]) -> str:
        """Return the first match in the attributes as they are written, "" if there is none."""
        match = pattern.search(self._attributes)
        return match[0] if match else ""

    def find(self, *names: str) -> "Element | None":
        """Return the first element below with one of these names, in document order, or None."""
        for child in self.children:
            if isinstance(child, Element):
                if child.name in names:
                    return child
                if found := child.find(*names):
                    return found
        return None

    def find_all(self, name: str) -> "list[Element]":
        """Return all elements below with this name, in document order."""
        found: list[Element] = []
        for child in self.children:
            if isinstance(child, Element):
                found += [child] if child.name == name else child.find_all(name)
        return found

    def text(self) -> str:
        """Return all text below."""
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)


def parse_tree(markup: str) -> Element:
    """Return the root of the tree, which has no name. Every markup has a tree."""
    builder = _Builder()
    _Tokenizer(markup, builder).run()
    return builder.root


class _Tokenizer:
    """Cuts markup into tags and text. It remembers what was searched in vain: no markup takes quadratic time."""

    def __init__(self, markup: str, builder: "_Builder") -> None:
        self._markup = markup
        self._builder = builder
        self._attributes = _ATTRIBUTES
        self._absent: set[str] = set()
        self._is_xml = markup.lstrip("\ufeff \t\r\n").startswith("<?xml")

    def run(self) -> None:
        markup, builder = self._markup, self._builder
        last = markup.rfind(">")
        position = start = 0
        while 0 <= (start := markup.find("<", start)) < last:
            end = self._tag_start(start)
            if end == start:  # "<" alone
                start += 1
                continue
            if position < start:
                builder.data(html.unescape(markup[position:start]))
            position = start = self._token(start, end)
        if position < len(markup):
            builder.data(html.unescape(_without_cut_tag(markup[position:])))

    def _tag_start(self, start: int) -> int:
        """End of the two characters that begin a tag or a declaration; `start` if they are text."""
        second = self._markup[start + 1 : start + 2]
        return start + 2 if second in "!?/" or (second.isascii() and second.isalpha()) else start

    def _token(self, start: int, end: int) -> int:
        """Handle the tag or declaration at `start`; returns the position after it."""
        markup = self._markup
        match markup[end - 1]:
            case "!":
                return self._declaration(start)
            case "?":
                is_code = markup[end : end + 1] == "=" or markup[end : end + 3].lower() == "php"
                return self._after("?>" if is_code else ">", end)
            case "/":
                if match := _NAME.match(markup, end):
                    self._builder.end(_local(match[0]))
                return self._after(">", end)
        match = _NAME.match(markup, start + 1)
        assert match
        attributes = self._attributes.match(markup, match.end())
        if not attributes:  # quotation marks without an end: ignore them from here
            self._attributes = _PLAIN_ATTRIBUTES
            attributes = _PLAIN_ATTRIBUTES.match(markup, match.end())
            assert attributes  # `run` stops before the last ">"
        return self._start(_local(match[0]), attributes[1], attributes.end())

    def _start(self, name: str, attributes: str, end: int) -> int:
        is_closed = attributes.endswith("/")
        is_raw = name in RAW and not self._builder.is_foreign
        if is_raw and is_closed and (self._is_xml or self._find_raw_end(name, end) is None):
            is_raw = False
        if name == "plaintext":
            self._builder.start("pre", attributes, is_closed=False)
            self._builder.data(self._markup[end:])
            return len(self._markup)
        self._builder.start(name, attributes, is_closed=is_closed and not is_raw)
        return self._raw_text(name, end) if is_raw else end

    def _raw_text(self, name: str, start: int) -> int:
        """Handle the content of an element without tags inside; returns the position of its end tag."""
        end = self._find_raw_end(name, start)
        if end is None:
            if name in ("script", "style"):
                return len(self._markup)
            self._builder.end(name)  # a title without an end must not cost the page
            return start
        text = self._markup[start:end]
        self._builder.data(html.unescape(text) if name in RAW_WITH_REFERENCES else text)
        return end

    def _find_raw_end(self, name: str, start: int) -> int | None:
        if name in self._absent:
            return None
        match = _RAW_END[name].search(self._markup, start)
        if not match:
            self._absent.add(name)
            return None
        if name == "script" and (comment := self._markup.rfind("<!--", start, match.start())) >= 0:
            # `<!-- <script> </script> -->` inside a script does not end it
            hidden = self._markup[comment : match.start()]
            if "-->" not in hidden and _SCRIPT_START.search(hidden):
                match = _RAW_END[name].search(self._markup, match.end()) or match
        return match.start()

    def _declaration(self, start: int) -> int:
        markup = self._markup
        if markup.startswith("<!--", start):
            match = None if "--" in self._absent else _COMMENT_END.search(markup, start + 2)
            if match:
                return match.end()
            self._absent.add("--")
        elif markup.startswith("<![CDATA[", start):
            end = -1 if "]]>" in self._absent else markup.find("]]>", start)
            if end >= 0:
                self._builder.data(markup[start + 9 : end])
                return end + 3
            self._absent.add("]]>")
            return start + 9
        return self._after(">", start)

    def _after(self, mark: str, start: int) -> int:
        """The position after the next `mark`, or after the next ">" if there is none."""
        if mark not in self._absent:
            if (end := self._markup.find(mark, start)) >= 0:
                return end + len(mark)
            self._absent.add(mark)
        return self._markup.find(">", start) + 1 or len(self._markup)


class _Builder:
    """Makes the tree from tags and text: supplies end tags that HTML allows to omit, ignores those that end nothing.

    is_foreign: a formula or a drawing is open, in which `title` and `style` are ordinary elements.
    """

    def __init__(self) -> None:
        self.root = Element("")
        self._stack = [self.root]
        self._num_open: Counter[str] = Counter()
        self._num_foreign = 0
        self.is_foreign = False
        self._num_flattened: Counter[str] = Counter()

    def data(self, text: str) -> None:
        """Add text to the open element. Text ends an open `head`, unless it is inside one of its elements."""
        if self._stack[-1].name == "head" and not text.isspace():
            self._pop()
        self._stack[-1].children.append(text)

    def start(self, name: str, attributes: str, *, is_closed: bool) -> None:
        """Open an element, after ending those that it cannot be inside of."""
        if name in ("html", "body", "head") and self._num_open[name]:
            return
        if self._num_open["head"] and self._stack[-1].name == "head" and name not in HEAD_ONLY:
            self._pop()
        if name in BREAKS_OUT and self.is_foreign:
            self._end_in(FOREIGN, FOREIGN_HTML)
        if name in _ENDS:
            self._end_in(*_ENDS[name])
        if name in HEADINGS and self._stack[-1].name in HEADINGS:
            self._pop()
        element = Element("img" if name == "image" and not self.is_foreign else name, attributes)
        self._stack[-1].children.append(element)
        if is_closed or (name in VOID and not self.is_foreign) or name in ("br", "img"):
            return
        changes_meaning = name in CHANGES_MEANING or self.is_foreign
        if len(self._stack) >= (MAX_MEANING_DEPTH if changes_meaning else MAX_DEPTH):
            self._num_flattened[name] += 1
            return
        self._stack.append(element)
        self._num_open[name] += 1
        if name in FOREIGN:
            self._num_foreign += 1
            self.is_foreign = True

    def end(self, name: str) -> None:
        """Close the innermost element of this name, and all inside it, if it may be closed from here."""
        if self._num_flattened[name]:
            self._num_flattened[name] -= 1
        elif name == "br":
            last = self._stack[-1].children[-1:]
            if not last or isinstance(last[0], str) or last[0].name != "br":  # <br></br> is one line break in XHTML
                self.start("br", "", is_closed=True)
        elif name in HEADINGS:
            self._end_in(HEADINGS, SCOPE, innermost=True)
        elif self._num_open[name] and name not in ("html", "body"):
            self._end_in(frozenset({name}), _end_scope(name), innermost=True)

    def _end_in(self, names: frozenset[str], scope: frozenset[str], *, innermost: bool = False) -> None:
        """Close the outermost element of these names that no element of `scope` separates from here."""
        if not any(self._num_open[name] for name in names):
            return
        found = 0
        for index in range(len(self._stack) - 1, 0, -1):
            name = self._stack[index].name
            if name in names:
                found = index
                if innermost:
                    break
            elif name in scope:
                break
        if found:
            while len(self._stack) > found:
                self._pop()

    def _pop(self) -> None:
        name = self._stack.pop().name
        self._num_open[name] -= 1
        if name in FOREIGN:
            self._num_foreign -= 1
            self.is_foreign = self._num_foreign > 0


def _without_cut_tag(text: str) -> str:
    """The end of a file without a tag that is cut off in an attribute or in its name."""
    start = text.rfind("<")
    return text[:start] if start >= 0 and _CUT_TAG.match(text, start) else text


def _local(name: str) -> str:
    """The name of a tag in lower case, without a prefix that XHTML uses for HTML, MathML or SVG."""
    name = name.lower()
    return _PREFIX.sub("", name, count=1) if ":" in name else name


def _end_scope(name: str) -> frozenset[str]:
    """The elements that an end tag of this name does not close."""
    if name in ("table", "template"):
        return frozenset({"template"})
    if name in IN_TABLE:
        return frozenset({"table", "template"})
    if name in ("li", "dd", "dt"):
        return ITEM_SCOPE
    if name in SPECIAL or name in CLOSES_ALL:
        return SCOPE
    return SPECIAL
