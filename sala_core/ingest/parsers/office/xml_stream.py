"""Large XML parts, element by element, without a tree of the whole."""

from collections.abc import Generator, Iterator
from xml.parsers import expat

from .xml_tree import Builder, Node, clean_xml, has_doctype, local_name

_BLOCK_BYTES = 1 << 16


class ElementStream:
    """Iterates over the elements with some local names, wherever they are. problem: known at the end, or ""."""

    def __init__(self, data: bytes, *names: str) -> None:
        self.problem = ""
        self._data = data
        self._names = frozenset(names)
        self._num_given = 0

    def __iter__(self) -> Iterator[Node]:
        """Yield each element with what is in it, as soon as it ends."""
        if not has_doctype(self._data):
            error = yield from self._parsed(self._data)
            if error is None:
                return
        num_given, self._num_given = self._num_given, 0
        cleaned = clean_xml(self._data)
        error = yield from self._parsed(cleaned, num_given)
        if error is not None:
            self.problem = f"damaged ({error}): what stands after the fault is missing"

    def _parsed(self, data: bytes, num_skipped: int = 0) -> Generator[Node, None, str | None]:
        """Yield the elements after those that were given before; return the fault that ended it, or None."""
        builder = Builder()
        found: list[Node] = []
        depth = 0

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            if depth or local_name(name) in self._names:
                if not depth:
                    builder.reset()
                depth += 1
                builder.start(name, attributes)

        def end(name: str) -> None:
            nonlocal depth
            if depth:
                builder.end(name)
                depth -= 1
                if not depth:
                    found.append(builder.root)

        def text(data: str) -> None:
            if depth:
                builder.text(data)

        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
        fault: str | None = None
        for begin in range(0, len(data) + 1, _BLOCK_BYTES):
            block = data[begin : begin + _BLOCK_BYTES]
            try:
                parser.Parse(block, begin + _BLOCK_BYTES > len(data))
            except (expat.ExpatError, ValueError, LookupError) as error:
                fault = str(error)
            for node in found:
                self._num_given += 1
                if self._num_given > num_skipped:
                    yield node
            found.clear()
            if fault is not None:
                return fault
        return None
