"""Read XML of books as tags and text, where a strict parser would stop: many real files are not well-formed.

Namespaces and case are ignored: `opf:itemRef` is `itemref`. Everything that is not a tag is text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape

from ..html.entities import resolve_entities

# the quoted values hold no "<", so that a missing quotation mark ends at the next tag
_TOKEN = re.compile(
    r"""<!--.*?(?:-->|\Z) | <!\[CDATA\[(?P<cdata>.*?)(?:\]\]>|\Z) | <\?[^<>]*> | <![A-Za-z][^<>]*>
    | <(?P<end>/?)(?P<name>[^\W\d][\w.:-]*+)
      (?: (?P<attributes>(?:[^<>"']|"[^"<]*"|'[^'<]*')*+)> | (?P<broken>[^<>]*)> )""",
    re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(r"""(?<![^\s=/"'<>])([^\s=/"'<>]++)\s*+=\s*+(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A start tag, an end tag or both (`<br/>`). name: lower case, without prefix. attributes: likewise."""

    name: str
    starts: bool
    ends: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


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
