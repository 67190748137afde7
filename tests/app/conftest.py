"""Makes this folder's helper modules (the fake workspace, the page driver) importable by its tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
