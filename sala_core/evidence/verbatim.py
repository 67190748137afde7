"""Verbatim quotations: after an opening quotation mark, the answer continues with a sentence of the documents.

A small model finds a place more reliably than it spells it. The model decides whether and how often it quotes; the text
between the quotation marks is the documents'.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sala_kernels import BlockLayout

from sala_core.evidence.places import DocumentSpan, attention_by_token, best_blocks, inside_documents
from sala_core.ingest import SourceMap
from sala_core.model.forward import AttentionTrace
from sala_core.text.sentences import sentences_around
from sala_core.text.tokenizer import Tokenizer

MARKS = {'"': '"', "“": "”", "«": "»", "„": "“"}
"""Opening quotation mark -> closing mark."""

_LINE_BREAK = re.compile(r"(?<=[^\s\-\u2010\u00ad])[ \t]*\n(?=\S)")
"""A line of prose that goes on in the next one. Indented lines are code; behind a hyphen a word may go on."""
_MAX_CHARS = 600
_MIN_CHARS = 3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A sentence that may be quoted. share: of the squared attention that all documents received."""

    text: str
    share: float


class Quoting:
    """The quotations of one answer, ranked by the attention before the first of them. No sentence is quoted twice."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        spans: Sequence[DocumentSpan],
        turn_start: int,
        layout: BlockLayout,
        source_map: Callable[[str], SourceMap | None],
    ) -> None:
        """Prepare the quotations of a turn.

        Args:
            tokenizer: encodes the sentences.
            spans: where the documents are in the stream.
            turn_start: position of the turn's first token.
            layout: the model's blocks.
            source_map: returns a document's map by its id, None where its text is lost.
        """
        self._tokenizer, self._spans, self._layout = tokenizer, spans, layout
        self._turn_start, self._source_map = turn_start, source_map
        self._remaining: list[Candidate] | None = None
        self._is_open = False

    def opens_quotation(self, token: int) -> bool:
        """Whether the next token is an opening quotation mark."""
        is_mark = self._tokenizer.decode([token]).strip() in MARKS
        if is_mark and self._is_open:
            self._is_open = False
            return False
        return is_mark

    def continuation(self, opening: int, trace: AttentionTrace) -> list[int]:
        """Tokens of the next sentence and its closing mark, to follow the token `opening`; [] if none is left."""
        if self._remaining is None:  # ranked once: a quotation's tokens attend to its source and to what resembles it
            self._remaining = self.candidates(trace)
        if not self._remaining:
            self._is_open = True  # the model writes this quotation itself, up to the closing mark
            return []
        before = self._tokenizer.decode([opening])
        quotation = _LINE_BREAK.sub(" ", self._remaining.pop(0).text) + MARKS[before.strip()]
        ids = self._tokenizer.encode_content(before + quotation).tolist()
        # a tokenizer may merge the mark with the next characters; the mark is already emitted as a token of its own
        return ids[1:] if ids[0] == opening else self._tokenizer.encode_content(quotation).tolist()

    def candidates(self, trace: AttentionTrace) -> list[Candidate]:
        """The sentences in the most attended blocks, the most attended first."""
        attention = attention_by_token(trace, self._spans, self._turn_start, self._layout)
        total, size = float(attention.sum()), self._layout.block
        if total <= 0:
            return []
        shares: dict[tuple[str, int], tuple[str, float]] = {}
        for block in best_blocks(attention, size):
            for span, a, b in inside_documents(self._spans, block * size, (block + 1) * size):
                lines = self._source_map(span.document_id)
                if lines is None:
                    continue
                place = lines.place(a - span.start, b - 1 - span.start)
                for start, end in _sentences(lines, place.char_start, place.char_end):
                    first, last = lines.tokens_of_chars(start, end)
                    received = float(attention[span.start + first : span.start + last + 1].sum())
                    text = lines.text(lines.place_of_chars(start, end))
                    shares[span.document_id, start] = text, received / total
        by_text: dict[str, float] = {}
        for text, share in shares.values():
            if share > 0:
                by_text[text] = max(by_text.get(text, 0.0), share)
        found = [Candidate(text=text, share=share) for text, share in by_text.items()]
        return sorted(found, key=lambda candidate: -candidate.share)


def _sentences(lines: SourceMap, start: int, end: int) -> list[tuple[int, int]]:
    """The sentences that touch a range of characters, without very short ones; very long ones are cut."""
    whole = lines.text(lines.place_of_chars(0, lines.num_chars))
    found = [(a, min(b, a + _MAX_CHARS)) for a, b in sentences_around(whole, start, end)]
    return [(a, b) for a, b in found if b - a >= _MIN_CHARS]
