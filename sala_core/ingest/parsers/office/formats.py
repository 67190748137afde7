"""What the format of a text means: raised, struck out, deleted, hidden."""

from dataclasses import dataclass
from itertools import groupby

from ..html.tree import Element
from .render import element


@dataclass(frozen=True, kw_only=True)
class Format:
    """What the format of a run says about its text."""

    shift: str = ""
    """`sup`, `sub` or ""."""
    is_struck: bool = False
    is_hidden: bool = False
    is_deleted: bool = False


def formatted(spans: list[tuple[Format, Element | str]]) -> list[Element | str]:
    """Return spans as content, neighbors of one format inside the elements for it: 10 and ¹ and ² is 10¹²."""
    content: list[Element | str] = []
    for form, group in groupby(spans, key=lambda span: span[0]):
        pieces = [piece for _, piece in group]
        if form.shift:
            pieces = [element(form.shift, *pieces)]
        if form.is_struck or form.is_deleted:
            pieces = [element("del", *pieces)]
        content += ["[hidden: ", *pieces, "]"] if form.is_hidden else pieces
    return content
