"""Settings of pip and uv that name an index or a folder of packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.setup.user_sources import PipSettings, pip_files, pip_settings, uv_has_sources

NOTHING = PipSettings(names_sources=False, names_routes=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder without settings, as environment variables."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "XDG_"))]:
        monkeypatch.delenv(name)
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}


@pytest.mark.parametrize(
    ("text", "sources", "routes"),
    [
        ("[global]\nindex-url = https://mirror.example/simple\n", True, False),
        ("[install]\nfind_links = /packages\n", True, False),
        ("[global]\nextra-index-url =\n  https://a.example\n  https://b.example\n", True, False),
        ("[global]\nno-index = true\n", True, False),
        ("[global]\nproxy = http://proxy.example:3128\n", False, True),
        ("[global]\ntimeout = 60\n[list]\nformat = columns\n", False, False),
        ("no section\n", True, True),
    ],
    ids=["index", "find-links", "extra index", "no index", "proxy", "nothing of the kind", "damaged"],
)
def test_pips_configuration_file_is_read(home, tmp_path, text, sources, routes):
    file = tmp_path / "own.conf"
    file.write_text(text)
    read = pip_settings({**home, "PIP_CONFIG_FILE": str(file)})
    # the machine's own files in /etc may name more
    outside = pip_settings(home)
    assert read.names_sources == (sources or outside.names_sources)
    assert read.names_routes == (routes or outside.names_routes)


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"])
def test_pips_variables_are_read(home, name):
    none = {**home, "PIP_CONFIG_FILE": os.devnull}
    assert pip_settings(none) == NOTHING, "pip reads no file then"
    assert pip_settings({**none, name: "x"}) == PipSettings(names_sources=True, names_routes=False)
    assert pip_settings({**none, name: ""}) == NOTHING


def test_the_files_are_those_that_pip_names():
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this environment has no pip")
    named = {line.strip().rpartition(", exists:")[0] for line in listed.stdout.splitlines() if ", exists:" in line}
    assert {str(file) for file in pip_files(os.environ)} == named


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[[index]]\nurl = "https://mirror.example/simple"\n', True),
        ('index-url = "https://mirror.example/simple"\n', True),
        ('[pip]\nfind-links = ["/packages"]\n', True),
        ('[pip]\ntorch-backend = "auto"\n', True),
        ("offline = true\n", False),
        ("= damaged", True),
    ],
)
def test_uvs_configuration_file_is_read(home, tmp_path, text, found):
    file = tmp_path / "config" / "uv" / "uv.toml"
    assert not uv_has_sources(home)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert uv_has_sources(home) == found
    assert not uv_has_sources({**home, "UV_NO_CONFIG": "1"})


def test_uvs_variables_are_read(home):
    assert uv_has_sources({**home, "UV_DEFAULT_INDEX": "https://mirror.example/simple"})
    assert uv_has_sources({**home, "UV_TORCH_BACKEND": "cpu"})
    assert not uv_has_sources({**home, "UV_CACHE_DIR": "/cache"})
