"""uv or pip, and their commands."""

import os
import sys
from pathlib import Path

import pytest

from app.setup import installer as installer_module
from app.setup.installer import Installer, choose_installer
from app.setup.user_sources import PipSettings


@pytest.mark.parametrize(
    ("has_uv", "for_pip", "for_uv", "chosen"),
    [
        (True, (False, False), False, ("uv", False)),
        (False, (False, False), False, ("pip", False)),
        (False, (True, False), False, ("pip", True)),
        (True, (True, False), False, ("pip", True)),
        (True, (False, True), False, ("pip", False)),
        (True, (True, True), True, ("uv", True)),
        (True, (False, False), True, ("uv", True)),
    ],
    ids=["uv", "pip", "pip's index", "only pip knows the index", "only pip knows the proxy", "both know", "uv's index"],
)
def test_uv_installs_unless_only_pip_knows_where_packages_are(monkeypatch, has_uv, for_pip, for_uv, chosen):
    monkeypatch.setattr("shutil.which", lambda name: "/somewhere/uv" if has_uv and name == "uv" else None)
    sources, routes = for_pip
    settings = PipSettings(names_sources=sources, names_routes=routes)
    monkeypatch.setattr(installer_module, "pip_settings", lambda: settings)
    monkeypatch.setattr(installer_module, "uv_has_sources", lambda: for_uv)
    installer = choose_installer()
    assert (installer.name, installer.has_own_sources) == chosen
    assert bool(installer.uv) == (installer.name == "uv")


def test_both_create_an_environment_of_the_running_python(tmp_path):
    assert Installer(name="pip").create(tmp_path) == [sys.executable, "-m", "venv", str(tmp_path)]
    uv = Installer(name="uv", uv="/bin/uv").create(tmp_path)
    assert uv == ["/bin/uv", "venv", "--quiet", "--python", sys.executable, str(tmp_path)]


def test_an_environment_of_uv_serves_pip_only_with_pip_in_it():
    assert ", pip" in Installer(name="pip").probe
    assert "pip" not in Installer(name="uv", uv="/bin/uv").probe


@pytest.mark.skipif(os.name == "nt", reason="a script stands for Python")
@pytest.mark.parametrize(("version", "bar"), [("26.1", "raw"), ("24.1.2", "raw"), ("24.0", "off"), ("23.2.1", "off")])
def test_an_old_pip_shows_no_progress(tmp_path, version, bar):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    command = Installer(name="pip").install(python, ["--editable", "."], {})
    assert command[command.index("--progress-bar") + 1] == bar
    assert command[:5] == [str(python), "-u", "-m", "pip", "install"]
    assert command[-2:] == ["--editable", "."]
    uv = Installer(name="uv", uv="/bin/uv").install(Path("p"), ["--editable", "."], {})
    assert uv == ["/bin/uv", "pip", "install", "--python", "p", "--editable", "."]
