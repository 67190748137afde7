"""Numbers of lines in the margin of legal and scholarly texts: left out where they would stand inside sentences."""

from itertools import pairwise
from statistics import median

from .lines import Line

_MIN_NUMBERS = {1: 8, 5: 3, 10: 3}  # step from number to number -> least count
_MAX_DIGITS = 4
_MIN_LOWER = 0.3  # of the numbered lines begin with a small letter: sentences go on from line to line


def without_line_numbers(lines: list[Line]) -> tuple[list[Line], int]:
    """Return (the lines of a page without the numbers that count its lines in a margin, how many numbers)."""
    numbers = [line for line in lines if len(line.text) <= _MAX_DIGITS and line.text.isdecimal() and line.is_level]
    if len(numbers) < min(_MIN_NUMBERS.values()):
        return lines, 0
    others = [line for line in lines if line.text and not (line.text.isdecimal() and len(line.text) <= _MAX_DIGITS)]
    if not others:
        return lines, 0
    left = median(line.x0 for line in others)
    right = max(line.x1 for line in others)
    for margin in ([line for line in numbers if line.x1 < left], [line for line in numbers if line.x0 > right]):
        if _count_lines(margin) and _are_beside_prose(margin, others):
            dropped = set(map(id, margin))
            return [line for line in lines if id(line) not in dropped], len(margin)
    return lines, 0


def _count_lines(margin: list[Line]) -> bool:
    """Whether the numbers are aligned, and count downwards by one step."""
    margin = sorted(margin, key=lambda line: line.y0)
    values = [int(line.text) for line in margin]
    steps = {below - above for above, below in pairwise(values)}
    if len(steps) != 1 or len(margin) < _MIN_NUMBERS.get(step := steps.pop(), len(margin) + 1):
        return False
    if step > 1 and values[0] % step:
        return False
    x0, x1 = [line.x0 for line in margin], [line.x1 for line in margin]
    return min(max(x0) - min(x0), max(x1) - min(x1)) < 3


def _are_beside_prose(margin: list[Line], others: list[Line]) -> bool:
    """Whether the lines beside the numbers are no cells of a table, and sentences go on from one to the next."""
    beside = [[other for other in others if abs(other.baseline - line.baseline) < 0.5 * line.size] for line in margin]
    rows = [row for row in beside if row]
    if len(rows) < 3 or sum(len(row) > 1 for row in rows) > 0.1 * len(rows):
        return False
    starts = [line.text for line in others]
    return sum(text[0].islower() for text in starts) >= _MIN_LOWER * len(starts)
