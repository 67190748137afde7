"""The command line's grammar: commands, common options, and bad usage."""

from pathlib import Path

import pytest

from app.grammar.parser import Arguments, parse


def test_without_a_command_it_is_the_page():
    assert parse([]) == Arguments(command="page", port=None, browser=True, model="embedded", device="auto")
    assert parse(["--port", "9000", "--no-browser"]) == Arguments(port=9000, browser=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["read", "s", "--again"], {"command": "read", "session": "s", "paths": (), "again": True}),
        (["read", "s", "a", "b c"], {"command": "read", "session": "s", "paths": (Path("a"), Path("b c"))}),
        (
            ["read", "s", "a", "https://example.com/x", "git@example.com:o/n.git", "C:\\a", "./https:/x", "a:b"],
            {
                "paths": (Path("a"), Path("C:\\a"), Path("./https:/x"), Path("a:b")),
                "addresses": ("https://example.com/x", "git@example.com:o/n.git"),
            },
        ),
        (
            ["read", "s", "a", "--all", "--include", "*.js", "--include", "dist/", "--exclude", "*.log"],
            {"everything": True, "include": ("*.js", "dist/"), "exclude": ("*.log",)},
        ),
        (["ask", "s", "why?"], {"command": "ask", "session": "s", "question": "why?", "json": False}),
        (
            ["ask", "s", "why?", "--json", "--max-tokens", "5", "--temperature", "0", "--seed", "7"],
            {"json": True, "max_tokens": 5, "temperature": 0.0, "seed": 7},
        ),
        (["ask", "--json", "s", "--", "-why?"], {"question": "-why?", "json": True}),
        (["sessions", "--json"], {"command": "sessions", "json": True}),
        (["show", "s", "--json"], {"command": "show", "session": "s", "json": True}),
        (["fork", "s", "t"], {"command": "fork", "session": "s", "new_session": "t"}),
        (["delete", "s"], {"command": "delete", "session": "s"}),
        (["check"], {"command": "check"}),
        (["setup"], {"command": "setup"}),
    ],
)
def test_commands_are_parsed(line, expected):
    arguments = parse(line)
    assert {name: getattr(arguments, name) for name in expected} == expected


COMMANDS = (
    ["read", "s", "p"],
    ["ask", "s", "q"],
    ["sessions"],
    ["show", "s"],
    ["fork", "s", "t"],
    ["delete", "s"],
    ["test"],
    ["check"],
    ["setup"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_common_options_stand_before_or_after_every_command(command):
    options = ["--library", "my lib", "--model", "org/name", "--device=cpu", "--kv", "int8", "--bos=off"]
    for line in (options + command, command + options, options[:2] + command + options[2:]):
        arguments = parse(line)
        assert (arguments.command, arguments.library) == (command[0], Path("my lib"))
        assert (arguments.model, arguments.device, arguments.kv) == ("org/name", "cpu", "int8")
        assert arguments.bos_choice is False
    assert (parse(command).library, parse(command).kv_kind) == (None, "auto")
    assert parse(command).model == "embedded"


@pytest.mark.parametrize(
    "line",
    [
        ["nonsense"],
        ["ask", "s"],
        ["ask", "s", " "],
        ["read", "s"],
        ["read", "s", "https://example.com", "--watch"],
        ["read", " ", "p"],
        ["ask", "s", "q", "--max-tokens", "0"],
        ["ask", "s", "q", "--temperature", "-1"],
        ["ask", "s", "q", "--temperature", "nan"],
        ["ask", "s", "q", "--seed", "x"],
        ["--port", "70000"],
        ["--port", "80", "sessions"],
        ["sessions", "--no-browser"],
        ["--device", "tpu"],
        ["--kv", "int4"],
        ["--bos", "yes"],
        ["sessions", "--jso"],
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(line)
    assert stopped.value.code == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert stderr.startswith("error: ")


def test_bf16_means_the_models_own_format_of_keys_and_values():
    assert [parse(["--kv", kind]).kv_kind for kind in ("auto", "bf16", "int8", "fp8")] == [
        "auto",
        "plain",
        "int8",
        "fp8",
    ]


def test_the_format_of_keys_and_values_at_rest_is_an_option_of_every_command():
    assert parse([]).kv_at_rest == parse(["sessions"]).kv_at_rest == "same"
    assert parse(["--kv-at-rest", "int8", "read", "s", "x"]).kv_at_rest == "int8"
    assert parse(["ask", "s", "q", "--kv-at-rest", "int8"]).kv_at_rest == "int8"
    with pytest.raises(SystemExit):
        parse(["--kv-at-rest", "fp8"])


def test_the_token_at_a_sessions_start_is_chosen_by_the_settings_or_by_the_user():
    assert [parse(["--bos", choice]).bos_choice for choice in ("auto", "on", "off")] == ["auto", True, False]
    assert parse(["ask", "s", "q"]).bos_choice == "auto"


def test_everything_after_test_goes_to_pytest():
    arguments = parse(["--device", "cpu", "test", "tests/app", "-k", "not slow", "-x", "--library", "d", "--json"])
    assert arguments.pytest_args == ("tests/app", "-k", "not slow", "-x", "--json")
    assert (arguments.device, arguments.library) == ("cpu", Path("d"))
    assert parse(["ask", "s", "test"]).question == "test"
