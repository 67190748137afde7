"""Pages as pictures for the recognition, within limits of time, and what the receipt says about them."""

import time
from collections.abc import Callable

import pymupdf

from ..result import name_pages
from .tesseract import MAX_PAGE_S, RecognitionError, Recognized, choose_languages, is_available, recognize

DPI = 300
_MAX_PIXELS = 40_000_000
_LOW_CONFIDENCE = 0.7
_NOISY = 12  # mean difference of neighboring pixels, of 255; a clean scan has 1 to 5
_MIN_S = 2.0


def page_picture(page: pymupdf.Page) -> bytes:
    """Return a page as a gray PNG with 300 dpi, less for a very large page, noise smoothed."""
    rect = page.rect
    dpi = DPI
    while dpi > 50 and (rect.width * dpi / 72) * (rect.height * dpi / 72) > _MAX_PIXELS:
        dpi -= 25
    pixmap = page.get_pixmap(dpi=dpi, colorspace=pymupdf.csGRAY, alpha=False, annots=True)
    return _smoothed(pixmap).tobytes("png")


def _smoothed(pixmap: pymupdf.Pixmap) -> pymupdf.Pixmap:
    """A picture with grain is averaged over 3 x 3 pixels: for each speck Tesseract takes as long as for a letter."""
    import numpy as np

    gray = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.stride)[:, : pixmap.width]
    sample = gray[::7].astype(np.int16)
    if sample.size < 100 or np.abs(np.diff(sample, axis=1)).mean() < _NOISY:
        return pixmap
    padded = np.pad(gray, 1, mode="edge").astype(np.uint16)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    mean = ((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) // 9).astype(np.uint8)
    return pymupdf.Pixmap(pymupdf.csGRAY, pixmap.width, pixmap.height, mean.tobytes(), False)


class PageRecognizer:
    """Recognizes the pages of one document one by one, until its time is over.

    max_s: for all pages. on_page: called after each page, so that who waits knows that work goes on.
    """

    def __init__(self, max_s: float, on_page: Callable[[], None]) -> None:
        self._deadline = time.monotonic() + max_s
        self._on_page = on_page
        self._done: dict[int, float] = {}
        self._empty: list[int] = []
        self._late: list[int] = []
        self._failed: dict[str, list[int]] = {}
        self._has_begun = False
        self._is_possible = is_available()

    @property
    def is_possible(self) -> bool:
        """Whether Tesseract is installed."""
        return self._is_possible

    def read(self, page: pymupdf.Page, number: int) -> tuple[str, ...] | None:
        """Return the lines of a page, None if it cannot be recognized. number: from 1, for the notes."""
        if not self._has_begun:
            self._has_begun = True
            self._on_page()  # the time for reading a file without scans may be short
        left = self._deadline - time.monotonic()
        if left < _MIN_S:
            self._late.append(number)
            return None
        try:
            found: Recognized = recognize(page_picture(page), min(left, MAX_PAGE_S))
        except RecognitionError as error:
            self._failed.setdefault(str(error), []).append(number)
            return None
        finally:
            self._on_page()
        if not found.lines:
            self._empty.append(number)
            return None
        self._done[number] = found.confidence
        return found.lines

    def notes(self) -> list[str]:
        """Return what the receipt says: which pages were recognized, with which confidence, and which were not."""
        notes: list[str] = []
        if self._done:
            mean = sum(self._done.values()) / len(self._done)
            languages = choose_languages()[0]
            verb = "was" if len(self._done) == 1 else "were"
            how = f"by OCR (Tesseract, {languages}; confidence {mean:.2f})"
            notes.append(f"{name_pages(self._done)} {verb} recognized {how}")
        if low := {page: value for page, value in self._done.items() if value < _LOW_CONFIDENCE}:
            worst = min(low.values())
            notes.append(f"{name_pages(low)}: recognized with low confidence (from {worst:.2f}): words may be wrong")
        notes += [f"{name_pages(pages)}: not recognized: {reason}" for reason, pages in self._failed.items()]
        if self._empty:
            notes.append(f"{name_pages(self._empty)}: a picture in which no text was recognized")
        if self._late:
            notes.append(f"{name_pages(self._late)}: not recognized: the time for this document was over")
        return notes
