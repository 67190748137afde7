"""Prompt lookup: drafts of the next tokens, copied from where the last tokens stood before.

Text that quotes its source, as answers about documents do, repeats runs of tokens that the model has read. A draft
is only a guess: what the model says is decided by the model alone (arXiv:2211.17192, with a drafter that copies).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_DRAFT_TOKENS = 15
"""With the token before them, the most that one pass of the model verifies."""

_KEY_TOKENS = 3  # fewer agree by chance; more find a quotation later
_LONGEST_MATCH = 64
_CANDIDATES = 32  # of a key's places, the latest so many are compared
_UNSORTED_TOKENS = 1 << 14
_SHORTEST = 3  # shorter drafts cost a pass of several tokens and gain little
_LONGEST_PAUSE = 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class DraftIndex:
    """All token ids of a session so far, and where every run of three of them stands.

    A million tokens take 16 MB and a fifth of a second to index; a lookup takes some ten microseconds.
    """

    def __init__(self, ids: Sequence[int] | NDArray[np.integer] = ()) -> None:
        self._ids = np.empty(0, dtype=np.int32)
        self._length = 0
        self._sorted = 0  # keys that end before it are in the arrays, later ones in `_late`
        self._keys = np.empty(0, dtype=np.uint64)
        self._places = np.empty(0, dtype=np.int32)
        self._late: dict[int, list[int]] = {}
        self.extend(ids)

    def __len__(self) -> int:
        return self._length

    def extend(self, ids: Sequence[int] | NDArray[np.integer]) -> None:
        """Add the tokens that follow."""
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
        if end - self._sorted > _UNSORTED_TOKENS:
            self._sort()
            return
        first = max(start, _KEY_TOKENS - 1)  # where the first new key ends
        for place, key in zip(range(first, end), self._keys_ending(first, end).tolist(), strict=True):
            self._late.setdefault(key, []).append(place + 1)

    def propose(self, limit: int = MAX_DRAFT_TOKENS) -> list[int]:
        """Up to `limit` tokens that may come next: what followed the place that agrees longest with the end.

        Empty where the last three tokens never stood anywhere before. Of places that agree equally, the latest.
        """
        end = self._length
        if end < _KEY_TOKENS or limit < 1:
            return []
        places = self._find(int(self._keys_ending(end - 1, end)[0]))
        best, best_match = 0, 0
        for place in places:
            match = self._match(place)
            if match > best_match:
                best, best_match = place, match
        if best_match < _KEY_TOKENS:
            return []
        return self._continued(best, limit)

    def _continued(self, place: int, limit: int) -> list[int]:
        """The tokens from `place` on; where they reach the end, the run between repeats."""
        period = self._length - place
        return [int(self._ids[place + i % period]) for i in range(limit)]

    def _find(self, key: int) -> list[int]:
        """Places that follow the key, the latest first; never the end itself."""
        late = [place for place in reversed(self._late.get(key, ())) if place < self._length]
        a, b = (int(np.searchsorted(self._keys, np.uint64(key), side=side)) for side in ("left", "right"))
        wanted = max(0, _CANDIDATES - len(late))
        early = self._places[max(a, b - wanted) : b][::-1].tolist()
        return (late + [place for place in early if place < self._length])[:_CANDIDATES]

    def _match(self, place: int) -> int:
        """How many tokens before `place` equal those before the end."""
        longest = min(_LONGEST_MATCH, place)
        same = self._ids[place - longest : place] == self._ids[self._length - longest : self._length]
        different = np.flatnonzero(~same)
        return longest if not different.size else longest - 1 - int(different[-1])

    def _keys_ending(self, first: int, end: int) -> NDArray[np.uint64]:
        """A number for every run of three tokens whose last stands at first ... end - 1."""
        if end <= first:
            return np.empty(0, dtype=np.uint64)
        key = np.zeros(end - first, dtype=np.uint64)
        for back in range(_KEY_TOKENS - 1, -1, -1):
            key = (key + self._ids[first - back : end - back].astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
            key ^= key >> np.uint64(29)
        return key

    def _sort(self) -> None:
        keys = self._keys_ending(_KEY_TOKENS - 1, self._length)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._places = (order + _KEY_TOKENS).astype(np.int32)
        self._late = {}
        self._sorted = self._length


class DraftLength:
    """How many tokens to draft: more while drafts hold, fewer when they fail, none for a while when all of them do.

    Replayed over answers that quote and over prose, with the cost of a pass on a CPU (9 ms for one token, 14 ms and
    1.1 ms a token for more), this took 0.69 and 1.05 of the time without drafts.
    """

    def __init__(self, limit: int = MAX_DRAFT_TOKENS) -> None:
        self._limit = limit
        self._next = min(8, limit)
        self._misses = 0
        self._pause = 0

    @property
    def tokens(self) -> int:
        """The draft's length now; 0 for none."""
        return 0 if self._pause else self._next

    def learn(self, drafted: int, accepted: int) -> None:
        """Take note of a pass: of its draft, and of how many tokens of that the model said."""
        if not drafted:
            self._pause = max(0, self._pause - 1)
            return
        self._next = min(self._limit, 2 * self._next + 1) if accepted == drafted else max(_SHORTEST, self._next // 2)
        self._misses = 0 if accepted else self._misses + 1
        self._pause = min(_LONGEST_PAUSE, 2 ** max(0, self._misses - 1) - 1)
