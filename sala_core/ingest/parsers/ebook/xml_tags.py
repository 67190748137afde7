"""Read XML of books as tags and text, where a strict parser would stop: many real files are not well-formed.

Namespaces and case are ignored: `opf:itemRef` is `itemref`. Everything that is not a tag is text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape

# the quoted values hold no "<", so that a missing quotation mark ends at the next tag
_TOKEN = re.compile(
    r"""<!--.*?(?:-->|\Z) | <!\[CDATA\[(?P<cdata>.*?)(?:\]\]>|\Z) | <\?[^<>]*> | <![A-Za-z][^<>]*>
    | <(?P<end>/?)(?P<name>[^\W\d][\w.:-]*)
      (?: (?P<attributes>(?:[^<>"']|"[^"<]*"|'[^'<]*')*+)> | (?P<broken>[^<>]*)> )""",
    re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(r"""([^\s=/"'<>]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")


_DOCTYPE = re.compile(r"<!DOCTYPE[^<>\[]*\[(?P<declared>[^\]]*)\]\s*>", re.IGNORECASE)
_ENTITY = re.compile(r"""<!ENTITY\s+([\w.-]{1,100})\s+(?:"([^"<>&%]{0,1000})"|'([^'<>&%]{0,1000})')\s*>""")
_MAX_ADDED_CHARS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A start tag, an end tag or both (`<br/>`). name: lower case, without prefix. attributes: likewise."""

    name: str
    starts: bool
    ends: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


def resolve_entities(text: str) -> str:
    """Replace the entities that a file declares itself. Those that refer to others or to files stay as they are."""
    doctype = _DOCTYPE.search(text, 0, 8192)
    if not doctype:
        return text
    text = text[: doctype.start()] + text[doctype.end() :]
    num_left = _MAX_ADDED_CHARS
    for name, double, single in _ENTITY.findall(doctype["declared"]):
        value = double or single
        num_left -= text.count(f"&{name};") * len(value)
        if num_left < 0:
            break
        text = text.replace(f"&{name};", value)
    return text


def xml_tags(text: str) -> Iterator[Tag | str]:
    """Yield the tags and the text between them, with entities resolved. Comments and declarations are left out."""
    text = resolve_entities(text)
    position = 0
    for token in _TOKEN.finditer(text):
        if token.start() > position:
            yield unescape(text[position : token.start()])
        position = token.end()
        if token["cdata"]:
            yield token["cdata"]
        elif token["name"]:
            attributes = token["attributes"] if token["attributes"] is not None else token["broken"]
            yield Tag(
                name=_local(token["name"]),
                starts=not token["end"],
                ends=bool(token["end"]) or attributes.endswith("/"),
                attributes=_attributes(attributes),
            )
    if position < len(text):
        yield unescape(text[position:])


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(text):
        found.setdefault(_local(name), unescape(double or single or bare).strip())
    return found


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()
