"""Prompt lookup decoding: drafts of the next tokens, copied from an earlier occurrence of the last tokens.

Answers about documents quote them, and so repeat runs of tokens that the model has read. The model verifies every
draft, so drafts leave the distribution of an answer as it is, up to rounding (arXiv:2211.17192, with a drafter that
copies). A pass over one token and one over several add in another order, and on a card by other kernels. Where two
tokens are almost equally probable, an answer with drafts can therefore go on differently.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_DRAFT_TOKENS = 15
"""Maximum draft length. One forward pass verifies a draft together with the token before it."""

_NGRAM_TOKENS = 3  # shorter n-grams match by chance; longer ones find a quotation later
_MAX_MATCH_TOKENS = 64
_MAX_CANDIDATES = 32  # latest occurrences of an n-gram that are compared
_UNSORTED_TOKENS = 1 << 14
_MAX_SCANS = 128  # lookups without an index; at a million tokens as many take half the time that sorting takes
_MIN_DRAFT_TOKENS = 3  # shorter drafts cost a pass over several tokens and gain little
_MAX_PAUSE_PASSES = 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class DraftIndex:
    """All token ids of a session, with an index of their n-grams of three tokens.

    A million tokens take 16 MB and 0.2 s to index. A lookup takes about 10 microseconds then. The first lookups read
    all tokens instead, 0.6 ms for a million, because a short answer does not need the index.
    """

    def __init__(self, ids: Sequence[int] | NDArray[np.integer] = ()) -> None:
        self._ids = np.empty(0, dtype=np.int32)
        self._length = 0
        self._num_sorted = 0  # n-grams that end before it are in the sorted arrays, later ones in `_recent`
        self._hashes = np.empty(0, dtype=np.uint64)  # of all n-grams, ascending
        self._positions = np.empty(0, dtype=np.int32)  # of the token after each n-gram
        self._recent: dict[int, list[int]] = {}  # hash -> such positions
        self._is_behind = False  # whether later ones are in neither
        self._num_scans = 0
        self.extend(ids)

    def __len__(self) -> int:
        return self._length

    def extend(self, ids: Sequence[int] | NDArray[np.integer]) -> None:
        """Append token ids."""
        added = np.asarray(ids, dtype=np.int32)
        if not added.size:
            return
        start, end = self._length, self._length + len(added)
        if end > len(self._ids):
            grown = np.empty(max(end, 2 * len(self._ids)), dtype=np.int32)
            grown[:start] = self._ids[:start]
            self._ids = grown
        self._ids[start:end] = added
        self._length = end
        if self._is_behind or end - self._num_sorted > _UNSORTED_TOKENS:
            self._is_behind = True
            return
        first = max(start, _NGRAM_TOKENS - 1)  # last token of the first new n-gram
        for last, ngram in zip(range(first, end), self._hash_ngrams(first, end).tolist(), strict=True):
            self._recent.setdefault(ngram, []).append(last + 1)

    def propose(self, limit: int = MAX_DRAFT_TOKENS) -> list[int]:
        """Draft up to `limit` next tokens: those that followed the earlier position with the longest match to the end.

        Of equally long matches, the latest is used. Empty if the last three tokens do not occur earlier.
        """
        end = self._length
        if end < _NGRAM_TOKENS or limit < 1:
            return []
        if self._is_behind and self._num_scans >= _MAX_SCANS:
            self._sort()
        candidates = self._scan() if self._is_behind else self._find(int(self._hash_ngrams(end - 1, end)[0]))
        best, best_match = 0, 0
        for position in candidates:
            match = self._match_length(position)
            if match > best_match:
                best, best_match = position, match
        if best_match < _NGRAM_TOKENS:
            return []
        return self._copy_from(best, limit)

    def _copy_from(self, position: int, limit: int) -> list[int]:
        """`limit` tokens from `position` on. Beyond the end of the text, the run from `position` to the end repeats."""
        period = self._length - position
        return [int(self._ids[position + i % period]) for i in range(limit)]

    def _find(self, ngram: int) -> list[int]:
        """Positions after the occurrences of an n-gram, the latest first, without the end of the text."""
        recent = [position for position in reversed(self._recent.get(ngram, ())) if position < self._length]
        start, stop = (int(np.searchsorted(self._hashes, np.uint64(ngram), side=side)) for side in ("left", "right"))
        num_earlier = max(0, _MAX_CANDIDATES - len(recent))
        earlier = self._positions[max(start, stop - num_earlier) : stop][::-1].tolist()
        return (recent + [position for position in earlier if position < self._length])[:_MAX_CANDIDATES]

    def _scan(self) -> list[int]:
        """What `_find` returns for the n-gram at the end, from the tokens themselves."""
        self._num_scans += 1
        first, *rest = self._ids[self._length - _NGRAM_TOKENS : self._length]
        starts = np.flatnonzero(self._ids[: self._length - _NGRAM_TOKENS] == first)
        for ahead, token in enumerate(rest, start=1):
            starts = starts[self._ids[starts + ahead] == token]
        return (starts[: -_MAX_CANDIDATES - 1 : -1] + _NGRAM_TOKENS).tolist()

    def _match_length(self, position: int) -> int:
        """Number of tokens before `position` that equal those before the end, at most _MAX_MATCH_TOKENS."""
        longest = min(_MAX_MATCH_TOKENS, position)
        equal = self._ids[position - longest : position] == self._ids[self._length - longest : self._length]
        different = np.flatnonzero(~equal)
        return longest if not different.size else longest - 1 - int(different[-1])

    def _hash_ngrams(self, first: int, end: int) -> NDArray[np.uint64]:
        """Hashes of the n-grams whose last token is at first ... end - 1."""
        if end <= first:
            return np.empty(0, dtype=np.uint64)
        hashes = np.zeros(end - first, dtype=np.uint64)
        for back in range(_NGRAM_TOKENS - 1, -1, -1):
            hashes = (hashes + self._ids[first - back : end - back].astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
            hashes ^= hashes >> np.uint64(29)
        return hashes

    def _sort(self) -> None:
        hashes = self._hash_ngrams(_NGRAM_TOKENS - 1, self._length)
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._positions = (order + _NGRAM_TOKENS).astype(np.int32)
        self._recent = {}
        self._num_sorted = self._length
        self._is_behind, self._num_scans = False, 0


class DraftLength:
    """Adapts the draft length: longer after full acceptance, shorter after a rejection, a pause after repeated misses.

    In a simulation with the cost of a pass on a CPU (9 ms for one token; 14 ms and 1.1 ms per token for more), this
    took 0.69 of the time without drafts for answers that quote, and 1.05 for prose.
    """

    def __init__(self, limit: int = MAX_DRAFT_TOKENS) -> None:
        self._limit = limit
        self._next = min(8, limit)
        self._misses = 0
        self._pause = 0

    @property
    def tokens(self) -> int:
        """Length of the next draft; 0 during a pause."""
        return 0 if self._pause else self._next

    def learn(self, drafted: int, accepted: int) -> None:
        """Record a pass: the number of tokens that were drafted, and how many of them the model accepted."""
        if not drafted:
            self._pause = max(0, self._pause - 1)
            return
        longer, shorter = min(self._limit, 2 * self._next + 1), max(_MIN_DRAFT_TOKENS, self._next // 2)
        self._next = longer if accepted == drafted else shorter
        self._misses = 0 if accepted else self._misses + 1
        self._pause = min(_MAX_PAUSE_PASSES, 2 ** max(0, self._misses - 1) - 1)
