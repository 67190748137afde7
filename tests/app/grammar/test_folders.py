"""The options of `read` and `remove` for files that change."""

from pathlib import Path

import pytest

from app.grammar.parser import parse


def test_read_and_remove_take_their_options():
    read = parse(["read", "demo", "shelf", "--watch", "--drop-gone", "--yes"])
    assert (read.paths, read.watch, read.drop_gone, read.yes) == ((Path("shelf"),), True, True, True)
    remove = parse(["remove", "demo", "a.txt", "b.txt"])
    assert (remove.session, remove.documents, remove.yes) == ("demo", ("a.txt", "b.txt"), False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["read", "demo", "--again", "--watch"], "--watch needs a PATH"),
        (["read", "demo", "--again", "--drop-gone"], "--drop-gone needs a PATH"),
        (["read", "demo", "shelf", "--again", "--watch"], "--watch does not go with --again"),
        (["remove", "demo"], "DOCUMENT"),
    ],
)
def test_options_that_mean_nothing_are_refused(capsys, line, words):
    with pytest.raises(SystemExit) as ended:
        parse(line)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
