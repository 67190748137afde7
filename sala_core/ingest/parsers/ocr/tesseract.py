"""Recognize text in pictures with the Tesseract program of the system (https://tesseract-ocr.github.io/tessdoc/).

It is looked for on the PATH and, on Windows, where its installer puts it. Nothing is downloaded.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

LANGUAGES_VARIABLE = "SALA_OCR_LANGUAGES"
"""Environment variable with the languages of scans as Tesseract names them, joined by plus signs: `deu+fra`. With
`off`, nothing is recognized."""
MAX_PAGE_S = 60.0
_LIST_S = 20.0
_MAX_LANGUAGES = 4  # more make it slower and worse
_MIN_CONFIDENCE = 0.25  # of a line; what is less is a picture, not text
_LOCALES = {
    "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "es": "spa", "fi": "fin", "fr": "fra", "hu": "hun", "it": "ita",
    "ja": "jpn", "ko": "kor", "nb": "nor", "nl": "nld", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "sv": "swe",
    "tr": "tur", "uk": "ukr", "zh": "chi_sim",
}  # fmt: skip


class RecognitionError(Exception):
    """A picture could not be recognized. The message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Recognized:
    """The text of a picture. confidence: mean over its characters, 0 to 1, as Tesseract states it; 0 without text."""

    lines: tuple[str, ...]
    confidence: float


def install_advice() -> str:
    """Return how to install Tesseract on this system, as a command."""
    if sys.platform == "darwin":
        return "brew install tesseract tesseract-lang"
    if sys.platform == "win32":
        return "winget install UB-Mannheim.TesseractOCR"
    return "sudo apt install tesseract-ocr tesseract-ocr-deu (one package for each language)"


@cache
def find_tesseract() -> str | None:
    """Return the path of the program, None if it is not installed."""
    if found := shutil.which("tesseract"):
        return found
    for variable in ("PROGRAMFILES", "LOCALAPPDATA") if sys.platform == "win32" else ():
        path = os.path.join(os.environ.get(variable, ""), "Tesseract-OCR", "tesseract.exe")
        if os.path.isfile(path):
            return path
    return None


def is_available() -> bool:
    """Return whether pictures can be recognized: Tesseract is installed, and not switched off."""
    return os.environ.get(LANGUAGES_VARIABLE, "") != "off" and find_tesseract() is not None


@cache
def choose_languages() -> tuple[str, bool]:
    """Return (languages for `-l`, whether the direction of pages can be found): those asked for, or those installed.

    Of many installed languages, only English and that of the user's locale are used. Raises RecognitionError if the
    program cannot be asked or has no language at all.
    """
    installed = _installed()
    has_direction = "osd" in installed
    asked = [name for name in os.environ.get(LANGUAGES_VARIABLE, "").split("+") if name]
    if missing := [name for name in asked if name not in installed]:
        raise RecognitionError(f"Tesseract has no data for {', '.join(missing)} ({LANGUAGES_VARIABLE})")
    names = [name for name in installed if name not in ("osd", "equ") and not name.startswith("script/")]
    if not names:
        raise RecognitionError("Tesseract has no data for any language")
    if not asked and len(names) > _MAX_LANGUAGES:
        local = _LOCALES.get((os.environ.get("LC_ALL") or os.environ.get("LANG") or "")[:2], "eng")
        asked = [name for name in dict.fromkeys(("eng", local)) if name in names] or names[:1]
    return "+".join(asked or sorted(names, key=lambda name: (name != "eng", name))), has_direction


def recognize(picture: bytes, max_s: float = MAX_PAGE_S) -> Recognized:
    """Return the text of a picture, its lines in the order of reading, with an empty line between blocks.

    picture: a PNG or PNM file. max_s: seconds. Raises RecognitionError if the program fails or takes longer.
    """
    languages, has_direction = choose_languages()
    mode = "1" if has_direction else "3"
    output = _run(["stdin", "stdout", "-l", languages, "--psm", mode, "tsv"], picture, max_s)
    return _parsed(output)


def _installed() -> list[str]:
    lines = _run(["--list-langs"], b"", _LIST_S).split("\n")
    return [line.strip() for line in lines[1:] if line.strip()]


def _run(arguments: list[str], data: bytes, max_s: float) -> str:
    program = find_tesseract()
    if program is None:
        raise RecognitionError("Tesseract is not installed")
    # one thread: several make it slower on small pages, and the model needs the others
    environ = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        done = subprocess.run(
            [program, *arguments],
            input=data,
            capture_output=True,
            timeout=max_s,
            env=environ,
            check=False,
            creationflags=flags,
        )
    except subprocess.TimeoutExpired as error:
        raise RecognitionError(f"the recognition took more than {max_s:g} s") from error
    except OSError as error:
        raise RecognitionError(f"Tesseract cannot be started: {error.strerror}") from error
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        raise RecognitionError(f"Tesseract failed: {words or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", errors="replace")


def _parsed(table: str) -> Recognized:
    """Read Tesseract's table: one line per word, with block, paragraph, line and confidence in percent."""
    lines: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    for row in table.split("\n")[1:]:
        fields = row.split("\t")
        if len(fields) == 12 and fields[0] == "5" and fields[11].strip():
            lines.setdefault((fields[2], fields[3], fields[4]), []).append(
                (fields[11].strip(), float(fields[10]) / 100)
            )
    shown: list[str] = []
    total, num_chars = 0.0, 0
    previous: tuple[str, str, str] | None = None
    for key, words in lines.items():
        chars = sum(len(word) for word, _ in words)
        weighted = sum(len(word) * confidence for word, confidence in words)
        if weighted < _MIN_CONFIDENCE * chars:
            continue
        if previous is not None and previous[:2] != key[:2]:
            shown.append("")
        previous = key
        shown.append(" ".join(word for word, _ in words))
        total, num_chars = total + weighted, num_chars + chars
    return Recognized(lines=tuple(shown), confidence=total / num_chars if num_chars else 0.0)
