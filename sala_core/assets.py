"""Where the program's own files are: the embedded model, the page's styles, calibration texts, results."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder of `launch.py`; in an installed package the folder of the packages."""

IN_CHECKOUT = (ROOT / "launch.py").is_file()
"""Whether the program runs from its own folder, and not as an installed package."""

ASSETS = ROOT / "assets"
"""A package holds only what the program reads: model, page, tokenizer, calibration texts; no results."""

APP_NAME = "sala-desktop"
"""Name of the program's folders for data and cache."""
