"""The program that installs packages: uv where it is installed, otherwise pip. Standard library only."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.setup.user_sources import pip_settings, uv_has_sources


@dataclass(frozen=True, kw_only=True)
class Installer:
    """The commands that create an environment and install packages into it. Both programs give the same packages."""

    name: Literal["pip", "uv"]
    uv: str = ""
    """Path of uv; empty for pip."""
    has_own_sources: bool = False
    """Whether the user's settings name an index or a folder of packages."""

    def create(self, folder: Path) -> list[str]:
        """Return the command that creates an environment of the running Python in `folder`."""
        if self.name == "uv":
            return [self.uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        return [sys.executable, "-m", "venv", str(folder)]

    def install(self, python: Path, packages: Sequence[str], environ: dict[str, str]) -> list[str]:
        """Return the command that installs into the environment of `python`.

        packages: requirements and options that pip and uv share. environ: the variables of a child process.
        """
        if self.name == "uv":
            return [self.uv, "pip", "install", "--python", str(python), *packages]
        bar = "raw" if _pip_version(python, environ) >= (24, 1) else "off"
        quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", bar]
        return [str(python), "-u", "-m", "pip", "install", *quiet, *packages]

    @property
    def probe(self) -> str:
        """A Python program that fails in an environment that this installer cannot use."""
        modules = "sys, sysconfig, os" + (", pip" if self.name == "pip" else "")
        return f"import {modules}; sys.exit(not os.path.isdir(sysconfig.get_path('purelib')))"


def choose_installer() -> Installer:
    """Return uv if it is on the PATH, otherwise pip.

    uv reads none of pip's settings. If the user has set where and how pip gets packages, and nothing of that kind for
    uv, pip installs.
    """
    program = shutil.which("uv")
    for_pip, for_uv = pip_settings(), program is not None and uv_has_sources()
    if program is not None and (for_uv or not (for_pip.names_sources or for_pip.names_routes)):
        return Installer(name="uv", uv=os.path.abspath(program), has_own_sources=for_uv)
    return Installer(name="pip", has_own_sources=for_pip.names_sources)


def _pip_version(python: Path, environ: dict[str, str]) -> tuple[int, ...]:
    """Return the first two numbers of the version of an environment's pip."""
    output = subprocess.run(
        [str(python), "-c", "import pip; print(pip.__version__)"],
        capture_output=True,
        encoding="utf-8",
        env=environ,
        check=False,
    ).stdout
    return tuple(int(part) for part in output.strip().split(".")[:2] if part.isdigit())
