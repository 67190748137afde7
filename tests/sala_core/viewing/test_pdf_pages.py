"""Pages of PDF files: drawn in a child process, and a passage marked where its ink is."""

import io
import random

import pymupdf
import pytest

from sala_core.errors import IngestError
from sala_core.viewing.byte_cache import ByteCache
from sala_core.viewing.pdf_pages import WIDTHS, PdfPages

FIRST = "The old bridge was closed\nin the winter of that year."
SECOND = "The old bridge was opened\nagain in the following summer."


@pytest.fixture(scope="module")
def pages():
    with_child = PdfPages()
    yield with_child
    with_child.close()


def ink(png: bytes, box) -> int:
    """Dark pixels in a box of fractions."""
    picture = pymupdf.Pixmap(io.BytesIO(png))
    left, top, right, bottom = (
        round(value * size) for value, size in zip(box, (picture.width, picture.height) * 2, strict=True)
    )
    shades = memoryview(picture.samples)[:: picture.n]
    return sum(
        shades[y * picture.width + x] < 128
        for y in range(max(0, top), min(bottom, picture.height))
        for x in range(max(0, left), min(right, picture.width))
    )


def turn(page, *, rotation=0, crop=None):
    page.set_rotation(rotation)
    if crop is not None:
        page.set_cropbox(pymupdf.Rect(crop))


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda page: turn(page, rotation=90),
        lambda page: turn(page, rotation=180),
        lambda page: turn(page, rotation=270, crop=(20, 40, 390, 460)),
        lambda page: turn(page, crop=(30, 50, 380, 300)),
    ],
    ids=["plain", "turned", "upside down", "turned and cropped", "cropped"],
)
def test_the_boxes_hold_the_ink_of_the_passage(pages, write_pdf, change):
    """All ink of a page with one passage is in its boxes, one a line, and there is none outside."""
    path = str(write_pdf(FIRST, change=change))
    png = pages.draw(path, f"{change}", 1, 600)
    text = FIRST + "\n"
    found = pages.place(path, 1, text, 0, len(text))
    assert (found.num_places, found.is_whole, len(found.boxes)) == (1, True, 2)
    total = ink(png, (0, 0, 1, 1))
    inside = sum(ink(png, box) for box in found.boxes)
    assert total > 500
    assert abs(inside - total) <= 0.02 * total


def test_a_part_of_a_line_is_marked_alone(pages, write_pdf):
    path = str(write_pdf(FIRST))
    start = FIRST.index("bridge")
    ((left, _, right, _),) = pages.place(path, 1, FIRST, start, start + len("bridge")).boxes
    (whole,) = pages.place(path, 1, FIRST, 0, FIRST.index("\n")).boxes
    assert whole[0] < left < right < whole[2]
    assert right - left < 0.5 * (whole[2] - whole[0])


def test_equal_passages_are_told_apart_by_the_text_around_them(pages, write_pdf):
    text = f"{FIRST}\n{SECOND}\n"
    path = str(write_pdf(text))
    start = text.rindex("The old bridge")
    second = pages.place(path, 1, text, start, start + len("The old bridge"))
    first = pages.place(path, 1, text, 0, len("The old bridge"))
    assert second.num_places == first.num_places == 1
    assert second.boxes[0][1] > first.boxes[0][3]


def test_passages_that_nothing_tells_apart_are_all_marked(pages, write_pdf):
    path = str(write_pdf("It rained.\nIt rained.\nIt rained."))
    found = pages.place(path, 1, "It rained.", 0, 10)
    assert (found.num_places, len(found.boxes)) == (3, 3)


def test_divided_words_ligatures_and_spaces_do_not_matter(pages, write_pdf):
    path = str(write_pdf("an efficient mix-\nture  of  both kinds"))
    text = "an eﬃcient mixture\nof both kinds\n"
    found = pages.place(path, 1, text, 0, len(text))
    assert (found.num_places, found.is_whole, len(found.boxes)) == (1, True, 2)


def test_a_passage_that_is_not_on_the_page_is_not_guessed(pages, write_pdf):
    path = str(write_pdf(FIRST, SECOND))
    found = pages.place(path, 1, "the ferry sank on its way over", 0, 30)
    assert (found.boxes, found.num_places, found.is_whole) == ((), 0, False)


def test_of_a_passage_in_pieces_only_the_certain_lines_are_marked(pages, write_pdf):
    path = str(write_pdf("The old bridge was closed\nsomething else stands here\nin the winter of that year."))
    text = FIRST + "\nand this line is nowhere\n"
    found = pages.place(path, 1, text, 0, len(text))
    assert (len(found.boxes), found.num_places, found.is_whole) == (2, 1, False)


@pytest.mark.parametrize(
    ("saving", "reason"),
    [({"encryption": pymupdf.PDF_ENCRYPT_AES_256, "user_pw": "x", "owner_pw": "y"}, "its password is not kept")],
)
def test_an_encrypted_file_is_refused_with_the_reason(pages, write_pdf, saving, reason):
    with pytest.raises(IngestError, match=reason):
        pages.draw(str(write_pdf(FIRST, **saving)), "encrypted", 1, 600)


def test_a_page_that_is_not_there_and_a_damaged_file_are_refused_and_the_next_page_is_drawn(pages, write_pdf, tmp_path):
    path = write_pdf(FIRST)
    with pytest.raises(IngestError, match="there is no page 9; the file has 1"):
        pages.draw(str(path), "nine", 9, 600)
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\n" + random.Random(3).randbytes(3000))
    with pytest.raises(IngestError):
        pages.draw(str(broken), "broken", 1, 600)
    assert pages.draw(str(path), "sound", 1, 600).startswith(b"\x89PNG")


def test_a_page_of_any_shape_has_a_limited_number_of_pixels(pages, tmp_path):
    made = pymupdf.open()
    made.new_page(width=10, height=14_000)
    made.save(tmp_path / "strip.pdf")
    picture = pymupdf.Pixmap(io.BytesIO(pages.draw(str(tmp_path / "strip.pdf"), "strip", 1, WIDTHS[-1])))
    assert picture.width * picture.height <= 8_100_000


def test_the_same_page_is_drawn_once(pages, write_pdf):
    path = write_pdf(FIRST)
    first = pages.draw(str(path), "once", 1, 700)
    path.unlink()
    assert pages.draw(str(path), "once", 1, 900) is first
    assert pages.cached_bytes >= len(first)


def test_a_cache_never_holds_more_bytes_than_it_may():
    made = []
    cache = ByteCache(100, len)
    for number in range(30):
        cache.get(number, lambda: made.append(1) or b"x" * 40)
        assert cache.num_bytes <= 100
    cache.get(29, lambda: made.append(1) or b"x" * 40)
    assert len(made) == 30
    assert len(cache.get("large", lambda: b"x" * 500)) == 500
    assert cache.num_bytes == 80
