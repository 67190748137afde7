"""Fields of Word documents: their results are text, their instructions are not (ECMA-376 part 1, section 17.16)."""

import re
from dataclasses import dataclass

from ..symbols import symbol
from ..xml_tree import Node

_SYMBOL = re.compile(r"SYMBOL\s+(?:0x([0-9a-f]+)|(\d+))(?:.*?\\f\s+\"?([^\"\\]+))?", re.IGNORECASE | re.DOTALL)
_EQ_FRACTION = re.compile(r"\\f\s*\(([^(),;]*)[,;]([^(),;]*)\)", re.IGNORECASE)
_EQ_SWITCH = re.compile(r"\\[a-z*]+(?:\d+)?\s*(?:\([^()]*\))?(?=\()|\\\*\s*\S+|\\[a-z]+\d*|\\", re.IGNORECASE)


@dataclass(kw_only=True)
class _Field:
    start: Node
    instruction: str = ""
    has_separator: bool = False
    has_result: bool = False


class Fields:
    """The fields that are open where a document is read; they can begin and end in different paragraphs."""

    def __init__(self) -> None:
        self._open: list[_Field] = []

    @property
    def is_instruction(self) -> bool:
        """Whether the text here belongs to an instruction, which is not shown."""
        return any(not field.has_separator for field in self._open)

    def mark(self, node: Node) -> str:
        """Handle a `w:fldChar`. Returns what a field without a stored result shows, "" for all else."""
        kind = node.get("fldCharType")
        if kind == "begin":
            self._open.append(_Field(start=node))
            return "" if self._is_hidden(1) else _check_box(node)
        if not self._open:
            return ""
        if kind == "separate":
            self._open[-1].has_separator = True
            return ""
        field = self._open.pop() if kind == "end" else None
        return "" if field is None or field.has_result or self.is_instruction else _computed(field)

    def instruction(self, text: str) -> None:
        """Take a part of an instruction."""
        if self._open and not self._open[-1].has_separator:
            self._open[-1].instruction += text

    def result(self) -> None:
        """Note that the open fields have text for their results."""
        for field in self._open:
            field.has_result = True

    def _is_hidden(self, num_inner: int) -> bool:
        return any(not field.has_separator for field in self._open[:-num_inner])


def _check_box(node: Node) -> str:
    box = node.child("w:ffData", "w:checkBox")
    if box is None:
        return ""
    state = box.child("w:checked") or box.child("w:default")
    is_checked = state is not None and state.get("val", "1") not in ("0", "false", "off")
    return "[x]" if is_checked else "[ ]"


def _computed(field: _Field) -> str:
    """The text of a field that stores none: symbols, fractions, the choice of a list."""
    instruction = field.instruction.strip()
    if match := _SYMBOL.match(instruction):
        code = int(match[1], 16) if match[1] else int(match[2])
        font = (match[3] or "").strip()
        return symbol(font, f"{code:x}") if font else bytes([code]).decode("cp1252", "replace") if code < 256 else ""
    if instruction[:3].upper() == "EQ ":
        text = _EQ_FRACTION.sub(r"\1/\2", instruction[3:])
        return " ".join(_EQ_SWITCH.sub("", text).replace("(", "").replace(")", "").split())
    choices = field.start.child("w:ffData", "w:ddList")
    if choices is not None:
        entries = [entry.get("val") for entry in choices.all("w:listEntry")]
        chosen = choices.child("w:result") or choices.child("w:default")
        index = int(chosen.get("val")) if chosen and chosen.get("val").isdigit() else 0
        return entries[index] if index < len(entries) else ""
    return ""
