"""`launch.py bench`: options, output, and the rows kept when it is interrupted."""

import dataclasses
from pathlib import Path

import pytest

from app import cli
from app.commands import bench as command
from app.grammar.parser import parse
from app.setup.environment import enter
from sala_core import bench
from sala_core.bench import KernelRow, ModelRow
from sala_core.bench.records import Table, read_model_rows

ANSWER = ModelRow(
    what="answer", model="sala", size="9b", length=65_536, weights="int4", kv="bf16", runs=3, ttft_s=4.5,
    end_to_end_s=6.25, new_tokens=1024, ms_per_token=1.75, peak_memory_bytes=7_800_000_000, weight_bytes=6_600_000_000,
    state_bytes=600_000_000, reading_limit_s=1.555, decoding_limit_ms=1.43, note="chunks of 8,192 tokens",
)  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["kernels"], {"what": "kernels", "lengths": (), "only": (), "kv": "auto", "size": None}),
        (["model", "--lengths", "64K,1M,256k"], {"lengths": (65_536, 262_144, 1_048_576)}),
        (["model", "--lengths", "5000,64K,64K"], {"lengths": (5000, 65_536)}),
        (["model", "--size", "9b", "--weights", "bf16", "--kv", "fp8"], {"size": "9b", "weights": "bf16", "kv": "fp8"}),
        (["model", "--only", "sala,saving", "--runs", "2"], {"only": ("sala", "saving"), "runs": 2}),
        (["kernels", "--only", "swiglu", "--out", "x"], {"only": ("swiglu",), "out": Path("x")}),
        (["model", "--patience", "0.5", "--new-tokens", "8"], {"patience": 0.5, "new_tokens": 8}),
    ],
)
def test_options_are_parsed(line, expected):
    arguments = parse(["bench", *line, "--device", "cpu"])
    assert arguments.device == "cpu"
    assert {name: getattr(arguments.bench, name) for name in expected} == expected


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["everything"],
        ["model", "--lengths", "64G"],
        ["model", "--lengths", "12"],
        ["model", "--lengths", "4M"],
        ["model", "--size", "70b"],
        ["model", "--weights", "int8"],
        ["model", "--kv", "int4"],
        ["model", "--only", "nothing"],
        ["model", "--only", ","],
        ["model", "--runs", "0"],
        ["model", "--patience", "nan"],
    ],
)
def test_bad_usage_is_an_error_of_one_line(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["bench", *line])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_installs_its_extra(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "app.setup.environment.Environment.ensure", lambda self, extras, torch_choice: asked.append(list(extras))
    )
    monkeypatch.setattr("app.setup.environment.run_and_wait", lambda command, environ: 0)
    monkeypatch.setattr("os.execve", lambda *args: None)
    for line in (["bench", "kernels"], ["test"], ["sessions"]):
        enter(parse(line), str(tmp_path / "launch.py"), line)
    assert asked == [["bench"], ["test"], []]


def stand_in(rows, file, fail=None):
    """A stand-in for a benchmark that yields these rows, then raises `fail`."""

    def measure(*arguments, **options):
        with Table(file, type(rows[0])) as table:
            for row in rows:
                table.add(row)
                yield file, row
            if fail:
                raise fail

    return measure


def test_rows_of_models_are_printed_and_plotted(tmp_path, monkeypatch, capsys):
    file = tmp_path / "model-test.csv"
    missing = dataclasses.replace(ANSWER, model="full", status="out of memory", ttft_s=None, end_to_end_s=None, runs=0)
    monkeypatch.setattr(bench, "bench_model", stand_in([ANSWER, missing], file))
    assert cli.run(parse(["bench", "model"])) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == (
        "answer sala 9b 64K int4 KV bf16: measured; first token 4.5 s (limit 1.555); in all 6.25 s; 1.75 ms per token "
        "(limit 1.43); memory 7.8 GB; weights 6.6 GB, state 600 MB; runs 3; chunks of 8,192 tokens"
    )
    assert "out of memory" in out[1]
    assert out[2].startswith(f"Written: {file}, {tmp_path / 'model-test-ttft.png'}")
    assert (tmp_path / "model-test-memory.png").is_file()


def test_the_plan_follows_the_options(tmp_path, monkeypatch):
    seen = []

    def measure(plan, folder):
        seen.append((plan, folder))
        yield from ()

    monkeypatch.setattr(bench, "bench_model", measure)
    line = ["--lengths", "4K", "--kv", "int8", "--only", "sala", "--patience", "2", "--out", str(tmp_path)]
    assert cli.run(parse(["bench", "model", "--device", "cpu", *line])) == 0
    [(plan, folder)] = seen
    assert (plan.lengths, plan.kv, plan.parts, plan.patience_s) == ((4096,), "int8", ("sala",), 120)
    assert (plan.device, folder) == ("cpu", tmp_path)


def test_an_interrupted_run_keeps_and_plots_the_measured_rows(tmp_path, monkeypatch, capsys):
    file = tmp_path / "model-test.csv"
    monkeypatch.setattr(bench, "bench_model", stand_in([ANSWER], file, fail=KeyboardInterrupt()))
    assert cli.run(parse(["bench", "model"])) == 130
    assert read_model_rows(file) == [ANSWER]
    assert (tmp_path / "model-test-ttft.png").is_file()
    assert "stopped" in capsys.readouterr().err


def test_a_failed_row_gives_exit_code_1(tmp_path, monkeypatch, capsys):
    rows = [
        KernelRow(operation="swiglu", workload="decode", implementation="Triton", runs=20, time_us=3.5, spread_us=0.2,
                  bound="bytes", fraction=0.625),
        KernelRow(operation="swiglu", workload="prefill", implementation="", status="failed: exit code 1"),
    ]  # fmt: skip
    monkeypatch.setattr(bench, "bench_kernels", stand_in(rows, tmp_path / "kernels-test.csv"))
    assert cli.run(parse(["bench", "kernels"])) == 1
    out = capsys.readouterr().out
    assert "swiglu: decode: Triton: 3.5 µs (spread 0.2, 20 runs), 62.5% of the ceiling (bytes)" in out
    assert "swiglu: prefill: : failed: exit code 1" in out
    assert (tmp_path / "kernels-test-roofline.png").is_file()


def test_without_matplotlib_the_error_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert cli.run(parse(["bench", "kernels"])) == 1
    assert "matplotlib is not installed" in capsys.readouterr().err


def test_a_real_run_at_a_short_length(tmp_path, capfd, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    line = ["--lengths", "1K", "--new-tokens", "4", "--runs", "1", "--only", "full", "--out", str(tmp_path)]
    assert cli.run(parse(["bench", "model", "--device", "cpu", *line])) == 0
    rows = read_model_rows(tmp_path / "model-cpu.csv")
    assert [(row.model, row.status, row.new_tokens) for row in rows] == [("full", "measured", 4)]
    assert all(row.ttft_s and row.reading_limit_s and row.hardware and row.date for row in rows)
    assert "answer full embedded 1K" in capfd.readouterr().out
