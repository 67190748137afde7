"""Character error rates of text recognition on rendered pages: resolutions, noise, rotation, columns, languages.

    python tests/measure/ocr.py --engine tesseract
    python tests/measure/ocr.py --engine rapidocr        # after: pip install rapidocr onnxruntime

Each page is set in two typefaces from the texts below, rendered, spoiled and recognized. The error rate is the edit
distance to the text that was set, by its length, with white space collapsed. Results: `assets/benchmarks/ocr.md`.
"""

import argparse
import io
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pymupdf
from PIL import Image

TEXTS = {
    "en": (
        "The ferry leaves the pier at 9:40 and holds 1,260 passengers. On Fridays it does not call at Holm, "
        "because the harbour there is too shallow at low tide; a smaller boat takes 45 people across instead."
        " Tickets cost $7.50 for adults and half of that for children under twelve. Dogs travel free of "
        "charge, bicycles pay $2. The keeper of the lighthouse, Mrs. Ellen Ward (born in 1947), wrote in her "
        'diary: "No other winter had so much ice." Her notes were found in 1998, together with 36 letters and'
        " a map of the bay at a scale of 1:25,000. The town council decided by 14 votes to 3 that the old "
        "pier should be repaired before the end of the year."
    ),
    "de": (
        "Die Fähre legt um 9:40 Uhr ab und faßt 1.260 Fahrgäste. Freitags läuft sie Holm nicht an, weil der "
        "Hafen dort bei Ebbe zu flach ist; ein kleineres Boot bringt stattdessen 45 Leute hinüber. Fahrkarten"
        " kosten für Erwachsene 7,50 Euro, für Kinder unter zwölf Jahren die Hälfte. Hunde fahren umsonst, für "
        "Räder zahlt man 2 Euro. Die Wärterin des Leuchtturms, Frau Käthe Groß (geboren 1947), schrieb in ihr "
        "Tagebuch: »Kein anderer Winter hatte so viel Eis.« Ihre Aufzeichnungen wurden 1998 gefunden, dazu 36"
        " Briefe und eine Karte der Bucht im Maßstab 1:25.000. Der Rat beschloß mit 14 gegen 3 Stimmen, die "
        "alte Brücke noch vor Jahresende auszubessern."
    ),
    "fr": (
        "Le bac part à 9 h 40 et peut porter 1 260 voyageurs. Le vendredi, il ne s'arrête pas à Holm, où le "
        "port est trop peu profond à marée basse ; un bateau plus petit y mène alors 45 personnes. Les "
        "billets coûtent 7,50 Euro pour les adultes et la moitié pour les enfants de moins de douze ans. Les "
        "chiens voyagent sans payer, les vélos à 2 Euro. La gardienne du phare, Mme Hélène Lefèvre (née en "
        "1947), écrivait dans son journal : « Aucun autre hiver n'a eu autant de glace. » Ses carnets furent "
        "trouvés en 1998 avec 36 lettres et une carte de la baie à l'échelle 1/25 000. Le conseil décida par "
        "14 voix contre 3 de réparer le vieux débarcadère avant la fin de l'année."
    ),
}
TESSERACT_NAMES = {"en": "eng", "de": "deu", "fr": "fra"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of page. noise: standard deviation in gray levels of 255; rotation in degrees."""

    name: str
    language: str = "en"
    dpi: int = 300
    noise: float = 0.0
    rotation: float = 0.0
    columns: int = 1
    points: float = 10.5


CASES = (
    Case(name="300 dpi"),
    Case(name="200 dpi", dpi=200),
    Case(name="150 dpi", dpi=150),
    Case(name="300 dpi, noise", noise=40),
    Case(name="200 dpi, noise", dpi=200, noise=40),
    Case(name="300 dpi, turned by 1 degree", rotation=1),
    Case(name="200 dpi, turned by 1 degree, noise", dpi=200, rotation=1, noise=25),
    Case(name="300 dpi, two columns", columns=2),
    Case(name="300 dpi, small print (7 points)", points=7),
    Case(name="300 dpi, German", language="de"),
    Case(name="200 dpi, German", language="de", dpi=200),
    Case(name="300 dpi, French", language="fr"),
    Case(name="200 dpi, French", language="fr", dpi=200),
)


def page_image(case: Case, font: str) -> Image.Image:
    """Render the text of a case, a grayscale image. font: one of PyMuPDF's base fonts."""
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    text = TEXTS[case.language]
    words = text.split(" ")
    width = (595 - 100 - 30 * (case.columns - 1)) / case.columns
    for column in range(case.columns):
        part = " ".join(words[column * len(words) // case.columns : (column + 1) * len(words) // case.columns])
        left = 50 + column * (width + 30)
        page.insert_textbox(
            pymupdf.Rect(left, 60, left + width, 800), part, fontsize=case.points, fontname=font, lineheight=1.3
        )
    pixels = page.get_pixmap(dpi=case.dpi, colorspace=pymupdf.csGRAY)
    image = Image.frombytes("L", (pixels.width, pixels.height), pixels.samples)
    if case.rotation:
        image = image.rotate(case.rotation, resample=Image.Resampling.BICUBIC, fillcolor=255)
    if case.noise:
        rng = np.random.default_rng(7)
        spoiled = np.asarray(image, np.float32) + rng.normal(0, case.noise, (image.height, image.width))
        image = Image.fromarray(np.clip(spoiled, 0, 255).astype(np.uint8))
    return image


def edit_distance(first: str, second: str) -> int:
    """Least number of characters to insert, delete or replace."""
    row = np.arange(len(second) + 1)
    codes = np.array([ord(char) for char in second])
    for index, char in enumerate(first, 1):
        least = np.minimum(row[:-1] + (codes != ord(char)), row[1:] + 1)
        new = np.concatenate(([index], least))
        # insertions: the running minimum of new[j] - j, plus j
        offsets = np.arange(len(new))
        row = np.minimum.accumulate(new - offsets) + offsets
    return int(row[-1])


def _tesseract(image: Image.Image, language: str) -> tuple[str, float]:
    """As the program reads a scanned page of a PDF."""
    from sala_core.ingest.parsers.ocr.pages import page_picture
    from sala_core.ingest.parsers.ocr.tesseract import LANGUAGES_VARIABLE, choose_languages, recognize

    os.environ[LANGUAGES_VARIABLE] = TESSERACT_NAMES[language]
    choose_languages.cache_clear()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    page.insert_image(page.rect, stream=buffer.getvalue())
    found = recognize(page_picture(page))
    return " ".join(found.lines), found.confidence


def _rapidocr() -> Callable[[Image.Image, str], tuple[str, float]]:
    from rapidocr import RapidOCR

    engine = RapidOCR()

    def recognize(image: Image.Image, _: str) -> tuple[str, float]:
        found = engine(np.asarray(image.convert("RGB")))
        texts, scores = found.txts or (), found.scores or ()
        return " ".join(texts), sum(scores) / max(1, len(scores))

    return recognize


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Print a table of all cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=("tesseract", "rapidocr"), default="tesseract")
    arguments = parser.parse_args()
    recognize = _tesseract if arguments.engine == "tesseract" else _rapidocr()
    print("| page | error rate | confidence | processor seconds |\n|---|---|---|---|")
    for case in CASES:
        errors = length = 0
        confidence = 0.0
        begin = _cpu_s()
        for font in ("tiro", "helv"):
            expected = " ".join(TEXTS[case.language].split())
            text, mean = recognize(page_image(case, font), case.language)
            errors += edit_distance(" ".join(text.split()), expected)
            length += len(expected)
            confidence += mean / 2
        seconds = (_cpu_s() - begin) / 2
        print(f"| {case.name} | {errors / length:.2%} | {confidence:.2f} | {seconds:.1f} |", flush=True)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"\npeak memory {peak / 1024:,.0f} MiB, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
