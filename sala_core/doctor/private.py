"""Removes private words from a report: paths, user names, host names and names of models that are not published."""

import getpass
import os
import platform
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sala_core.assets import ROOT
from sala_core.doctor.records import Examination, Figure, Outcome

PUBLISHED_MODELS = ("embedded", "openbmb/")
"""Names of models that may stand in a report. All others are written as <model>."""

_SYSTEM_FOLDERS = ("usr", "lib", "lib64", "bin", "sbin", "etc", "proc", "sys", "dev")
_SYSTEM_NAMES = ("root", "user", "admin", "administrator", "ubuntu", "localhost", "nobody", "runner", "docker")
_POSIX_PATH = re.compile(r"(?<![\w.>/])/(?!/)(?:[^\s'\"`<>|:;,()\[\]]+)")
_WINDOWS_PATH = re.compile(r"(?<!\w)(?:[A-Za-z]:\\|\\\\)[^\s'\"`<>|;,()\[\]]+")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b(?!\.\d)")
_CARD_ID = re.compile(r"\b(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4,12})+")
_CACHES = ("HF_HOME", "HF_HUB_CACHE", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")  # variables that name a folder
_MIN_WORD_CHARS = 3


class Privacy:
    """Replaces what names a person, a machine or a file of the user."""

    def __init__(self, paths: Mapping[str, str], words: Mapping[str, str]) -> None:
        """Prepare the replacements.

        paths: path -> its name in the report. words: word -> its name in the report; found regardless of case.
        """
        self._paths = sorted(paths.items(), key=lambda pair: -len(pair[0]))
        usable = {word.lower(): name for word, name in words.items() if len(word) >= _MIN_WORD_CHARS}
        self._words = {word: name for word, name in usable.items() if word not in _SYSTEM_NAMES}
        found = "|".join(re.escape(word) for word in sorted(self._words, key=len, reverse=True))
        # letters alone delimit a word: user_name-2 and USER42 contain the name too
        self._pattern = re.compile(rf"(?<![^\W\d_])(?:{found})(?![^\W\d_])", re.IGNORECASE) if found else None

    @classmethod
    def here(cls, examination: Examination, *folders: Path) -> "Privacy":
        """For this machine and this examination. folders: further folders of the user, as that of the report."""
        given = {
            "<model>": _model_spellings(examination.model),
            "<library>": _spellings(examination.library),
            "<program>": _spellings(ROOT),
            "<environment>": _spellings(Path(sys.prefix)),
            "<cache>": {text for name in _CACHES if name in os.environ for text in _spellings(Path(os.environ[name]))},
            "<temporary>": _spellings(Path(tempfile.gettempdir())),
            "<home>": {*_spellings(Path.home()), *_spellings(Path(os.path.expanduser("~")))},
            "<folder>": {text for folder in (*folders, Path.cwd()) for text in _spellings(folder)},
        }
        paths = {text: name for name, texts in reversed(given.items()) for text in texts if len(text) > 1}
        words = {word: "<user>" for word in _user_names()} | {word: "<host>" for word in _host_names()}
        return cls(paths, words | dict.fromkeys(_model_words(examination.model), "<model>"))

    def clean(self, text: str) -> str:
        """The text without private words."""
        for path, name in self._paths:
            text = text.replace(path, name)
        text = _CARD_ID.sub("<card>", text)
        text = _WINDOWS_PATH.sub("<path>", text)
        text = _POSIX_PATH.sub(_unless_of_the_system, text)
        text = _ADDRESS.sub(lambda match: match[0] if match[0].startswith("127.") else "<address>", text)
        if self._pattern:
            text = self._pattern.sub(lambda match: self._words[match[0].lower()], text)
        return text

    def clean_outcome(self, outcome: Outcome) -> Outcome:
        """The outcome without private words in its reason, advice, figures and text."""
        figures: dict[str, Figure] = {
            self.clean(name): self.clean(value) if isinstance(value, str) else value
            for name, value in outcome.figures.items()
        }
        return replace(
            outcome,
            reason=self.clean(outcome.reason),
            advice=self.clean(outcome.advice),
            text=self.clean(outcome.text),
            figures=figures,
        )


def is_published(model: str) -> bool:
    """Whether the name of a model may stand in a report."""
    return model == PUBLISHED_MODELS[0] or model.startswith(PUBLISHED_MODELS[1:])


def _unless_of_the_system(match: re.Match[str]) -> str:
    first = match[0].split("/")[1]
    is_path = "/" in match[0][1:] or os.path.exists(match[0])  # "/s" in "tokens/s" does not come here: \w before it
    return match[0] if first in _SYSTEM_FOLDERS or not is_path else "<path>"


def _spellings(path: Path) -> set[str]:
    """A path as given, absolute, and with its links resolved."""
    found = {str(path), os.path.abspath(path), os.path.realpath(path)}
    return {text.rstrip("/\\") for text in found if text not in (".", "/")}


def _model_spellings(model: str) -> set[str]:
    """The path of a model in a folder; nothing for a name."""
    folder = Path(model).expanduser()
    return _spellings(folder) if folder.is_dir() else set()


def _model_words(model: str) -> set[str]:
    """The words of a model's name that may not stand in a report."""
    if is_published(model):
        return set()
    folder = Path(model).expanduser()
    return {folder.resolve().name} if folder.is_dir() else {model, *model.split("/")}


def _user_names() -> Iterable[str]:
    names = {os.environ.get(variable, "") for variable in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")}
    names.add(Path.home().name)
    with suppress(OSError, KeyError):  # no entry for this user id
        names.add(getpass.getuser())
    try:
        import pwd

        full = pwd.getpwuid(os.getuid()).pw_gecos.partition(",")[0]
        names |= {full, *(word for word in full.split() if len(word) > _MIN_WORD_CHARS)}
    except (ImportError, KeyError):  # Windows; a user id without an entry
        pass
    return names


def _host_names() -> Iterable[str]:
    names = {platform.node(), socket.gethostname(), os.environ.get("HOSTNAME", ""), os.environ.get("COMPUTERNAME", "")}
    return names | {name.partition(".")[0] for name in names}
