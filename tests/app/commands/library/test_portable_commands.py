"""`export` and `import` on the command line: what is said, and the exit codes."""

import pytest

from app.cli import run
from app.grammar.parser import parse
from sala_core import Engine
from sala_core.session.session import Session
from sala_core.store import Library


@pytest.fixture(scope="module")
def library_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    (folder / "note.txt").write_text("Lena lives in Oslo, and keeps two horses.\n" * 20)
    engine = Engine.load("embedded")
    with Library.open(folder / "library") as library, Session.open(library, engine, "demo", create=True) as session:
        list(session.read([folder / "note.txt"]))
    return folder / "library"


@pytest.fixture
def command(capsys):
    """command(LINE) runs it in this process. Returns (exit code, stdout, stderr)."""

    def run_line(*line):
        code = run(parse([str(word) for word in line]))
        return code, *capsys.readouterr()

    return run_line


def test_a_session_goes_to_another_library_and_nothing_is_read_again(command, library_folder, tmp_path):
    file, other = tmp_path / "demo.sala", tmp_path / "other"
    code, out, _ = command("--library", library_folder, "export", "demo", file)
    assert (code, out.startswith(f"Wrote {file}")) == (0, True)
    assert "the model's state after" in out
    code, out, _ = command("--library", other, "--device", "cpu", "import", file)
    assert (code, out.splitlines()[1]) == (0, "Nothing has to be read again.")
    code, out, _ = command("--library", other, "import", file, "--name", "later", "--without-state")
    assert code == 0
    assert out.endswith("tokens are read again with the next question.\n")
    with Library.open(other) as library:
        assert {row.name: row.position == row.num_tokens for row in library.sessions()} == {
            "demo": True,
            "later": False,
        }


def test_what_cannot_be_done_is_one_line_and_exit_code_1(command, library_folder, tmp_path):
    (tmp_path / "x.sala").write_bytes(b"nothing")
    for line, expected in (
        (("export", "demo", tmp_path / "x.sala"), "exists already"),
        (("export", "nobody", tmp_path / "y.sala"), "no session is called"),
        (("import", tmp_path / "x.sala"), "is no .sala file"),
        (("import", tmp_path / "z.sala"), "cannot read"),
    ):
        code, out, err = command("--library", library_folder, *line)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert expected in err
