"""Which measurements are made, skipped or failed; small ones run for real. No time is asserted."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from sala_kernels import CpuInt4Matrix, int4_dequantize

from sala_core.bench import ModelPlan, bench_model, child
from sala_core.bench.child import ChildFailed, ChildOutOfMemory
from sala_core.bench.kernels.ceilings import Ceilings
from sala_core.bench.models import answer_job
from sala_core.bench.models import run as models
from sala_core.bench.models.answer_job import AnswerJob, random_ids
from sala_core.bench.models.answers import measure_answer
from sala_core.bench.models.forced_drafts import measure_forced_drafts
from sala_core.bench.models.prompt_lookup import measure_prompt_lookup
from sala_core.bench.models.saving import measure_saving
from sala_core.bench.random_weights import RandomWeights
from sala_core.bench.records import ModelRow, read_model_rows
from sala_core.errors import BenchError, DeviceError, MemoryBudgetError

CPU = torch.device("cpu")
JOB = AnswerJob(
    model="sala", size="embedded", length=1024, weights="fp32", kv="auto", device="cpu", new_tokens=6, runs=2,
    warm=False,
)  # fmt: skip


def made_up(job, options):
    seconds = options["length"] / 1024 * (1 if options["model"] == "sala" else options["length"] / 4096)
    row = replace(AnswerJob(**options).row, ttft_s=seconds, end_to_end_s=seconds, runs=1)
    yield asdict(replace(row, what=job, reading_bytes=4_000_000_000, reading_flops=10**12))


def test_lengths_ascend_and_the_two_models_alternate(children, tmp_path):
    started = children(made_up)
    plan = ModelPlan(device="cpu", lengths=[1024, 2048], parts=["sala", "full"])
    rows = [row for _, row in bench_model(plan, tmp_path)]
    assert [(row.model, row.length) for row in rows] == [
        ("sala", 1024), ("full", 1024), ("sala", 2048), ("full", 2048),
    ]  # fmt: skip
    assert [job for job, _ in started] == ["machine", *["answer"] * 4]
    assert all(row.hardware == "CPU test" and row.copy_bytes_per_s == 1e9 for row in rows)
    assert all(row.reading_limit_s == 4.0 for row in rows)
    assert read_model_rows(tmp_path / "model-cpu.csv") == rows


def test_saving_and_speculation_are_measured_at_shorter_lengths(children, tmp_path):
    started = children(made_up)
    rows = [row for _, row in bench_model(ModelPlan(device="cpu", lengths=[1 << 16]), tmp_path)]
    assert [row.what for row in rows] == ["answer", "answer", "saving", "speculation"]
    assert [options["length"] for _, options in started[1:]] == [1 << 16, 1 << 16, 1 << 14, 1 << 12]


def test_out_of_memory_is_a_row_and_longer_lengths_are_skipped(children, tmp_path):
    def answer(job, options):
        if options["model"] == "full" and options["length"] >= 2048:
            raise ChildOutOfMemory
        yield from made_up(job, options)

    started = children(answer)
    plan = ModelPlan(device="cpu", lengths=[1024, 2048, 4096, 8192], parts=["sala", "full"])
    rows = {(row.model, row.length): row.status for _, row in bench_model(plan, tmp_path)}
    assert rows["full", 2048] == "out of memory"
    assert rows["full", 4096] == rows["full", 8192] == "skipped: out of memory at 2K"
    assert all(rows["sala", length] == "measured" for length in plan.lengths)
    assert sum(options.get("model") == "full" for _, options in started) == 2


def test_a_failed_child_is_a_row_and_the_other_model_continues(children, tmp_path):
    def answer(job, options):
        if options["model"] == "sala":
            raise ChildFailed("exit code 1")
        yield from made_up(job, options)

    children(answer)
    plan = ModelPlan(device="cpu", lengths=[1024, 2048])
    rows = [(row.what, row.model, row.status) for _, row in bench_model(plan, tmp_path)]
    assert rows == [
        ("answer", "sala", "failed: exit code 1"),
        ("answer", "full", "measured"),
        ("answer", "sala", "skipped after: failed: exit code 1"),
        ("answer", "full", "measured"),
        ("saving", "sala", "failed: exit code 1"),
        ("speculation", "sala", "failed: exit code 1"),
    ]


def test_a_length_that_would_take_too_long_is_skipped(children, tmp_path):
    children(made_up)
    plan = ModelPlan(device="cpu", lengths=[4096, 16_384, 65_536], parts=["full"], patience_s=100)
    rows = [row.status for _, row in bench_model(plan, tmp_path)]
    assert rows == ["measured", "measured", "skipped: about 17 min"]


def test_an_interrupted_run_keeps_the_measured_rows(children, tmp_path):
    children(made_up)
    running = bench_model(ModelPlan(device="cpu", lengths=[1024, 2048]), tmp_path)
    rows = [next(running)[1] for _ in range(3)]
    running.close()
    assert read_model_rows(tmp_path / "model-cpu.csv") == rows


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"size": "9b", "weights": "bf16"}, BenchError),
        ({"weights": "int4"}, BenchError),
        ({"device": "tpu"}, DeviceError),
    ],
)
def test_an_impossible_plan_is_refused_before_anything_is_written(changes, error, tmp_path):
    with pytest.raises(error):
        next(bench_model(ModelPlan(**{"device": "cpu", **changes}), tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_card_gets_the_full_size_and_a_cpu_the_embedded_one(monkeypatch):
    monkeypatch.setattr(models, "resolve_device", lambda device: torch.device(device))
    card, cpu = ModelPlan(device="cuda").resolved(), ModelPlan(device="cpu").resolved()
    assert (card.size, card.weights, card.new_tokens, card.lengths[-1]) == ("9b", "int4", 1024, 1 << 20)
    assert (cpu.size, cpu.weights, cpu.lengths) == ("embedded", "fp32", [1 << n for n in range(12, 19)])
    assert ModelPlan(device="cuda", size="embedded").resolved().weights == "bf16"
    large = ModelPlan(device="cpu", size="9b").resolved()
    assert (large.weights, large.lengths, large.parts, large.runs) == ("int4", [1024, 8192], ("sala",), 1)
    asked = ModelPlan(device="cpu", size="9b", lengths=[4096], parts=["full"], runs=2).resolved()
    assert (asked.lengths, asked.parts, asked.runs) == ([4096], ["full"], 2)


def test_the_9b_size_on_a_cpu_has_a_table_of_its_own(children, tmp_path):
    started = children(made_up)
    files = {file.name for file, _ in bench_model(ModelPlan(device="cpu", size="9b"), tmp_path)}
    assert files == {"model-9b-cpu.csv"}
    assert [(job, options["length"], options["weights"]) for job, options in started[1:]] == [
        ("answer", 1024, "int4"), ("answer", 8192, "int4"),
    ]  # fmt: skip


def test_random_int4_weights_of_a_cpu_are_packed_without_a_dense_copy():
    random = RandomWeights(torch.bfloat16, torch.device("cpu"), packed=True)
    matrix = random.weight("model.layers.0.mlp.up_proj.weight", (200, 256))
    assert isinstance(matrix, CpuInt4Matrix)
    assert matrix.shape == (200, 256)
    weight = int4_dequantize(matrix, torch.float32)
    assert float(weight.std()) == pytest.approx(256**-0.5, rel=0.05)
    assert isinstance(random.weight("model.layers.0.self_attn.o_gate.weight", (200, 256)), torch.Tensor)


def test_random_weights_that_do_not_fit_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(answer_job, "free_device_bytes", lambda device: 6 << 30)
    with pytest.raises(MemoryBudgetError, match=r"weights take 6\.[1-4] GiB and 6\.0 GiB is free"):
        answer_job.open_engine(replace(JOB, size="9b", weights="int4"))


@pytest.mark.parametrize("model", ["sala", "full"])
def test_an_answer_is_measured(model, one_thread, monkeypatch):
    row = measure_answer(replace(JOB, model=model))
    assert (row.status, row.runs, row.new_tokens, row.kv) == ("measured", 2, 6, "fp32")
    assert 0 < row.ttft_s < row.end_to_end_s
    assert row.ttft_processor_s > 0
    assert row.ms_per_token == pytest.approx(1e3 * (row.end_to_end_s - row.ttft_s) / 5, rel=0.5)
    assert row.peak_memory_bytes > row.weight_bytes > 7_000_000 * 4 * 0.7
    assert row.reading_flops > 1024 * 2 * 3_600_000
    assert row.decoding_bytes > row.weight_bytes * 0.9


@pytest.mark.parametrize("model", ["sala", "full"])
def test_packed_weights_and_quantized_kv_are_measured_too(model, one_thread):
    row = measure_answer(replace(JOB, model=model, weights="int4", kv="int8", length=1100, runs=1, warm=True))
    assert row.status == "measured"
    assert row.kv == ("int8" if model == "sala" else "bf16")
    assert row.weight_bytes < measure_answer(replace(JOB, model=model, weights="bf16", runs=1)).weight_bytes


def test_saving_is_measured_beside_reading(one_thread):
    reading, saving = measure_saving(replace(JOB, length=1500))
    assert (reading.what, saving.what, reading.runs, saving.runs) == ("reading", "saving", 2, 2)
    assert "% against reading alone" in saving.note
    assert " 0 MB" not in saving.note


def test_answers_that_quote_take_fewer_passes_and_stay_the_same(one_thread):
    plain, drafted = measure_prompt_lookup(replace(JOB, length=1024))
    assert plain.new_tokens == drafted.new_tokens > 80
    assert drafted.note.endswith("the same answers")
    assert float(drafted.note.partition("drafts: ")[2].split()[0]) > 1.3  # tokens a pass


def test_forced_drafts_fill_every_pass(one_thread):
    plain, forced = measure_forced_drafts(replace(JOB, new_tokens=40))
    assert plain.new_tokens == 40
    assert "drafts forced" in forced.note
    assert "the same answer" in forced.note
    accepted = float(forced.note.rpartition(";")[2].split()[0])
    assert accepted > 10


def test_random_ids_are_the_same_for_both_models():
    assert torch.equal(random_ids(50, 100), random_ids(50, 100))
    assert not torch.equal(random_ids(50, 100), random_ids(50, 100, seed=2))


def test_a_real_child_gives_records_or_fails_or_runs_out_of_memory(environment, monkeypatch, tmp_path):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    [facts] = child.records("machine", device="cpu", dtype="float32", shrink=64)
    assert Ceilings(**facts["ceilings"]).flops_per_s > 0
    with pytest.raises(ChildFailed):
        child.record("machine", device="nowhere", dtype="float32")
    options = {**asdict(JOB), "model": "full", "length": 1 << 40, "runs": 1}
    with pytest.raises(ChildOutOfMemory):
        child.record("answer", **options)


def test_a_child_ignores_ctrl_c(environment):
    code = (
        "import os, signal, sala_core.bench.jobs as jobs\n"
        "def job():\n    os.kill(os.getpid(), signal.SIGINT)\n    yield {'alive': True}\n"
        "jobs.JOBS['test'] = job\n"
        "import sys; sys.argv[1:] = ['test', '{}']\n"
        "from sala_core.bench.__main__ import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == {"alive": True}


def test_model_rows_are_json():
    assert json.loads(json.dumps(asdict(JOB.row))) == asdict(JOB.row)
    assert isinstance(JOB.row, ModelRow)
