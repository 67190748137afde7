"""What an installation was made from, as a small file in the environment. Standard library only."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What an installation was made from. If any value changes, the program installs again."""

    pyproject: str
    """SHA-256 of `pyproject.toml`; empty while an installation is not finished."""
    extras: tuple[str, ...]
    executable: str
    """Real path, size and modification time of the environment's interpreter, which change when Python is upgraded."""
    torch_choice: str = "auto"
    """What the user chose: auto, cpu or cuda. An installation with auto takes the build that fits the machine."""
    torch_build: str = ""
    """What is installed: cpu or cuda; empty if an older version of the program wrote the stamp."""

    @classmethod
    def load(cls, file: Path) -> "Stamp | None":
        """Return the stamp in `file`; None if there is none or it is damaged."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(
                pyproject=values["pyproject"],
                extras=tuple(values["extras"]),
                executable=values["executable"],
                torch_choice=values.get("torch_choice", "auto"),
                torch_build=values.get("torch_build", ""),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, file: Path) -> None:
        """Write the stamp atomically."""
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(file)
