"""The grammar of question lists and exports."""

from pathlib import Path

import pytest

from app.grammar.parser import parse


def test_one_question_or_a_list():
    assert parse(["ask", "s", "Who?"]).question == "Who?"
    found = parse(["ask", "s", "--questions", "list.csv", "--out", "answers.MD"])
    assert (found.question, found.questions, found.out_file) == ("", Path("list.csv"), Path("answers.MD"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["ask", "s"], "takes a QUESTION, or a list"),
        (["ask", "s", " "], "the question is empty"),
        (["ask", "s", "Who?", "--questions", "f", "--out", "o.md"], "takes a QUESTION, or a list"),
        (["ask", "s", "--questions", "f"], "belong together"),
        (["ask", "s", "Who?", "--out", "o.md"], "belong together"),
        (["ask", "s", "--questions", "f", "--out", "o.xlsx"], "none of .jsonl, .csv, .md"),
        (["ask", "s", "--questions", "f", "--out", "o.md", "--json"], "the suffix of --out is the format"),
        (["show", "s", "--json", "--format", "md"], "two formats"),
    ],
)
def test_what_does_not_fit_together_is_refused(line, words, capsys):
    with pytest.raises(SystemExit) as refusal:
        parse(line)
    assert refusal.value.code == 2
    assert words in capsys.readouterr().err


def test_the_format_of_show():
    assert [parse(["show", "s", *more]).show_as for more in ([], ["--json"], ["--format", "html"])] == [
        "text",
        "json",
        "html",
    ]
