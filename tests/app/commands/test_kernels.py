"""`launch.py kernels`: really compiles and compares one small operation."""

import json

import pytest

from app import cli
from app.grammar.parser import parse


def run(*line: str) -> int:
    return cli.run(parse(["kernels", *line]))


@pytest.mark.timeout(120)
def test_one_operation_for_one_card_as_json(capfd):
    assert run("rms_norm", "--card", "sm_86", "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert {record["card"] for record in report["compile"]} == {"sm_86"}
    assert all(record["registers"] > 0 and record["good"] for record in report["compile"])
    assert len(report["compare"]) > 1
    assert all(record["good"] for record in report["compare"])
    assert {record["dtype"] for record in report["compare"]} == {"float32", "bfloat16"}
    assert not any(record["local_accesses"] for record in report["compile"])
    assert all(record["num_bytes"] > 0 for record in report["count"])


@pytest.mark.timeout(120)
def test_the_table_shows_cards_errors_and_work(capfd):
    assert run("rms_norm", "--card", "sm_120") == 0
    out, err = capfd.readouterr()
    assert "norm_rows for sm_120" in err
    for line in (
        "sm_120",
        "Every kernel fits every card.",
        "in bfloat16",
        "Every kernel agrees with its reference.",
        "floor µs",
    ):
        assert line in out


def test_a_record_that_is_not_good_is_marked_and_fails(monkeypatch, capsys):
    def records(worker, what, *, quiet):
        worker.kill()
        common = {"operation": "rms_norm", "good": False}
        yield {
            "compile": common
            | {"kernel": "_k", "card": "sm_86", "registers": 255, "stack_bytes": 8, "shared_bytes": 0}
            | {"variants": 2, "tensor_cores": 1, "needs_tensor_cores": True, "pipelined": 1, "async_copies": 0}
            | {"local_accesses": 3},
            "compare": common
            | {"comparison": "c", "error": float("nan"), "limit": 1e-5, "dtype": "bfloat16"}
            | {"cards": ["sm_90"], "emulated": True},
            "count": {"operation": "rms_norm", "workload": "w", "num_bytes": 10, "num_flops": 10},
        }[what]

    monkeypatch.setattr("app.commands.kernels._records", records)
    assert run("rms_norm") == 1
    out = capsys.readouterr().out
    assert "255/8/0 !" in out
    assert "nan !" in out
    assert "1/2, 0/1" in out
    assert "_k for sm_86: 3 loads and stores of local memory" in out
    assert "no GPU computed this" in out


def test_a_worker_that_fails_is_reported(monkeypatch, capfd):
    monkeypatch.setattr("app.commands.kernels.sys.executable", "/bin/false")
    assert run("rms_norm") == 1
    assert "could not be compiled" in capfd.readouterr().err


def test_an_unknown_operation_is_named(capsys):
    assert run("softmax") == 1
    assert "softmax" in capsys.readouterr().err


def test_an_unknown_card_is_bad_usage():
    with pytest.raises(SystemExit) as stop:
        parse(["kernels", "--card", "sm_70"])
    assert stop.value.code == 2
