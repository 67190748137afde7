"""How long the parser may work on a file: by its size, and by what the files before it have wasted."""

from sala_core.ingest.document import Limits

SMALL_FILE_S = 6.0
BYTES_PER_S = 256 << 10
"""Every file may take SMALL_FILE_S, and a second more for each BYTES_PER_S of it: more than any sound file needs."""
PATIENCE = 3
"""A file may take PATIENCE times as long, while the files of one reading that were given up have not used up
`Limits.max_wasted_parse_s`."""


class TimeBudget:
    """The time for parsing the files of one reading.

    A folder can hold any number of files that are made to take long. So each file that is given up leaves less
    patience for the ones that follow. Files that are read cost nothing, however long they take.
    """

    def __init__(self, limits: Limits) -> None:
        self._max_s = limits.max_parse_s
        self._left_s = limits.max_wasted_parse_s

    def seconds_for(self, num_bytes: int) -> float:
        """Return how long the parser may work on a file of this size."""
        own_s = self._own_s(num_bytes)
        return min(self._max_s, own_s + min(self._left_s, (PATIENCE - 1) * own_s))

    def waste(self, num_bytes: int, seconds: float) -> None:
        """Take off what a file of this size took in vain, beyond what every file may take."""
        self._left_s = max(0.0, self._left_s - max(0.0, seconds - self._own_s(num_bytes)))

    def _own_s(self, num_bytes: int) -> float:
        return SMALL_FILE_S + num_bytes / BYTES_PER_S
