"""`bench peers`: what is measured, skipped and written; the GGUF file that llama.cpp is given."""

import importlib.util
from dataclasses import asdict, replace

import numpy as np
import pytest

from sala_core.bench.peers import PeerPlan, PeerRow, bench_peers, draw_peers, read_peer_rows, run
from sala_core.bench.peers.gguf_model import write_gguf
from sala_core.bench.peers.jobs import PeerJob, measure_peer
from sala_core.bench.sizes import full_config
from sala_core.errors import BenchError

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("gguf") is None,
    reason="the extra peers is not installed",
)


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(run, "_PACKAGES", ("json",))


def made_up(job, options):
    seconds = (options["length"] / 4096) ** (1 if options["engine"] == "sala" else 2)
    row = PeerRow(engine=options["engine"], length=options["length"], weights=options["weights"])
    yield asdict(
        replace(
            row, read_s=seconds, read_processor_s=2 * seconds, decode_ms=2.0, decode_processor_ms=3.0, restore_s=0.1
        )
    )


def test_without_the_packages_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "_PACKAGES", ("no_such_package",))
    with pytest.raises(BenchError, match=r"no_such_package cannot be imported.*sala-desktop\[peers\]"):
        next(bench_peers(PeerPlan(), tmp_path))


def test_int4_weights_are_refused(installed, tmp_path):
    with pytest.raises(BenchError, match="fp32 or bf16"):
        next(bench_peers(PeerPlan(weights="int4"), tmp_path))


def test_both_engines_in_turn_and_a_reading_that_takes_too_long_is_skipped(children, installed, tmp_path):
    started = children(made_up)
    plan = PeerPlan(lengths=[4096, 65_536, 131_072], patience_s=200)
    rows = [row for _, row in bench_peers(plan, tmp_path)]
    assert [(row.engine, row.length, row.status.partition(":")[0]) for row in rows] == [
        ("sala", 4096, "measured"), ("llama.cpp", 4096, "measured"),
        ("sala", 65_536, "skipped"), ("llama.cpp", 65_536, "skipped"),
        ("sala", 131_072, "skipped after"), ("llama.cpp", 131_072, "skipped after"),
    ]  # fmt: skip
    assert [job for job, _ in started] == ["machine", "peer", "peer"]
    assert all(row.machine["hardware"] == "CPU test" for row in rows)
    assert read_peer_rows(tmp_path / "peers-cpu.json") == rows
    (picture,) = draw_peers(rows, tmp_path / "peers-cpu.json")
    assert picture.name == "peers-cpu.png"
    assert picture.stat().st_size > 1000


def test_our_engine_is_measured_for_real():
    row = measure_peer(PeerJob(engine="sala", length=1100, new_tokens=4, weights="fp32"))
    assert row.read_s > 0
    assert row.decode_ms > 0
    assert row.restore_s > 0
    assert row.state_bytes > 1100 * 2 * 2 * 2 * 64 * 4  # keys and values of two layers and kv heads


def test_the_file_has_the_tensors_of_the_size(tmp_path):
    gguf = pytest.importorskip("gguf", reason="the extra peers is not installed")
    config = full_config("embedded")
    write_gguf(config, tmp_path / "model.gguf", weights="fp32", context=4096)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    count = sum(int(np.prod(tensor.shape)) for tensor in reader.tensors)
    assert 5e6 < count < 8e6
    assert {tensor.name for tensor in reader.tensors} >= {"token_embd.weight", "blk.5.ffn_down.weight"}


@needs_llama
def test_llama_cpp_is_measured_for_real():
    row = measure_peer(PeerJob(engine="llama.cpp", length=1100, new_tokens=4, weights="fp32"))
    assert row.read_s > 0
    assert row.restore_s > 0
