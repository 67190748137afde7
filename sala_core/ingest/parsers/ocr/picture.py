"""Picture files (PNG, JPEG, TIFF, WebP, BMP) that a user adds themselves: the text that is recognized in them."""

import pymupdf

from ..result import Parsed, ParseError, ParseLimits, normalize_text
from .pages import PageRecognizer
from .tesseract import install_advice


def parse_picture(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of a picture; a TIFF with several pictures has pages.

    Raises ParseError if Tesseract is not installed, the file is damaged, or nothing is recognized in it.
    """
    recognizer = PageRecognizer(limits.max_ocr_s, limits.on_progress)
    if not recognizer.is_possible:
        raise ParseError(f"a picture: its text can be read once Tesseract (OCR) is installed: {install_advice()}")
    texts: list[str] = []
    try:
        with open(path, "rb") as file:
            document = pymupdf.open(stream=file.read())
        with document:
            for number in range(1, document.page_count + 1):
                lines = recognizer.read(document.load_page(number - 1), number) or ()
                texts.append(normalize_text("".join(f"{line}\n" for line in lines)))
    except (RuntimeError, ValueError, pymupdf.mupdf.FzErrorBase) as error:
        raise ParseError("a picture that is damaged: it cannot be opened") from error
    notes = recognizer.notes()
    if not any(texts):
        raise ParseError("; ".join(note.replace("page 1: ", "") for note in notes) or "a picture without text")
    starts = [0]
    for text in texts[:-1]:
        starts.append(starts[-1] + len(text))
    return Parsed(text="".join(texts), page_starts=tuple(starts) if len(starts) > 1 else (), warnings=tuple(notes))
