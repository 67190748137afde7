"""Where the user's own settings tell pip and uv to take packages from. Standard library only.

A user who has set an index of his own is not sent to another one. uv reads none of pip's settings, so their own
settings are looked up for each of the two.
"""

import configparser
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PIP_SOURCES = ("index-url", "extra-index-url", "find-links", "no-index")
_PIP_ROUTES = ("proxy", "cert", "client-cert", "trusted-host", "constraint")
_PIP_SECTIONS = ("global", "install")
_UV_KEYS = ("index", "index-url", "default-index", "extra-index-url", "find-links", "no-index", "torch-backend")
_UV_VARIABLES = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_TORCH_BACKEND",
)


@dataclass(frozen=True, kw_only=True)
class PipSettings:
    """Which of pip's settings the user has made that matter for an installation."""

    names_sources: bool
    """An index or a folder of packages."""
    names_routes: bool
    """A proxy, certificates, trusted hosts or constraints."""


def pip_settings(environ: Mapping[str, str] = os.environ) -> PipSettings:
    """Read pip's variables and configuration files. A file that cannot be read counts as one that names everything."""
    keys = {key for key in (*_PIP_SOURCES, *_PIP_ROUTES) if environ.get("PIP_" + key.upper().replace("-", "_"))}
    for file in pip_files(environ):
        keys |= _pip_keys(file)
    return PipSettings(names_sources=not keys.isdisjoint(_PIP_SOURCES), names_routes=not keys.isdisjoint(_PIP_ROUTES))


def uv_has_sources(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether uv's variables or configuration files name an index, a folder of packages or a build of torch."""
    return any(environ.get(name) for name in _UV_VARIABLES) or any(_names_uv_source(file) for file in uv_files(environ))


def pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the places of pip's configuration files, whether they exist or not (pip's guide, "Configuration")."""
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return  # pip then reads no file at all
    if own:
        yield Path(own)
    home = Path.home()
    if sys.platform == "win32":
        for folder in (environ.get("PROGRAMDATA"), environ.get("APPDATA")):
            if folder:
                yield Path(folder) / "pip" / "pip.ini"
        yield home / "pip" / "pip.ini"
        yield Path(sys.prefix) / "pip.ini"
        return
    if sys.platform == "darwin":
        yield from (base / "Library/Application Support/pip/pip.conf" for base in (Path("/"), home))
    for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"


def uv_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the places of uv's configuration files, whether they exist or not (uv's guide, "Configuration files")."""
    if environ.get("UV_NO_CONFIG"):
        return
    if own := environ.get("UV_CONFIG_FILE"):
        yield Path(own)
        return
    if sys.platform == "win32":
        folders = [environ.get("APPDATA"), environ.get("PROGRAMDATA")]
    else:
        user = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        folders = [user, *environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep), "/etc"]
    yield from (Path(folder) / "uv" / "uv.toml" for folder in folders if folder)


def _pip_keys(file: Path) -> set[str]:
    """The keys of `_PIP_SOURCES` and `_PIP_ROUTES` that a configuration file sets; all of them if it is damaged."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, ValueError):
        return {*_PIP_SOURCES, *_PIP_ROUTES}  # pip itself reports the file
    sections = [parser[name] for name in _PIP_SECTIONS if parser.has_section(name)]
    found = {key.replace("_", "-") for section in sections for key, value in section.items() if value}
    return found & {*_PIP_SOURCES, *_PIP_ROUTES}


def _names_uv_source(file: Path) -> bool:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError:
        return False
    except ValueError:
        return True  # uv itself reports the file
    return any(values.get(key) or values.get("pip", {}).get(key) for key in _UV_KEYS)
