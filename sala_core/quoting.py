"""Quotations word for word: a model that begins to quote chooses among the sentences that it has looked at.

A small model finds a place more surely than it spells it. Where the documents' own sentences are all that can follow
the quotation mark, what it says is theirs, and the choice is between a few: the sentences that drew most attention
since the question, by how likely the model finds their beginnings as its answer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sala_kernels import BlockLayout

from sala_core.evidence import DocumentSpan, best_blocks, document_mass
from sala_core.ingest import SourceMap
from sala_core.model import AttentionTrace, SalaModel
from sala_core.sentences import sentences_around
from sala_core.state import SalaState
from sala_core.tokenizer import Tokenizer

MARKS = {'"': '"', "“": "”", "«": "»", "„": "“"}
"""What opens a quotation, and what closes it."""

_MOST_SENTENCES = 16
_SCORED_TOKENS = 8
_SHARE_WEIGHT = 1.5  # nats, of each nat of a sentence's share of attention
_MOST_CHARS = 600
_MIN_CHARS = 3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A sentence that may be quoted, and its share of the attention that the documents drew."""

    text: str
    share: float


class Quoting:
    """The quotations of one answer. No sentence is quoted twice in it."""

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
        self._quoted: set[str] = set()
        self._is_open = False

    def opens(self, token: int) -> bool:
        """Whether a token, the next to be said, is a quotation mark that opens."""
        is_mark = self._tokenizer.decode([token]).strip() in MARKS
        if is_mark and self._is_open:
            self._is_open = False
            return False
        return is_mark

    def continuation(self, model: SalaModel, state: SalaState, opening: int, trace: AttentionTrace) -> list[int]:
        """The tokens of a sentence and of its closing mark, after the token `opening`, which the state does not have.

        [] where there is none to quote. state: is as it was afterwards; has room for some tokens more.
        """
        before = self._tokenizer.decode([opening])
        closing = MARKS[before.strip()]
        found = []
        for candidate in self.candidates(trace):
            ids = self._tokenizer.encode_content(f"{before}{candidate.text}{closing}").tolist()
            if ids[:1] != [opening]:  # the mark is one token with what follows it: say it as two
                ids = [opening, *self._tokenizer.encode_content(f"{candidate.text}{closing}").tolist()]
            found.append((candidate, ids))
        if not found:
            self._is_open = True  # the model's own words, up to a mark that closes them
            return []
        scores = _scores(model, state, [ids for _, ids in found])
        ranked = [
            score + _SHARE_WEIGHT * math.log(candidate.share)
            for score, (candidate, _) in zip(scores, found, strict=True)
        ]
        candidate, ids = found[max(range(len(found)), key=ranked.__getitem__)]
        self._quoted.add(candidate.text)
        return ids[1:]

    def candidates(self, trace: AttentionTrace) -> list[Candidate]:
        """The sentences that drew most attention and are not quoted yet, at most 16, the first the most."""
        mass = document_mass(trace, self._spans, self._turn_start, self._layout)
        total, size = float(mass.sum()), self._layout.block
        if total <= 0:
            return []
        shares: dict[tuple[str, int], tuple[str, float]] = {}
        for block in best_blocks(mass, size):
            for span in self._spans:
                a, b = max(span.start, block * size), min(span.end, (block + 1) * size)
                lines = self._source_map(span.document_id) if a < b else None
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
            if share > 0 and text not in self._quoted:
                by_text[text] = max(by_text.get(text, 0.0), share)
        best = sorted(by_text.items(), key=lambda item: -item[1])[:_MOST_SENTENCES]
        return [Candidate(text=text, share=share) for text, share in best]


def _sentences(lines: SourceMap, start: int, end: int) -> list[tuple[int, int]]:
    """Those around a run of characters that can be quoted, cut where they are endless."""
    whole = lines.text(lines.place_of_chars(0, lines.num_chars))
    found = [(a, min(b, a + _MOST_CHARS)) for a, b in sentences_around(whole, start, end)]
    return [(a, b) for a, b in found if b - a >= _MIN_CHARS]


@torch.inference_mode()
def _scores(model: SalaModel, state: SalaState, beginnings: Sequence[Sequence[int]]) -> list[float]:
    """How likely each run of tokens is to go on after its first one, in nats for so many tokens as are scored."""
    here, scores = state.mark(), []
    for ids in beginnings:
        tokens = torch.tensor(ids[: _SCORED_TOKENS + 1], device=model.device)
        hidden = model.advance(state, tokens[:-1])
        chances = model.logits(hidden).float().log_softmax(-1)
        scores.append(_SCORED_TOKENS * float(chances.gather(-1, tokens[1:, None]).mean()))
        here.rewind()
    return scores
