"""The wheel: built from the source distribution, installed into a bare environment, and started from another folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from pathlib import Path

import pytest

SOURCES = ("app", "sala_core", "kernels", "assets")
BUILD = """
import sys
from pathlib import Path
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))
"""
MAX_WHEEL_BYTES = 16_000_000

pytestmark = pytest.mark.skipif(os.name == "nt", reason="an environment has other folders on Windows")


def build(what, source, target):
    """Build a `sdist` or `wheel` of a folder. No index is asked: the suite's setuptools builds."""
    command = [sys.executable, "-c", BUILD, what, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """The wheel of the source distribution of a copy of the program."""
    folder = tmp_path_factory.mktemp("package")
    copy = folder / "program"
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "training", "evals", "benchmarks")
    for name in SOURCES:
        shutil.copytree(root / name, copy / name, ignore=ignored if name == "assets" else ignored_caches())
    shutil.copytree(root / "assets" / "training" / "tokenizer", copy / "assets" / "training" / "tokenizer")
    (copy / "assets" / "training" / "results.md").write_text("not for a wheel")
    (copy / "tests").mkdir()
    shutil.copy(root / "tests" / "test_package.py", copy / "tests")
    for file in ("launch.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(root / file, copy)
    archive = build("sdist", copy, folder)
    shutil.unpack_archive(archive, folder, filter="data")
    return build("wheel", folder / archive.name.removesuffix(".tar.gz"), folder)


def ignored_caches():
    return shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def sala(wheel, tmp_path_factory):
    """The command `sala` in an environment of its own, which takes all other packages from the suite's."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    if Path(sysconfig.get_path("purelib"), "pip").is_dir():
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    else:
        command = ["uv", "pip", "install", "--python", str(python), "--no-deps", "--no-index"]
    subprocess.run([*command, "--quiet", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "suite.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "sala"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder of the user's, with a package that is called like one of the program's."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    (folder / "note.txt").write_text("The lighthouse keeper is called Ada Brandt. She repairs clocks.")
    return folder


@pytest.fixture(scope="module")
def environ():
    """The variables of a process that finds nothing of this repository."""
    dropped = ("PYTHONPATH", "SALA_DESKTOP_ENVIRONMENT", "SALA_DESKTOP_PACKAGED")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def test_the_wheel_holds_what_the_program_reads_and_no_more(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"app", "sala_core", "sala_kernels", "assets"}
    for part in ("embedded", "page", "quantize", "training/tokenizer"):
        files = {file.relative_to(root).as_posix() for file in (root / "assets" / part).rglob("*") if file.is_file()}
        assert files <= names
    assert not [name for name in names if name.endswith((".png", ".csv", ".jsonl", "results.md", ".pyc"))]
    recipes = {file.relative_to(root).as_posix() for file in (root / "sala_core").rglob("*.toml")}
    assert recipes <= names
    sources = {
        file.relative_to(root).as_posix() for part in ("app", "sala_core") for file in (root / part).rglob("*.py")
    }
    assert sources <= names


def test_the_command_answers_from_another_folder(sala, elsewhere, environ):
    def run(*line):
        command = [sala, "--library", elsewhere / "library", "--device", "cpu", *line]
        return subprocess.run(command, cwd=elsewhere, env=environ, capture_output=True, text=True, check=False)

    usage = run("--help")
    assert usage.stdout.startswith("usage: sala"), usage.stderr
    assert "test needs a checkout" in run("test").stderr
    read = run("read", "notes", "note.txt")
    assert read.returncode == 0, read.stderr
    answer = run("ask", "notes", "What is the lighthouse keeper called?", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["answer"]


def test_the_page_answers_with_its_styles(sala, elsewhere, environ):
    process = subprocess.Popen(
        [sala, "--library", elsewhere / "library", "--device", "cpu", "--no-browser"],
        cwd=elsewhere,
        env=environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(match[0] for line in process.stdout if (match := re.search(r"http://127\.0\.0\.1:\S+", line)))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
        with opener.open(address, timeout=120) as answered:
            page = answered.read().decode()
        assert answered.status == 200
        head = (Path(__file__).parent.parent / "assets" / "page" / "head.css").read_text(encoding="utf-8")
        assert re.search(r"[.#][\w-]+", head)[0].lstrip(".#") in page
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
