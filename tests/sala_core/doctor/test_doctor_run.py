"""A check that crashes, hangs or is stopped loses neither the other checks nor the report."""

import json
import re
import time

import psutil
import pytest

from sala_core.doctor import CheckDone, CheckStarted, ReportWritten, default_report, examine
from sala_core.errors import DoctorError


def run(examination, tmp_path, *groups, should_stop=lambda: False):
    """(outcomes in order, text of the report)."""
    file = tmp_path / "report.md"
    events = list(examine(examination, file, groups=groups, should_stop=should_stop))
    assert isinstance(events[-1], ReportWritten)
    outcomes = [event.outcome for event in events if isinstance(event, CheckDone)]
    assert tuple(outcomes) == events[-1].outcomes
    return outcomes, file.read_text(encoding="utf-8")


def data(text):
    """The JSON block of a report."""
    return json.loads(re.search(r"```json\n(.*?)\n```", text, re.DOTALL)[1])


def runs(pid):
    """Whether a process runs; one that has ended may still wait to be collected."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_outcomes_arrive_in_order_with_their_seconds(examination, tmp_path, broken):
    events = list(examine(examination, tmp_path / "r.md", groups=(broken("sound"),)))
    kinds = [(type(event), getattr(event, "name", None)) for event in events]
    assert kinds == [(CheckStarted, "first"), (CheckDone, None), (CheckStarted, "second"), (CheckDone, None),
                     (ReportWritten, None)]  # fmt: skip
    assert events[1].outcome.figures == {"model": "embedded"}
    assert events[1].outcome.seconds >= events[3].outcome.seconds
    assert not events[-1].stopped


def test_a_crash_keeps_what_was_found_before_and_what_comes_after(examination, tmp_path, broken):
    after = broken("sound")
    _, text = run(examination, tmp_path, broken("segmentation_fault"), after)
    checks = data(text)["checks"]
    assert [(check["name"], check["status"]) for check in checks] == [
        ("first", "ok"),
        ("second", "failed"),
        ("first", "ok"),
        ("second", "ok"),
    ]
    assert "signal SIGSEGV" in checks[1]["reason"]
    assert "Fatal Python error: Segmentation fault" in checks[1]["text"]
    assert checks[1]["advice"] in text.partition("| check |")[0], "failures stand before all else"


@pytest.mark.parametrize(
    ("name", "reason", "advice"),
    [
        ("killed", "exit code -9", "close other programs"),
        ("silent", "without an outcome", "run the command again"),
        ("traceback", "exit code 1", "an error in a kernel"),
    ],
)
def test_a_process_that_ends_badly_fails_its_check_alone(examination, tmp_path, broken, name, reason, advice):
    (first, second), text = run(examination, tmp_path, broken(name))
    assert first.status == "failed"
    assert reason in first.reason
    assert advice in first.advice
    assert second.status == "not run"
    assert "quixwood" not in text


def test_an_endless_check_is_ended_with_the_processes_that_it_started(examination, tmp_path, broken):
    (first, _), text = run(examination, tmp_path, broken("endless", limit_s=10.0))
    assert "did not end within 10 s" in first.reason
    *lines, started = first.text.splitlines()
    assert lines[-1] == "a line of the error output"
    assert len(text) < 20_000, "of a long output only the end"
    assert not runs(int(started))


def test_errors_of_the_program_become_outcomes(examination, tmp_path, broken):
    (_, second), _ = run(examination, tmp_path, broken("foreseen"))
    assert (second.reason, second.advice) == ("model.safetensors is cut short", "download it again")
    outcomes, _ = run(examination, tmp_path, broken("too_large"))
    assert [outcome.status for outcome in outcomes] == ["not possible here"] * 2
    assert "8 GiB is free" in outcomes[0].reason


def test_a_stop_ends_the_running_check_and_keeps_the_report(examination, tmp_path, broken):
    began = time.monotonic()
    outcomes, text = run(
        examination, tmp_path, broken("endless"), broken("sound"), should_stop=lambda: time.monotonic() - began > 1
    )
    assert [outcome.status for outcome in outcomes] == ["not run"] * 4
    assert len(data(text)["checks"]) == 4


def test_a_report_that_cannot_be_written_is_refused_before_any_check(examination, tmp_path, broken):
    for file, word in ((tmp_path, "is a folder"), (tmp_path / "gone" / "r.md", "there is no folder")):
        with pytest.raises(DoctorError, match=word):
            next(examine(examination, file, groups=(broken("sound"),)))


def test_the_default_report_is_a_dated_file_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(r"sala-doctor-\d{8}-\d{6}\.md", default_report().name)
    assert default_report().parent == tmp_path


def test_the_report_is_on_disk_after_each_check(examination, tmp_path, broken):
    """So that it survives even the end of this very process."""
    events = examine(examination, tmp_path / "r.md", groups=(broken("sound"), broken("endless")))
    while not isinstance(next(events), CheckDone):
        pass
    assert "| first | ok |" in (tmp_path / "r.md").read_text(encoding="utf-8")
    events.close()
