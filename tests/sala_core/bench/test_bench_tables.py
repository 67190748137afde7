"""Tables and plots of made-up rows."""

import csv
from dataclasses import replace

import pytest

from sala_core.bench import KernelRow, ModelRow, draw_kernels, draw_models
from sala_core.bench.plots import model_name
from sala_core.bench.records import OUT_OF_MEMORY, Table, read_kernel_rows, read_model_rows

ANSWER = ModelRow(
    what="answer", model="sala", size="9b", length=65_536, weights="int4", kv="int8", runs=3, ttft_s=4.5,
    ttft_spread_s=0.01, end_to_end_s=6.25, end_to_end_spread_s=0.02, new_tokens=1024, ms_per_token=1.75,
    ms_per_token_spread=0.002, peak_memory_bytes=7_812_345_678, reading_limit_s=1.5, decoding_limit_ms=1.43,
    hardware="NVIDIA Test", driver="1.2", torch="2", triton="3", commit="abc", date="2026-01-01", note='a, "b"',
)  # fmt: skip
KERNEL = KernelRow(
    operation="swiglu", workload="decode", implementation="Triton", runs=20, time_us=3.5, spread_us=0.25,
    num_bytes=98_304, num_flops=81_920, bound="bytes", fraction=0.625,
)  # fmt: skip


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path):
    file = tmp_path / "new" / "model.csv"
    with Table(file, ModelRow) as table:
        assert read_model_rows(file) == []
        table.add(ANSWER)
        assert read_model_rows(file) == [ANSWER]
        table.add(replace(ANSWER, ttft_s=None, status=OUT_OF_MEMORY))
        assert read_model_rows(file)[1].ttft_s is None
    lines = list(csv.DictReader(file.open(encoding="utf-8")))
    assert [line["status"] for line in lines] == ["measured", "out of memory"]
    assert lines[1]["ttft_s"] == ""


def test_kernel_rows_are_read_back_unchanged(tmp_path):
    with Table(tmp_path / "kernels.csv", KernelRow) as table:
        table.add(KERNEL)
    assert read_kernel_rows(tmp_path / "kernels.csv") == [KERNEL]


def model_rows():
    full = replace(ANSWER, model="full", kv="bf16", ttft_s=9.0, ms_per_token=4.0, decoding_limit_ms=3.4)
    return [
        ANSWER,
        full,
        replace(ANSWER, length=1 << 20, ttft_s=60.0),
        replace(full, length=1 << 20, status=OUT_OF_MEMORY, ttft_s=None, ms_per_token=None, peak_memory_bytes=None),
        replace(ANSWER, what="saving", ttft_s=None),
    ]


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.fixture
def figures(monkeypatch):
    """The axes of every saved plot, by file name."""
    from sala_core.bench import plots

    axes_by_file = {}
    save = plots._save

    def keep(figure, file):
        axes_by_file[file.name] = figure.axes[0]
        return save(figure, file)

    monkeypatch.setattr(plots, "_save", keep)
    return axes_by_file


def test_models_have_three_plots(tmp_path, figures):
    files = draw_models(model_rows(), tmp_path / "model-x.csv")
    assert [file.name for file in files] == ["model-x-ttft.png", "model-x-token.png", "model-x-memory.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    axes = figures["model-x-ttft.png"]
    assert "out of memory" in texts(axes)
    assert {"4.5", "60", "9"} <= set(texts(axes))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64K", "1M"]
    ours = axes.get_lines()[0]
    assert list(ours.get_xdata()) == [65_536, 1 << 20]
    assert list(ours.get_ydata()) == [4.5, 60.0]
    assert "NVIDIA Test" in " ".join(texts(axes))


def test_a_value_that_no_row_has_is_not_plotted(tmp_path):
    rows = [replace(row, ms_per_token=None) for row in model_rows()]
    assert [file.name for file in draw_models(rows, tmp_path / "m.csv")] == ["m-ttft.png", "m-memory.png"]
    assert draw_models([], tmp_path / "m.csv") == []


def test_cpu_time_is_plotted_for_a_cpu_only(tmp_path):
    rows = [replace(row, hardware="CPU test, 2 threads", ttft_processor_s=3.0) for row in model_rows()]
    assert "m-processor.png" in [file.name for file in draw_models(rows, tmp_path / "m.csv")]
    card = [replace(row, ttft_processor_s=3.0) for row in model_rows()]
    assert "m-processor.png" not in [file.name for file in draw_models(card, tmp_path / "m.csv")]


def test_the_plot_of_kernels_has_each_workload_once(tmp_path, figures):
    rows = [
        KERNEL,
        replace(KERNEL, implementation="torch, the reference", fraction=0.2),
        replace(KERNEL, workload="prefill", bound="FLOPs", fraction=0.5),
        replace(KERNEL, workload="broken", status="failed: exit code 1", fraction=None),
    ]
    assert [file.name for file in draw_kernels(rows, tmp_path / "k.csv")] == ["k-roofline.png"]
    axes = figures["k-roofline.png"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["swiglu: decode", "swiglu: prefill"]
    assert sorted(bar.get_width() for bar in axes.patches) == [50.0, 62.5]
    assert draw_kernels(rows[3:], tmp_path / "k.csv") == []


def test_model_names_have_size_weights_and_kv_that_is_not_the_default():
    assert model_name(ANSWER) == "MiniCPM-SALA 9B, int4, KV int8"
    assert model_name(replace(ANSWER, kv="bf16")) == "MiniCPM-SALA 9B, int4"
    assert model_name(replace(ANSWER, model="full", size="embedded", weights="fp32", kv="fp32")).endswith("size, fp32")
