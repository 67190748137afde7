"""The order in which the lines of a page are read: columns, vertical columns, and pieces of one row."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from statistics import median

from .bidi import is_right_to_left
from .lines import Line
from .raised import raised
from .scattered import in_place

CJK = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff]")
_MIN_ROWS = 3  # that stand side by side, to be called columns
_MIN_WORDS = 3  # in the middle line of every column: shorter ones are the cells of a table
_MAX_INDENT = 24  # spaces: more are another column or a centered line
_COMMENTS = ("//", "#", ";", "--", "/*", "(*", "%")
_MIN_CHARS = 8  # the same for scripts without spaces


def in_reading_order(lines: list[Line]) -> list[Line]:
    """Return the lines of a page in the order of reading, mostly that of the file.

    Columns of prose that a file stores row by row are read one after the other; other pieces of a row are joined to
    one line, separated by a space or (if the gap is wide) a tab; vertical columns are read from right to left.
    Several empty lines become one. Code keeps its indentation, also where it is made by place.
    """
    before_blank = {id(line) for line, below in pairwise(lines) if line.text and not below.text}
    rows = list(_rows(_join_vertical(in_place([line for line in lines if line.text]))))
    ordered: list[Line] = []
    number = 0
    while number < len(rows):
        columns, num_rows = _columns(rows, number)
        if columns:
            ordered += columns
            number += num_rows
            continue
        row = rows[number]
        ordered.append(_join_row(row))
        number += 1
        if id(row[-1]) in before_blank and number < len(rows):
            ordered.append(replace(row[-1], text=""))
    _indent_code(ordered)
    return ordered


def without_blank_lines(lines: list[Line]) -> list[Line]:
    """Return lines with at most one that is empty between others, and none at the start and end."""
    result: list[Line] = []
    for line in lines:
        if line.text or (result and result[-1].text):
            result.append(line)
    return result[:-1] if result and not result[-1].text else result


def _indent_code(lines: list[Line]) -> None:
    """Put spaces in front of lines in a font of one width that begin to the right of others beside them, in place."""
    for is_code, group in groupby(lines, key=lambda line: line.char_width > 0 and line.is_level):
        block = [line for line in group if line.text] if is_code else []
        if len(block) < 2:
            continue
        left = min(line.x0 for line in block)
        for line in block:
            num_spaces = round((line.x0 - left) / line.char_width)
            if 0 < num_spaces <= _MAX_INDENT:
                line.text = " " * num_spaces + line.text


def _rows(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines that follow each other in the file, stand on one height and side by side."""
    row: list[Line] = []
    for line in lines:
        if row and not _continues(row, line):
            yield row
            row = []
        row.append(line)
    if row:
        yield row


def _continues(row: list[Line], line: Line) -> bool:
    last = row[-1]
    overlap = min(last.y1, line.y1) - max(last.y0, line.y0)
    if overlap < 0.4 * min(last.y1 - last.y0, line.y1 - line.y0) or not (last.is_level and line.is_level):
        return False
    return all(line.x0 >= other.x1 - 1 or line.x1 <= other.x0 + 1 for other in row)


def _join_row(row: list[Line]) -> Line:
    if len(row) == 1:
        return row[0]
    pieces = sorted(row, key=lambda line: line.x0)
    text = pieces[0].text
    is_rtl = is_right_to_left("".join(line.text for line in row))
    for left, right in pairwise(pieces):
        gap = _gap(left, right)
        more = right.text
        if right.size < 0.88 * left.size and left.baseline - right.baseline > 0.12 * left.size:
            more = raised(more, text)
        text = more + gap + text if is_rtl else text + gap + more
    x1, y0, y1 = pieces[-1].x1, min(line.y0 for line in row), max(line.y1 for line in row)
    return replace(pieces[0], text=text, x1=x1, y0=y0, y1=y1)


def _gap(left: Line, right: Line) -> str:
    """Nothing, a space or a tab between two pieces of a row."""
    width, size = right.x0 - left.x1, max(left.size, right.size)
    if width < (0.1 if left.size == right.size else 0.2) * size:
        return ""
    return " " if width < 2 * size else "\t"


def _columns(rows: list[list[Line]], first: int) -> tuple[list[Line], int]:
    """(the lines of the columns that begin at this row, number of rows), or ([], 0) if none begin here."""
    if len(rows[first]) < 2:
        return [], 0
    spans = sorted((line.x0, line.x1) for line in rows[first])
    columns: list[list[Line]] = [[] for _ in spans]
    num_rows = num_pairs = 0
    top = 0.0
    for row in rows[first:]:
        places = [_place(line, spans) for line in row]
        if row[0].y0 < top or any(place is None for place in places) or len(set(places)) < len(places):
            break
        top = row[0].y0
        widened = list(spans)
        for line, place in zip(row, places, strict=True):
            assert place is not None
            x0, x1 = widened[place]
            widened[place] = (min(x0, line.x0), max(x1, line.x1))
        if any(right[0] - left[1] < 0.8 * row[0].size for left, right in pairwise(widened)):
            break
        spans = widened
        for line, place in zip(row, places, strict=True):
            assert place is not None
            columns[place].append(line)
        num_rows += 1
        num_pairs += len(row) > 1
    if num_pairs < _MIN_ROWS:
        return [], 0
    if not all(map(_is_prose, columns, spans)) or any(map(_are_comments, columns[1:])):
        return [_cells(row, spans) for row in rows[first : first + num_rows]], num_rows
    if is_right_to_left("".join(line.text for column in columns for line in column)):
        columns.reverse()
    return [line for column in columns for line in column], num_rows


def _cells(row: list[Line], spans: list[tuple[float, float]]) -> Line:
    """A row of a table without rules: cells separated by tabs, so that an empty cell keeps its place."""
    if len(row) == 1:
        return row[0]
    texts = [""] * len(spans)
    for line in row:
        place = _place(line, spans)
        assert place is not None
        texts[place] = line.text
    if is_right_to_left("".join(texts)):
        texts.reverse()
    return replace(_join_row(row), text="\t".join(texts))


def _place(line: Line, spans: list[tuple[float, float]]) -> int | None:
    """Number of the only column that the line touches, None if there are several or none."""
    touched = [number for number, (x0, x1) in enumerate(spans) if line.x0 < x1 and line.x1 > x0]
    return touched[0] if len(touched) == 1 and line.is_level else None


def _is_prose(column: list[Line], span: tuple[float, float]) -> bool:
    """Whether most lines of a column have several words and fill it."""
    if len(column) < _MIN_ROWS:
        return False
    words = median(len(line.text.split()) for line in column)
    chars = median(len(CJK.findall(line.text)) for line in column)
    width = median(line.x1 - line.x0 for line in column)
    return (words >= _MIN_WORDS or chars >= _MIN_CHARS) and width >= 0.5 * (span[1] - span[0])


def _are_comments(column: list[Line]) -> bool:
    """Whether the lines of a column are comments on the code beside them."""
    num_marked = sum([line.char_width > 0 and line.text.startswith(_COMMENTS) for line in column])
    return num_marked > 0.8 * len(column)


def _join_vertical(lines: list[Line]) -> list[Line]:
    """Replace runs of vertical lines by their columns from right to left."""
    num_single = sum([len(line.text) == 1 and _is_single(line) for line in lines])
    if not num_single and not any([line.is_vertical for line in lines]):
        return lines
    stacked = num_single >= 6 and num_single > 0.7 * len(lines) and _is_stacked(lines)
    result: list[Line] = []
    run: list[Line] = []
    for line in lines:
        if line.is_vertical or (stacked and _is_single(line)):
            run.append(line)
        else:
            result += [*_vertical_columns(run), line]
            run = []
    return result + _vertical_columns(run)


def _is_single(line: Line) -> bool:
    return len(line.text) == 1 and CJK.match(line.text) is not None


def _is_stacked(lines: list[Line]) -> bool:
    """Whether single characters stand closer to what is below them than to what is beside them."""
    singles = [line for line in lines if _is_single(line)]
    tops: dict[int, list[float]] = {}
    for line in singles:
        tops.setdefault(round((line.x0 + line.x1) / 2), []).append(line.y0)
    gaps = [b - a for ys in tops.values() for a, b in zip(sorted(ys), sorted(ys)[1:], strict=False)]
    xs = sorted(tops)
    steps = [b - a for a, b in pairwise(xs)]
    return bool(gaps) and (not steps or median(gaps) < median(steps))


def _vertical_columns(run: list[Line]) -> list[Line]:
    """Join the pieces of each column; tiers from top to bottom, in each the columns from right to left."""
    columns: list[Line] = []
    for line in sorted(run, key=lambda line: line.y0) if run and _is_single(run[0]) else run:
        for number, column in enumerate(columns):
            is_below = -0.5 * line.size < line.y0 - column.y1 < 1.2 * line.size
            if is_below and abs((line.x0 + line.x1) - (column.x0 + column.x1)) < line.size:
                columns[number] = replace(column, text=column.text + line.text, y1=line.y1)
                break
        else:
            columns.append(replace(line, is_vertical=True, is_level=False))
    tiers: list[list[Line]] = []
    bottom = float("-inf")
    for column in sorted(columns, key=lambda line: line.y0):
        if column.y0 >= bottom:
            tiers.append([])
        tiers[-1].append(column)
        bottom = max(bottom, column.y1)
    return [column for tier in tiers for column in sorted(tier, key=lambda line: -line.x0)]
