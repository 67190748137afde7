"""One server for each module, and sessions that were read into its library."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with the embedded model."""
    from api_server import running

    with running(tmp_path_factory.mktemp("api") / "library") as server:
        yield server


@pytest.fixture(scope="module")
def voyage(served, tmp_path_factory):
    """The name of a session with a story."""
    from api_server import STORY, wait_until

    file = tmp_path_factory.mktemp("book") / "voyage.txt"
    file.write_text(STORY, encoding="utf-8")
    row = served.workspace.new_session("voyage")
    served.workspace.submit_read(row.id, [file])
    wait_until(lambda: served.workspace.active_job(row.id) is None)
    assert served.workspace.library.session(row.id).num_documents == 1
    return "voyage"
