"""Where the program's own files are: the embedded model, the page's styles, calibration texts, results."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder of `launch.py`."""

ASSETS = ROOT / "assets"
