"""Whole suites: stopped and continued, extended, with the same samples whatever was done before."""

import json

import pytest

from sala_core.errors import EvalError
from sala_core.evals import EvalDone, EvalPlan, EvalProgress, SampleDone, evaluate
from sala_core.evals.run import SUITES

_TIMES = ("seconds", "read_seconds", "time")


def samples(folder, suite):
    lines = [json.loads(line) for line in (folder / f"{suite}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in _TIMES} for line in lines]


def run(model, plan, folder, **options):
    return list(evaluate(model, plan, folder, **options))


@pytest.mark.parametrize("suite", [name for name in SUITES if name != "ppl"])
def test_every_suite_runs_and_writes_samples_table_and_picture(model, tmp_path, suite):
    *_, done = run(model, EvalPlan(suite=suite, lengths=(2048,), samples=2), tmp_path)
    assert isinstance(done, EvalDone)
    rows = [task.labels or (task.name,) for task in SUITES[suite]]
    assert {row.task for row in done.rows} >= {name for names in rows for name in names}
    assert all(row.n == 2 for row in done.rows if row.metric == "score" and not row.task.startswith("mean"))
    assert done.table.read_text().startswith("suite,task,length,metric,n,mean,low,high\n")
    assert done.picture.read_bytes().startswith(b"\x89PNG")
    for sample in samples(tmp_path, suite):
        assert sample["prompt_tokens"] <= 2048
        assert sample["answer_tokens"] <= 6
        assert {"question", "gold", "answer", "depth", "length", "scores", "seed", "index"} <= sample.keys()


def test_the_perplexity_suite_runs(model, tmp_path):
    plan = EvalPlan(suite="ppl", lengths=(2048,), samples=2)
    *_, done = run(model, plan, tmp_path)
    assert [row.task for row in done.rows] == [
        "tokens 0-255", "tokens 256-511", "tokens 512-1023", f"tokens 1024-{2048 - 32}",
    ] or len(done.rows) == 4  # fmt: skip
    assert done.picture.is_file()
    assert [event for event in run(model, plan, tmp_path) if isinstance(event, SampleDone)] == []


@pytest.mark.parametrize("after", [1, 5])
def test_an_interrupted_run_continues_to_the_same_samples(model, tmp_path, after):
    plan = EvalPlan(suite="ruler", tasks=("niah_single_1", "cwe"), lengths=(1024, 1100), samples=2, shared=3)
    run(model, plan, tmp_path / "whole")
    seen = 0
    events = evaluate(model, plan, tmp_path / "cut")
    for event in events:
        seen += isinstance(event, SampleDone)
        if seen == after:
            events.close()
            break
    assert len(samples(tmp_path / "cut", "ruler")) == after
    assert (tmp_path / "cut" / "ruler.csv").is_file()
    more = [event for event in run(model, plan, tmp_path / "cut") if isinstance(event, SampleDone)]
    assert len(more) == 8 - after
    assert samples(tmp_path / "cut", "ruler") == samples(tmp_path / "whole", "ruler")
    assert (tmp_path / "cut" / "ruler.csv").read_text() == (tmp_path / "whole" / "ruler.csv").read_text()


def test_more_samples_and_lengths_are_added_to_what_is_there(model, tmp_path):
    small = EvalPlan(suite="absent", lengths=(1024,), samples=2)
    large = EvalPlan(suite="absent", lengths=(1024, 1100), samples=6)
    run(model, small, tmp_path / "a")
    before = samples(tmp_path / "a", "absent")
    run(model, large, tmp_path / "a")
    run(model, large, tmp_path / "b")
    after = samples(tmp_path / "a", "absent")
    assert after[: len(before)] == before
    key = lambda sample: (sample["length"], sample["index"])  # noqa: E731
    assert sorted(after, key=key) == sorted(samples(tmp_path / "b", "absent"), key=key)


def test_other_settings_are_refused(model, tmp_path):
    plan = EvalPlan(suite="quote", lengths=(1024,), samples=1)
    run(model, plan, tmp_path)
    with pytest.raises(EvalError, match="seed was 0, is 5"):
        run(model, EvalPlan(suite="quote", lengths=(1024,), samples=1, seed=5), tmp_path)
    with pytest.raises(EvalError, match="shared was 5, is 1"):
        run(model, EvalPlan(suite="quote", lengths=(1024,), samples=1, shared=1), tmp_path)
    run(model, EvalPlan(suite="quote", lengths=(1024,), samples=1, seed=5), tmp_path, restart=True)
    assert {sample["seed"] for sample in samples(tmp_path, "quote")} == {5}


def test_it_stops_when_asked_and_reports_it(model, tmp_path):
    plan = EvalPlan(suite="nolima", lengths=(2048,), samples=5)
    seen = []

    def stop():
        return len(seen) >= 3

    for event in evaluate(model, plan, tmp_path, should_stop=stop):
        seen += [event] if isinstance(event, SampleDone) else []
        last = event
    assert isinstance(last, EvalDone)
    assert last.stopped
    assert len(seen) == len(samples(tmp_path, "nolima")) == 3


def test_one_question_per_reading_prefills_for_each_question(model, tmp_path):
    plan = EvalPlan(suite="quote", lengths=(1024,), samples=3, shared=1)
    events = run(model, plan, tmp_path)
    ends = [e for e in events if isinstance(e, EvalProgress) and e.tokens_done == e.tokens_total]
    assert len(ends) == 3


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"suite": "glue"}, "no suite 'glue'"),
        ({"suite": "ruler", "tasks": ("niah",)}, "no task 'niah'"),
        ({"suite": "ppl", "tasks": ("x",)}, "choose from none"),
        ({"suite": "quote", "samples": 0}, "samples"),
        ({"suite": "quote", "shared": 0}, "shared"),
    ],
)
def test_a_plan_is_checked(options, word):
    with pytest.raises(EvalError, match=word):
        EvalPlan(**options)
