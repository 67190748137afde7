"""Another model in the place of the present one, without a restart; a session's own system prompt."""

import shutil
import time

import pytest
from reading_helpers import last

from sala_core import SamplingParams
from sala_core.errors import ModelError
from sala_core.session.session import Session
from sala_core.session.workspace import ModelChoice, Workspace

pytestmark = pytest.mark.usefixtures("short_segments", "one_thread")

SHORT = SamplingParams(temperature=0.0, max_tokens=4)
_PATIENCE_S = 60.0


def until(condition):
    deadline = time.monotonic() + _PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.003)
    return value


def finished(workspace, job_id):
    return until(lambda: (view := workspace.job(job_id)).status not in ("queued", "running") and view)


@pytest.fixture
def workspace(tmp_path, random_model):
    opened = Workspace(tmp_path / "library", str(random_model), "cpu")
    yield opened
    opened.close()


def test_another_model_is_loaded_in_place_and_each_session_keeps_its_own(
    workspace, random_model, other_model, write_book
):
    switched = []
    workspace.on_switched = switched.append
    session = workspace.new_session("demo")
    job = workspace.submit_read(session.id, [write_book(num_lines=30)])
    workspace.switch_model(ModelChoice(model=str(other_model)))  # after the reading
    assert finished(workspace, job).status == "done"
    until(lambda: switched)
    assert (switched[0].model, workspace.wanted) == (str(other_model), None)
    assert (workspace.model_info().name, workspace.model_info().status) == (str(other_model), "ready")
    refusal = workspace.refusal(session.id)
    assert str(random_model) in refusal
    assert "Open it with its own model" in refusal
    workspace.switch_model(ModelChoice(model=str(random_model)))
    asked = finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT))
    assert (asked.status, workspace.refusal(session.id)) == ("done", None)
    assert asked.result.tokens_reused == workspace.library.parts(session.id)[1].end, "nothing was read again"


def test_a_model_that_is_not_here_is_refused_and_the_present_one_stays(workspace, random_model):
    with pytest.raises(ModelError):
        workspace.switch_model(ModelChoice(model="org/nothing"))
    until(lambda: workspace.model_info().status == "ready")
    assert workspace.model_info().name == str(random_model)


def test_a_model_that_cannot_be_loaded_gives_way_to_the_former_one(workspace, random_model, other_model, tmp_path):
    until(lambda: workspace.model_info().status == "ready")
    damaged, switched = tmp_path / "damaged", []
    shutil.copytree(other_model, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    workspace.on_switched = switched.append
    workspace.switch_model(ModelChoice(model=str(damaged)))
    until(lambda: workspace.wanted is None)
    info = workspace.model_info()
    assert (info.name, info.status, switched) == (str(random_model), "ready", [])
    assert info.switch_failure.startswith(f"{damaged} could not be loaded, and {random_model} is active again: ")
    session = workspace.new_session("demo")
    assert finished(workspace, workspace.submit_ask(session.id, "Who came?", SHORT)).status == "done"
    workspace.switch_model(ModelChoice(model=str(other_model)))
    until(lambda: workspace.wanted is None)
    assert (workspace.model_info().name, workspace.model_info().switch_failure) == (str(other_model), "")


def test_of_several_choices_the_last_one_counts(workspace, random_model, other_model):
    switched = []
    workspace.on_switched = switched.append
    for model in (other_model, random_model, other_model):
        workspace.switch_model(ModelChoice(model=str(model)))
    until(lambda: workspace.wanted is None)
    assert {choice.model for choice in switched} == {str(other_model)}


def test_a_system_prompt_begins_the_stream_and_a_later_one_is_read_with_all_else(session_engine, library, write_book):
    session = library.create_session("demo", model="m", fingerprint="")
    library.set_system_prompt(session.id, "Answer in French.")

    def beginning():
        end = library.parts(session.id)[0].end
        return session_engine.tokenizer.decode(library.token_ids(session.id, 0, end))

    with Session.open(library, session_engine, "demo") as opened:
        last(opened.read([write_book(num_lines=20)]))
        last(opened.ask("Who came?", SHORT))
    assert "Answer in French." in beginning()
    library.set_system_prompt(session.id, "Answer in German.")
    with Session.open(library, session_engine, "demo") as opened:
        assert last(opened.read([])).tokens_read == 0
        assert "Answer in French." in beginning(), "until the session is read again"
        opened.reset()
        receipt = last(opened.read([]))
    assert "Answer in German." in beginning()
    assert receipt.tokens_read == library.session("demo").num_tokens
    assert next(message.text for message in library.messages(session.id)) == "Who came?"
