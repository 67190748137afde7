"""The user's question templates are kept in the library's folder."""

import json

import pytest

from app.page.question_lists.templates import BUILT_IN, MAX_OWN, add_template, own_templates, remove_template
from sala_core.errors import QuestionListError


def test_templates_are_kept_once_and_removed(tmp_path):
    assert own_templates(tmp_path) == []
    for text in ("What does ... cost?", "  Who \n wrote ...? ", "What does ... cost?"):
        add_template(tmp_path, text)
    assert own_templates(tmp_path) == ["What does ... cost?", "Who wrote ...?"]
    remove_template(tmp_path, "What does ... cost?")
    assert own_templates(tmp_path) == ["Who wrote ...?"]


def test_what_does_not_fit_is_refused(tmp_path):
    for text, words in (("  ", "needs words"), ("x" * 501, "501")):
        with pytest.raises(QuestionListError, match=words):
            add_template(tmp_path, text)
    full = {"templates": [str(number) for number in range(MAX_OWN)]}
    (tmp_path / "question-templates.json").write_text(json.dumps(full))
    with pytest.raises(QuestionListError, match="remove one first"):
        add_template(tmp_path, "one more ...")
    (tmp_path / "question-templates.json").write_text("[")
    with pytest.raises(QuestionListError, match="remove the file"):
        own_templates(tmp_path)


def test_the_programs_own_templates_have_something_to_fill_in():
    assert all("..." in template.text for template in BUILT_IN)
    assert {"Summarize ...", "Where is ... defined?"} <= {template.text for template in BUILT_IN}
