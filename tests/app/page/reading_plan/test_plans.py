"""Plans without a browser: what needs no decision, what waits on disk, what leaves nothing, and their words."""

from dataclasses import replace

import pytest
from fake_planner import EASY
from page_driver import wait_for

from app.page.reading_plan.panel import plan_of_text
from app.page.reading_plan.plan import READ_AT_ONCE_TOKENS, Plan, is_read_at_once
from app.page.reading_plan.plans import Plans
from app.page.reading_plan.words import estimate_json, plan_json
from sala_core.errors import FetchError, IngestError, LibraryError, PlanGoneError
from sala_core.session.planning.records import PlannedFile

SHORT = replace(EASY, tokens=100, tokens_new=100)


def file(state, name="a"):
    return PlannedFile(name=name, state=state, num_tokens=9)


def plan_with(*files, **facts):
    files = list(files) or [PlannedFile(name="a.txt", state="new", num_tokens=100)]
    return Plan(id="1", session_id="", name="a", files=files, needs_decision=False, **facts)


def upload(workspace, name="a.txt"):
    folder = workspace.new_upload_folder()
    path = folder / "files" / name
    path.parent.mkdir(parents=True)
    path.write_text("The carriage waited in the rain.\n")
    return folder, path


def ready(plan):
    wait_for(lambda: plan.status != "counting", "the count")
    return plan


@pytest.mark.parametrize(
    ("plan", "found", "is_at_once"),
    [
        (plan_with(), SHORT, True),
        (plan_with(), replace(SHORT, seconds=None), True),
        (plan_with(), replace(SHORT, seconds=300.0), False),
        (plan_with(), replace(SHORT, tokens_new=READ_AT_ONCE_TOKENS + 1), False),
        (plan_with(), replace(SHORT, refusal="it does not fit"), False),
        (plan_with(), replace(SHORT, tokens_again=900_000), True),
        (plan_with(file("changed")), replace(SHORT, tokens_again=900_000), False),
        (plan_with(file("changed")), replace(SHORT, tokens_again=900), True),
        (
            plan_with(file("new"), file("locked", "b")),
            SHORT,
            False,
        ),
        (plan_with(file("skipped")), SHORT, False),
        (plan_with(*[file("new", str(n)) for n in range(6)]), SHORT, False),
    ],
)
def test_only_a_few_short_files_that_make_nothing_be_read_again_are_read_at_once(plan, found, is_at_once):
    assert is_read_at_once(plan, found) is is_at_once
    plan.needs_decision = True
    assert not is_read_at_once(plan, found)


def test_an_undecided_upload_is_offered_again_by_the_next_start_and_can_be_read_then(workspace):
    workspace.planner.estimate_as = replace(EASY, seconds=9000.0)
    folder, path = upload(workspace)
    plan = ready(Plans(workspace).of_upload("", folder, [path]))
    assert (plan.status, workspace.library.rows) == ("ready", {})
    after = Plans(workspace)
    (offered,) = after.open()
    ready(offered)
    assert (offered.id, offered.name, [file.name for file in offered.files]) == (plan.id, "a", ["a.txt"])
    after.read(offered.id, [])
    assert workspace.offers.all() == []
    assert after.open() == Plans(workspace).open() == []


def test_a_canceled_plan_leaves_nothing_and_is_gone(workspace):
    workspace.planner.estimate_as = replace(EASY, seconds=9000.0)
    plans = Plans(workspace)
    folder, path = upload(workspace)
    plan = ready(plans.of_upload("", folder, [path]))
    plans.cancel(plan.id)
    plans.cancel(plan.id)
    assert not plan.folder.exists()
    assert workspace.offers.all() == []
    for action in (lambda: plans.read(plan.id), lambda: plans.estimate(plan.id, ()), lambda: plans.fetch(plan.id)):
        with pytest.raises(PlanGoneError, match="drop the files again"):
            action()


def test_a_refused_reading_keeps_the_plan_and_makes_no_session(workspace, book, monkeypatch):
    workspace.planner.estimate_as = replace(EASY, seconds=9000.0)
    plans = Plans(workspace)
    plan = ready(plans.of_paths("", [book]))

    def refuse(*arguments, **options):
        raise LibraryError("the disk is full")

    monkeypatch.setattr(workspace, "submit_read", refuse)
    with pytest.raises(LibraryError):
        plans.read(plan.id, [])
    assert plans.find(plan.id).status == "ready"
    assert workspace.library.rows == {}


def test_what_goes_wrong_while_counting_is_said(workspace, book):
    def broken():
        raise IngestError("the folder is gone")

    workspace.planner.before_count = broken
    plan = ready(Plans(workspace).of_paths("", [book]))
    assert (plan.status, plan.error) == ("failed", "the folder is gone")


def test_the_path_field_takes_paths_and_addresses_and_says_what_is_neither(workspace, book):
    plans = Plans(workspace)
    assert ready(plan_of_text(plans, "", f" '{book}' ")).paths == (book,)
    git = plan_of_text(plans, "", "https://github.com/owner/name")
    assert (git.status, git.addresses[0].kind, git.name) == ("announced", "git", "name")
    for text, kind, words in (
        ("", IngestError, "Type the path"),
        ("relative/folder", IngestError, "not a full path"),
        ("/no/such/file", IngestError, "there is no file or folder"),
        ("git@host:me/x", FetchError, "over https only"),
    ):
        with pytest.raises(kind, match=words):
            plan_of_text(plans, "", text)


def test_a_plan_and_its_cost_in_words():
    shown = plan_json(plan_with(), 0, 1000)
    assert shown["files"] == [{"name": "a.txt", "state": "new", "tokens": 100, "pages": 0, "reason": "", "made": False}]
    assert plan_json(plan_with(), 1, 1000)["files"] == []
    facts = {title: (value, remark) for title, value, remark in estimate_json(SHORT, 2_097_152)["facts"]}
    assert facts["Time"] == ("about 4 s", "by earlier readings here")
    assert facts["Session"] == ("100 tokens", "of 2.10M at most")
    unmeasured = estimate_json(replace(SHORT, seconds=None, is_first=True), 1)
    assert unmeasured["facts"][0] == ["Time", "measuring …", "no reading on this machine yet"]
    assert not unmeasured["is_final"]
    assert not estimate_json(None, 1)["is_final"]
