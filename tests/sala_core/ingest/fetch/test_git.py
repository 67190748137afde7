"""A git repository is fetched without its history, and nothing in it is run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sala_core.errors import FetchError
from sala_core.ingest import EncodedDocument, prepare
from sala_core.ingest.fetch.address import parse_address
from sala_core.ingest.fetch.git import fetch_repository
from sala_core.ingest.fetch.web import FetchLimits

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


def git(*arguments: str, folder: Path) -> None:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


@pytest.fixture
def repository(file_server, tmp_path: Path) -> str:
    """The address of a repository with two commits, a filter, a link and a large-file pointer."""
    url, served = file_server
    work = tmp_path / "work"
    (work / "src").mkdir(parents=True)
    marker = tmp_path / "ran"
    (work / ".gitattributes").write_text("*.bin filter=lfs\n*.txt filter=evil\n")
    (work / "README.md").write_text("first")
    (work / "src" / "a.py").write_text("x = 1\n")
    (work / "big.bin").write_text(LFS)
    (work / "link").symlink_to("/etc/passwd")
    git("init", ".", folder=work)
    git("add", ".", folder=work)
    git("commit", "-m", "one", folder=work)
    (work / "README.md").write_text("read me")
    git("commit", "-am", "two", folder=work)
    git("clone", "--bare", str(work), str(served / "p.git"), folder=tmp_path)
    hook = served / "p.git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    git("update-server-info", folder=served / "p.git")
    return f"{url}/p.git"


def test_a_repository_is_read_in_order_under_its_address(repository, tmp_path, tokenizer):
    folder = tmp_path / "fetched"
    folder.mkdir()
    fetched = fetch_repository(parse_address(repository), folder, FetchLimits())
    host = repository.split("/")[2]
    read = [item for item in prepare([fetched.root], tokenizer) if isinstance(item, EncodedDocument)]
    assert [item.document.name for item in read] == [
        f"{host}/p (files)",
        f"{host}/p/README.md",
        f"{host}/p/src/a.py",
        f"{host}/p/.gitattributes",
    ]
    assert read[1].document.text == "read me"
    assert fetched.num_files == 5
    assert (fetched.root / "p" / "big.bin").read_text() == LFS, "no filter has run"
    assert not (tmp_path / "ran").exists()
    assert not (fetched.root / "p" / ".git" / "hooks").exists()


def test_settings_of_the_user_and_of_git_variables_do_not_count(repository, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    evil = tmp_path / "config"
    evil.write_text(f'[filter "evil"]\n\tsmudge = touch {marker}\n[core]\n\tsshCommand = touch {marker}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(evil))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path))
    folder = tmp_path / "fetched"
    folder.mkdir()
    fetch_repository(parse_address(repository), folder, FetchLimits())
    assert not marker.exists()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("limits", "message"), [(FetchLimits(max_bytes=100), "over the limit"), (FetchLimits(max_s=0.0), "took more than")]
)
def test_limits_end_the_clone(repository, tmp_path, limits, message):
    folder = tmp_path / "fetched"
    folder.mkdir()
    with pytest.raises(FetchError, match=message):
        fetch_repository(parse_address(repository), folder, limits)


def test_a_stop_ends_the_clone(repository, tmp_path):
    folder = tmp_path / "fetched"
    folder.mkdir()
    with pytest.raises(FetchError, match="stopped"):
        fetch_repository(parse_address(repository), folder, FetchLimits(), should_stop=lambda: True)


def test_what_git_complains_of_is_told(file_server, tmp_path, monkeypatch):
    with pytest.raises(FetchError, match=r"cannot be fetched: .*not found"):
        fetch_repository(parse_address(f"{file_server[0]}/none.git"), tmp_path, FetchLimits())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="git is needed"):
        fetch_repository(parse_address("https://example.com/x.git"), tmp_path, FetchLimits())
