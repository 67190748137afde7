"""The question files: each line is whole, and no passage is too short to be found or too long to be a citation."""

import json

import pytest

FILES = (
    *(f"assets/training/questions/development-{number}.jsonl" for number in range(1, 6)),
    "assets/evals/natural/held-out.jsonl",
)


@pytest.mark.parametrize("name", FILES)
def test_every_question_names_its_text_its_answer_and_the_passages(name, root):
    rows = [json.loads(line) for line in (root / name).read_text(encoding="utf-8").splitlines()]
    assert len({(row["text"], row["question"]) for row in rows}) == len(rows), "no question twice"
    for row in rows:
        assert set(row) in ({"text", "question", "answer", "passages"}, HELD_OUT_FIELDS)
        assert row["question"].strip()
        assert row["answer"].strip()
        assert bool(row["passages"]) == (row.get("kind") != "false premise")
        assert all(20 <= len(passage) <= 200 for passage in row["passages"])


HELD_OUT_FIELDS = {"text", "question", "answer", "passages", "kind", "half"}


def test_no_text_is_both_in_development_and_held_out(root):
    texts = {name: {json.loads(line)["text"] for line in (root / name).open(encoding="utf-8")} for name in FILES}
    held_out = texts.pop(FILES[-1])
    assert not held_out & set().union(*texts.values())
