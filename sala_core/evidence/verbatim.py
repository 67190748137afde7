"""Quotations word for word: a model that begins to quote says the sentence that it has looked at most.

A small model finds a place more surely than it spells it. Whether it quotes, and how often, is its own decision; what
stands between the quotation marks is the documents'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sala_kernels import BlockLayout

from sala_core.evidence.places import DocumentSpan, attention_by_token, best_blocks, inside_documents
from sala_core.ingest import SourceMap
from sala_core.model.forward import AttentionTrace
from sala_core.text.sentences import sentences_around
from sala_core.text.tokenizer import Tokenizer

MARKS = {'"': '"', "“": "”", "«": "»", "„": "“"}
"""What opens a quotation, and what closes it."""

_MOST_CHARS = 600
_MIN_CHARS = 3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A sentence that may be quoted, and its share of what the documents drew (`attention_by_token`)."""

    text: str
    share: float


class Quoting:
    """The quotations of one answer: by what was looked at before the first of them. No sentence is quoted twice."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        spans: Sequence[DocumentSpan],
        turn_start: int,
        layout: BlockLayout,
        source_map: Callable[[str], SourceMap | None],
    ) -> None:
        """spans, turn_start, source_map: as `find_evidence` takes them."""
        self._tokenizer, self._spans, self._layout = tokenizer, spans, layout
        self._turn_start, self._source_map = turn_start, source_map
        self._left: list[Candidate] | None = None
        self._is_open = False

    def opens_quotation(self, token: int) -> bool:
        """Whether a token, the next to be said, is a quotation mark that opens."""
        is_mark = self._tokenizer.decode([token]).strip() in MARKS
        if is_mark and self._is_open:
            self._is_open = False
            return False
        return is_mark

    def continuation(self, opening: int, trace: AttentionTrace) -> list[int]:
        """The tokens of a sentence and of its closing mark, after the token `opening`; [] where there is none."""
        if self._left is None:  # the tokens of a quotation look at what they quote, and at all that is like it
            self._left = self.candidates(trace)
        if not self._left:
            self._is_open = True  # the model's own words, up to a mark that closes them
            return []
        before = self._tokenizer.decode([opening])
        said = self._left.pop(0).text + MARKS[before.strip()]
        ids = self._tokenizer.encode_content(before + said).tolist()
        # where the mark is one token with what follows it, they are said as two
        return ids[1:] if ids[0] == opening else self._tokenizer.encode_content(said).tolist()

    def candidates(self, trace: AttentionTrace) -> list[Candidate]:
        """The sentences in the blocks that drew most; the first drew most."""
        mass = attention_by_token(trace, self._spans, self._turn_start, self._layout)
        total, size = float(mass.sum()), self._layout.block
        if total <= 0:
            return []
        shares: dict[tuple[str, int], tuple[str, float]] = {}
        for block in best_blocks(mass, size):
            for span, a, b in inside_documents(self._spans, block * size, (block + 1) * size):
                lines = self._source_map(span.document_id)
                if lines is None:
                    continue
                place = lines.place(a - span.start, b - 1 - span.start)
                for start, end in _sentences(lines, place.char_start, place.char_end):
                    first, last = lines.tokens_of_chars(start, end)
                    drawn = float(mass[span.start + first : span.start + last + 1].sum())
                    text = lines.text(lines.place_of_chars(start, end))
                    shares[span.document_id, start] = text, drawn / total
        by_text: dict[str, float] = {}
        for text, share in shares.values():
            if share > 0:
                by_text[text] = max(by_text.get(text, 0.0), share)
        found = [Candidate(text=text, share=share) for text, share in by_text.items()]
        return sorted(found, key=lambda candidate: -candidate.share)


def _sentences(lines: SourceMap, start: int, end: int) -> list[tuple[int, int]]:
    """Those around a run of characters that can be quoted, cut where they are endless."""
    whole = lines.text(lines.place_of_chars(0, lines.num_chars))
    found = [(a, min(b, a + _MOST_CHARS)) for a, b in sentences_around(whole, start, end)]
    return [(a, b) for a, b in found if b - a >= _MIN_CHARS]
