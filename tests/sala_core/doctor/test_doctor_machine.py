"""Kernels, graphs, speed, memory and the library: the figures, and what counts as a failure."""

from dataclasses import replace

import pytest
import torch

from sala_core.doctor.checks.graphs import MAX_ERROR, Decoded, compare, decode_all
from sala_core.doctor.checks.kernels import Comparing
from sala_core.doctor.checks.library import library as library_check
from sala_core.doctor.checks.machine import free_bytes, machine
from sala_core.doctor.checks.poison import poison_outcome
from sala_core.doctor.checks.published import nearest
from sala_core.doctor.checks.speed import Measured, measure, memory_outcome
from sala_core.doctor.poisoned_memory import PoisonResult
from sala_core.engine.memory_budget import plan_for
from sala_core.errors import LibraryError


def test_the_machine_is_described(examination):
    system, program, card = machine(examination)
    assert (system.status, program.status) == ("ok", "ok")
    assert program.figures["torch"] == torch.__version__
    assert "GiB free" in system.figures["memory"]
    assert card.status == ("ok" if torch.cuda.is_available() else "not possible here")
    assert "driver" in card.figures


def test_secrets_in_the_environment_are_not_shown(examination, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("TRITON_DEBUG", "1")
    _, program, _ = machine(examination)
    assert "HF_TOKEN=set" in program.figures["environment variables"]
    assert "TRITON_DEBUG=1" in program.figures["environment variables"]
    assert "very_secret" not in str(program.figures)


def test_free_bytes_are_those_of_the_disk_that_would_hold_a_folder(tmp_path):
    assert free_bytes(tmp_path / "not" / "there") > 0


def test_an_operation_that_ends_its_process_fails_and_the_others_are_compared():
    comparing = Comparing("float32", ("no_such_operation", "swiglu"), 240)
    comparing.run()
    outcome = comparing.outcome(on_card=False)
    assert outcome.status == "failed"
    assert "no_such_operation ended its process" in outcome.reason
    assert "ModuleNotFoundError" in outcome.text
    assert outcome.figures["comparisons"] >= 10
    assert "largest error of swiglu" in outcome.figures


def test_comparisons_end_with_their_time():
    comparing = Comparing("float32", ("swiglu",), 0.2)
    comparing.run()
    assert comparing.outcome(on_card=False).status == "not possible here"
    comparing.records = [record("rms_norm", 1e-7)]
    outcome = comparing.outcome(on_card=False)
    assert outcome.status == "ok"
    assert "before: swiglu" in outcome.reason


def record(operation, error, limit=1e-5):
    good = error <= limit
    return {"operation": operation, "comparison": "a case", "error": error, "limit": limit, "good": good}


def test_errors_beyond_their_limit_fail_and_so_does_nan():
    for error in (1e-3, float("nan")):
        comparing = Comparing("bfloat16", ("swiglu",), 1)
        comparing.records = [record("swiglu", 1e-7), record("swiglu", error)]
        outcome = comparing.outcome(on_card=True)
        assert outcome.status == "failed"
        assert "swiglu: a case" in outcome.reason
        assert outcome.figures["where"] == "natively on the card"
        assert f"{error:.1e}" in outcome.figures["largest error of swiglu"]


def test_two_decodings_without_graphs_agree(small_engine, ids):
    one, two = (decode_all(small_engine, ids.tolist(), graphs=False) for _ in range(2))
    outcome = compare("CUDA graphs", one, [two])
    assert outcome.status == "ok"
    assert outcome.figures["tokens"] == 24 + 4 + 16


@pytest.mark.parametrize(
    ("tokens", "shift", "word"),
    [
        ((1, 2, 9), 0.0, "token 2 differs"),
        ((1, 2, -1), 0.0, "not finite"),
        ((1, 2, 3), 0.1, "linear states differ"),
        ((1, 2, 3), float("nan"), "linear states differ"),
    ],
)
def test_graphs_that_differ_fail(tokens, shift, word):
    plain = Decoded(tokens=(1, 2, 3), states=torch.ones(2, 3))
    outcome = compare("g", plain, [plain, Decoded(tokens=tokens, states=torch.ones(2, 3) + shift)])
    assert outcome.status == "failed"
    assert word in outcome.reason


def test_rounding_of_graphs_passes():
    plain = Decoded(tokens=(1,), states=torch.ones(4))
    assert compare("g", plain, [replace(plain, states=torch.ones(4) + MAX_ERROR / 2)]).status == "ok"


def test_a_reading_is_measured_beside_its_plan(session_engine):
    measured = measure(session_engine, 1500, 4)
    assert measured.num_tokens == 1500
    assert measured.prefill_s > 0 < measured.ms_per_token
    assert measured.reserved_bytes is None
    assert memory_outcome(measured, on_card=False).status == "ok"


def test_memory_beyond_the_plan_fails(session_engine):
    plan = plan_for(session_engine, 4096)
    for on_card, used, status in (
        (True, plan.total_bytes, "ok"),
        (True, plan.total_bytes + 1, "failed"),
        (False, plan.total_bytes + (1 << 30), "failed"),
    ):
        measured = Measured(
            num_tokens=4096,
            prefill_s=1.0,
            ms_per_token=1.0,
            peak_bytes=used,
            reserved_bytes=used if on_card else None,
            plan=plan,
        )
        outcome = memory_outcome(measured, on_card=on_card)
        assert outcome.status == status
        assert f"{plan.kv_bytes / 2**20:,.2f} MiB" == outcome.figures["planned for keys and values"]


def test_published_figures_are_those_of_the_nearest_card():
    assert [nearest(gib << 30).card for gib in (8, 24, 32, 48, 141)] == ["RTX 5090"] * 3 + ["A6000D"] * 2
    row = nearest(32 << 30)
    assert round(row.prefill_tokens_per_s) == 6012
    assert round(row.ms_per_token, 1) == 6.5


def test_a_library_that_is_not_there_is_not_made(examination):
    (outcome,) = library_check(examination)
    assert outcome.status == "not possible here"
    assert not examination.library.exists()


def test_a_sound_library_is_counted_and_a_lost_state_is_found(examination, library, read, write_book, short_segments):
    read(library, "The secret session", write_book())
    examination = replace(examination, library=library.folder)
    (outcome,) = library_check(examination)
    assert outcome.status == "ok"
    assert outcome.figures["sessions"] == 1
    assert outcome.figures["checkpoints"] > 0
    assert "secret" not in str(outcome)
    assert "book" not in str(outcome)
    next(library.states_folder.iterdir()).unlink()
    (outcome,) = library_check(examination)
    assert outcome.status == "failed"
    assert "1 state files are missing" in outcome.reason


def test_a_damaged_database_is_found(examination):
    examination.library.mkdir()
    (examination.library / "library.db").write_bytes(b"no database" * 1000)
    with pytest.raises(LibraryError, match="is damaged or no library"):
        list(library_check(examination))


def test_results_that_depend_on_poison_fail():
    def result(kv, *, error=1e-7, finite=True):
        return PoisonResult(kv=kv, step="tails", expected="the reference", finite=finite, error=error, limit=1e-4)

    sound = [("kernels", result("plain")), ("kernels", result("int8"))]
    assert poison_outcome(sound).status == "ok"
    outcome = poison_outcome([*sound, ("kernels", result("fp8", error=float("inf"), finite=False))])
    assert outcome.status == "failed"
    assert "kernels, keys and values fp8, tails: not finite" in outcome.reason
    assert "error 1.0e-03" in poison_outcome([("kernels", result("plain", error=1e-3))]).reason
