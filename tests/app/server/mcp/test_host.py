"""What stands behind the tools: when the model's memory is given back, and faults of the program."""

import os
from types import SimpleNamespace

import anyio
import pytest

pytest.importorskip("mcp", reason="the SDK mcp is not installed")

from mcp.server.mcpserver.exceptions import ToolError

from app.grammar.parser import parse
from app.server.mcp.host import StdioHost
from app.server.mcp.server import SalaServer
from sala_core.errors import LibraryError


class Kept:
    """In the place of a workspace: it counts how often it is closed, and has the jobs that it is given."""

    def __init__(self, owner: int | None) -> None:
        jobs = [] if owner is None else [SimpleNamespace(owner_pid=owner)]
        self.library = SimpleNamespace(jobs=lambda status: jobs)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def host(tmp_path):
    made = StdioHost(parse(["mcp"]), tmp_path / "library", ())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("owner", "is_kept"),
    [(None, False), (os.getpid() + 1, False), (os.getpid(), True)],
    ids=["nobody", "another", "this one"],
)
def test_the_model_is_let_go_unless_this_process_has_work(host, owner, is_kept):
    host._own = kept = Kept(owner)
    host._release()
    assert (host.loaded() is not None, kept.closed) == (is_kept, 0 if is_kept else 1)
    assert (host._idle is not None) == is_kept, "it looks again later"


def test_nothing_is_begun_once_it_ends(host):
    host.close()
    with pytest.raises(LibraryError, match="start it again"):
        host.workspace()


def test_a_fault_of_the_program_goes_to_a_file_and_not_to_the_client(host, monkeypatch):
    def fail(self):
        raise RuntimeError("the private text of a document")

    monkeypatch.setattr(StdioHost, "library", property(fail))
    with pytest.raises(ToolError) as told:
        anyio.run(SalaServer(host).call_tool, "list_sessions", {})
    assert str(told.value).startswith("list_sessions: something unexpected went wrong (RuntimeError)")
    assert "private" not in str(told.value)
    (file,) = (host.folder / "logs").iterdir()
    assert str(file) in str(told.value)
    assert "the private text" in file.read_text()
