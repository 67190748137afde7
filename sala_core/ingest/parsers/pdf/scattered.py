"""Pages whose file order is not the order of reading: stored from the bottom up or at random, or tables by columns."""

import re
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from .lines import Line

_MIN_LINES = 4
_MAX_LINES = 500  # to cut a page by: each line may be one level of recursion
_NUM_BEFORE = 6
_MAX_UPWARD = 0.3  # of the steps from one line to the next, in one column
_NUMBER = re.compile(r"[^\w]*\d[\d.,:/%\s–-]*[^\w]*(?:[^\W\d_]{1,3})?")
_MIN_NUMBERS = 0.5  # of the cells of a column below its heading


def in_place(lines: list[Line]) -> list[Line]:
    """Return the lines with text of a page, those that are stored out of order put where they stand on the page."""
    if len(lines) < _MIN_LINES or not all(line.is_level for line in lines):
        return lines
    num_upward = sum(_is_upward(lines, number) for number in range(1, len(lines)))
    if num_upward > _MAX_UPWARD * (len(lines) - 1):
        return _cut(lines)
    return _tables_by_row(lines)


def _is_upward(lines: list[Line], number: int) -> bool:
    """Whether a line stands above the last of the lines before it that has its place in the width of the page."""
    line = lines[number]
    for last in reversed(lines[max(0, number - _NUM_BEFORE) : number]):
        if _overlaps(line, last):
            return line.baseline < last.baseline - 0.5 * line.size
    return False


def _overlaps(line: Line, other: Line) -> bool:
    overlap = min(line.x1, other.x1) - max(line.x0, other.x0)
    return overlap > 0.3 * min(line.x1 - line.x0, other.x1 - other.x0)


def _cut(lines: list[Line]) -> list[Line]:
    """Recursive cuts: at a gap from top to bottom between columns of prose, then at the largest gap across."""
    if not _MIN_LINES <= len(lines) <= _MAX_LINES:
        return sorted(lines, key=lambda line: (round(line.baseline), line.x0))
    size = median(line.size for line in lines)
    by_x = sorted(lines, key=lambda line: line.x0)
    right = by_x[0].x1
    for number, line in enumerate(by_x[1:], 1):
        if line.x0 - right > size and _is_prose(by_x[:number]) and _is_prose(by_x[number:]):
            return _cut(by_x[:number]) + _cut(by_x[number:])
        right = max(right, line.x1)
    by_y = sorted(lines, key=lambda line: line.baseline)
    gaps = [(below.y0 - above.y1, number) for number, (above, below) in enumerate(pairwise(by_y), 1)]
    gap, number = max(gaps)
    if gap > 0.5 * size:
        return _cut(by_y[:number]) + _cut(by_y[number:])
    return sorted(lines, key=lambda line: (round(line.baseline), line.x0))


def _is_prose(lines: list[Line]) -> bool:
    return len(lines) >= 3 and median(len(line.text.split()) for line in lines) >= 3


def _tables_by_row(lines: list[Line]) -> list[Line]:
    """Put columns with numbers or with labels that are stored one after the other, on the same heights, into rows."""
    runs = list(_runs(lines))
    if len(runs) < 2:
        return lines
    ordered: list[Line] = []
    number = 0
    while number < len(runs):
        table = [runs[number]]
        while number + len(table) < len(runs) and _is_beside(table, runs[number + len(table)]):
            table.append(runs[number + len(table)])
        if len(table) > 1 and _is_table(table):
            cells = [line for run in table for line in run]
            ordered += sorted(cells, key=lambda line: (_row(line, cells), line.x0))
            number += len(table)
        else:
            ordered += runs[number]
            number += 1
    return ordered


def _runs(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines that follow each other downwards in one column."""
    run: list[Line] = []
    for line in lines:
        if run and not (line.y0 > run[-1].y0 + 0.5 * line.size and _overlaps(line, run[-1])):
            yield run
            run = []
        run.append(line)
    if run:
        yield run


def _is_beside(table: list[list[Line]], run: list[Line]) -> bool:
    """Whether a run stands to the right of others, and nearly all of its lines on the heights of the first one."""
    if len(run) < 2 or len(table[0]) < 2:
        return False
    if min(line.x0 for line in run) <= max(line.x1 for line in table[-1]):
        return False
    heights = [line.baseline for line in table[0]]
    num_level = sum(any(abs(line.baseline - height) < 2 for height in heights) for line in run)
    return num_level >= 0.8 * len(run) and len(run) >= 0.5 * len(heights)


def _is_table(table: list[list[Line]]) -> bool:
    """Whether a column below its heading holds numbers, or the first one labels with a colon."""
    if any(line.text.rstrip().endswith((":", "：")) for line in table[0]):
        return all(line.text.rstrip().endswith((":", "：")) for line in table[0])
    return any(
        sum(_NUMBER.fullmatch(line.text) is not None for line in run[1:]) >= _MIN_NUMBERS * (len(run) - 1)
        for run in table
    )


def _row(line: Line, cells: list[Line]) -> float:
    """The smallest height of those that are the same as the line's within two points."""
    return min(other.baseline for other in cells if abs(other.baseline - line.baseline) < 2)
