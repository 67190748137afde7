"""Detection of loops: an answer, or its thinking, that only repeats itself."""

import numpy as np

MAX_PERIOD_TOKENS = 512
"""The longest run of tokens whose repetition is noticed."""

_MIN_COPIES = 5
_MIN_TOKENS = 160
_SHORT_PERIOD_TOKENS = 4
_MIN_SHORT_TOKENS = 256


class RepetitionDetector:
    """Notices that a text of tokens ends with copies of one run of tokens.

    A text loops if its end is periodic, token for token, for at least five copies and 160 tokens. For periods of up to
    four tokens it is 256 tokens: a horizontal rule across a wide table, or a line of a matrix of zeros, takes fewer.
    Lists, tables and code vary within that length. A text that says the same in other words, or counts, is not found.

    For each period, it counts the last tokens that equal the token one period before. A token costs one comparison
    with the 512 tokens before it, about 15 microseconds.
    """

    def __init__(self) -> None:
        self._periods = np.arange(1, MAX_PERIOD_TOKENS + 1)
        least = np.where(self._periods <= _SHORT_PERIOD_TOKENS, _MIN_SHORT_TOKENS, _MIN_TOKENS)
        self._needed = np.maximum(least, _MIN_COPIES * self._periods) - self._periods
        self._runs = np.zeros(MAX_PERIOD_TOKENS, dtype=np.int64)
        self._ids = np.full(4 * MAX_PERIOD_TOKENS, -1, dtype=np.int64)
        self._end = MAX_PERIOD_TOKENS

    def push(self, token: int) -> int:
        """Append a token. Returns how many of the last tokens are copies of earlier ones; 0 if the text does not loop.

        The first copy is not counted: the text without the returned number of tokens still ends with it.
        """
        if self._end == len(self._ids):
            self._ids[:MAX_PERIOD_TOKENS] = self._ids[-MAX_PERIOD_TOKENS:]
            self._end = MAX_PERIOD_TOKENS
        before = self._ids[self._end - MAX_PERIOD_TOKENS : self._end][::-1]
        self._runs = (self._runs + 1) * (before == token)
        self._ids[self._end] = token
        self._end += 1
        # where the last p tokens have a short period themselves, period p is nothing but a multiple of it
        shortest = self._runs[:_SHORT_PERIOD_TOKENS].max()
        own = (self._periods <= _SHORT_PERIOD_TOKENS) | (self._periods > shortest)
        loops = (self._runs >= self._needed) & own
        return int(self._runs[int(loops.argmax())]) if loops.any() else 0
