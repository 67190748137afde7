"""The command line of `serve`."""

import pytest

from app.grammar.parser import parse


def test_serve_takes_its_own_port_host_and_origins():
    arguments = parse(["serve", "--port", "8001", "--allow-origin", "http://localhost:3000", "--library", "x"])
    assert (arguments.command, arguments.port, str(arguments.library)) == ("serve", 8001, "x")
    assert arguments.serve is not None
    assert arguments.serve.is_local
    assert arguments.serve.origins == ("http://localhost:3000",)
    assert parse([]).serve is None
    assert parse(["serve"]).port is None
    assert not parse(["serve", "--host", "0.0.0.0"]).serve.is_local


@pytest.mark.parametrize(
    "words", [["--allow-origin", "localhost"], ["--allow-origin", "http://x/y"], ["--port", "0"], ["extra"]]
)
def test_what_serve_does_not_take_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["serve", *words])
    assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_options_of_the_page_do_not_belong_to_serve(capsys):
    for option in ("--no-browser", "--window"):
        with pytest.raises(SystemExit):
            parse([option, "serve"])
