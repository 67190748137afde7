"""A whole quantization: what is written, that it beats round to nearest, and that a stopped run continues."""

import errno
import json
import os
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sala_core import Engine
from sala_core.disk import files as store_files
from sala_core.errors import DiskFullError, QuantizeError
from sala_core.model.checkpoint import expected_shapes, load_config_json, load_gptq_config, load_weights
from sala_core.model.config import SalaConfig
from sala_core.model.gptq import PackedMatrix, dequantize
from sala_core.quantize import LayerDone, MatrixDone, Planned, QuantizeFinished, QuantizeSettings, quantize
from sala_core.quantize.calibration import DEFAULT_CALIBRATION, DEFAULT_HELD_OUT
from sala_core.quantize.work import FOLDER

from .conftest import write_model, write_text

SETTINGS = QuantizeSettings(group_size=32, samples=12, sample_tokens=256)
PARTS = ("qweight", "qzeros", "scales", "g_idx")


def run(source, target, settings=SETTINGS, **options):
    """All events of a run."""
    return list(quantize(source, target, settings, device="cpu", **options))


def report_of(events):
    assert isinstance(events[-1], QuantizeFinished)
    return events[-1].report


def config_of(folder):
    return SalaConfig.from_dict(load_config_json(folder))


@pytest.fixture(scope="module")
def finished(tiny, texts, tmp_path_factory):
    """(events, folder) of one complete run."""
    folder = tmp_path_factory.mktemp("done") / "tiny-int4"
    return run(tiny, folder, **texts), folder


def test_events_report_the_plan_each_matrix_each_layer_and_the_end(finished):
    events, _ = finished
    assert isinstance(events[0], Planned)
    assert [event.index for event in events if isinstance(event, LayerDone)] == [0, 1, 2]
    names = [f"{event.index}.{event.matrix.name}" for event in events if isinstance(event, MatrixDone)]
    order = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert [name.rpartition(".")[2] for name in names] == list(order) * 3


def test_every_matrix_and_the_whole_model_are_better_than_round_to_nearest(finished):
    report = report_of(finished[0])
    for layer in report.layers:
        for matrix in layer.matrices:
            assert 0 < matrix.error < matrix.error_rtn, (layer.index, matrix.name)
    found = report.perplexity
    assert found.tokens > 500
    assert found.divergence_after < 0.5 * found.divergence_rtn
    assert abs(found.after / found.before - 1) < abs(found.rtn / found.before - 1)


def test_perplexities_equal_those_that_the_engine_computes_from_the_folders(tiny, finished, texts):
    """The losses summed layer by layer equal those of the engine, run on the files."""
    events, folder = finished
    found = report_of(events).perplexity
    for source, expected in ((tiny, found.before), (folder, found.after)):
        engine = Engine.load(source, dtype="float32")
        from sala_core.quantize.calibration import read_samples

        samples = read_samples(texts["held_out"], engine.tokenizer, samples=16, sample_tokens=256)
        losses = []
        for ids in samples.ids:
            logits = engine.forward(engine.new_state(), ids)[samples.num_prefix - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[samples.num_prefix :], reduction="none"))
        assert float(torch.cat(losses).mean().exp()) == pytest.approx(expected, rel=1e-4)


def test_the_folder_holds_what_loaders_look_for_and_nothing_else(tiny, finished):
    _, folder = finished
    assert sorted(file.name for file in folder.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "quantize_config.json",
        "quantize_report.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / name).read_bytes() == (tiny / name).read_bytes()
    config = json.loads((folder / "config.json").read_text())
    quantization = config.pop("quantization_config")
    assert config == json.loads((tiny / "config.json").read_text())
    assert quantization == json.loads((folder / "quantize_config.json").read_text())
    assert {key: quantization[key] for key in ("bits", "group_size", "sym", "desc_act", "lm_head")} == {
        "bits": 4, "group_size": 32, "sym": True, "desc_act": False, "lm_head": False,
    }  # fmt: skip
    assert quantization["quant_method"] == quantization["method"] == "gptq"
    assert quantization["checkpoint_format"] == quantization["format"] == "gptq"
    assert quantization["pack_dtype"] == "int32"
    assert quantization["meta"]["damp_percent"] == 0.01
    assert set(quantization["dynamic"]) == {r"-:.*\.z_proj$", r"-:.*\.o_gate$"}
    report = json.loads((folder / "quantize_report.json").read_text())
    assert report["perplexity"]["after"] == report_of(finished[0]).perplexity.after
    assert oct((folder / "model.safetensors").stat().st_mode)[-3:] == "644"


def test_planned_tensors_are_packed_and_all_others_unchanged(tiny, finished):
    stored, original = load_file(finished[1] / "model.safetensors"), load_file(tiny / "model.safetensors")
    with safe_open(str(finished[1] / "model.safetensors"), framework="pt") as reader:
        assert reader.metadata()["format"] == "pt"
    packed = {name.rpartition(".")[0] for name in stored if name.endswith(".qweight")}
    assert len(packed) == 21
    assert not any(name.endswith(("o_gate", "z_proj", "lm_head", "embed_tokens")) for name in packed)
    for name, tensor in original.items():
        module = name.removesuffix(".weight")
        if module in packed:
            assert name not in stored
            assert stored[f"{module}.scales"].dtype == torch.float16
            assert stored[f"{module}.qweight"].shape == (tensor.shape[1] // 8, tensor.shape[0])
        else:
            assert torch.equal(stored[name], tensor)
            assert stored[name].dtype == tensor.dtype


def test_loaded_weights_are_close_to_the_originals(tiny, finished):
    config = config_of(tiny)
    before, after = (load_weights(folder, config, dtype=torch.float32, device="cpu") for folder in (tiny, finished[1]))
    name = "model.layers.1.mlp.up_proj.weight"
    assert 0.02 < float((after[name] - before[name]).norm() / before[name].norm()) < 0.3


@pytest.mark.parametrize(
    "choice", [{"desc_act": True}, {"act_order": False}, {"sym": False}, {"group_size": -1}], ids=str
)
def test_other_settings_are_written_as_given(tiny, texts, tmp_path, choice):
    settings = QuantizeSettings(**{"group_size": 16, "samples": 4, "sample_tokens": 128} | choice)
    report = report_of(run(tiny, tmp_path / "out", settings, **texts))
    written = load_gptq_config(tmp_path / "out")
    assert (written.sym, written.desc_act, written.group_size) == (settings.sym, settings.desc_act, settings.group_size)
    assert report.perplexity.divergence_after < report.perplexity.divergence_rtn
    stored = load_file(tmp_path / "out" / "model.safetensors")
    g_idx = stored["model.layers.0.self_attn.q_proj.g_idx"]
    assert settings.desc_act == (not torch.equal(g_idx, g_idx.sort().values))


def test_the_autogptq_layout_has_its_file_name_zero_biases_and_fields(tiny, texts, tmp_path):
    settings = QuantizeSettings(group_size=16, samples=4, sample_tokens=128, layout="autogptq")
    run(tiny, tmp_path / "out", settings, **texts)
    stored = load_file(tmp_path / "out" / "gptq_model-4bit-16g.safetensors")
    for name in [name for name in stored if name.endswith(".qweight")]:
        bias = stored[name.replace("qweight", "bias")]
        assert bias.shape == (stored[name].shape[1],)
        assert not bias.any()
    written = json.loads((tmp_path / "out" / "quantize_config.json").read_text())
    assert written["is_marlin_format"] is False
    assert written["model_file_base_name"] == "gptq_model-4bit-16g"
    assert set(load_weights(tmp_path / "out", config_of(tiny), dtype=torch.float32, device="cpu")) == set(
        expected_shapes(config_of(tiny))
    )


def test_version_two_gives_the_same_weights_as_version_one(tiny, texts, tmp_path):
    loaded = []
    for checkpoint_format in ("gptq", "gptq_v2"):
        settings = QuantizeSettings(group_size=16, samples=4, sample_tokens=128, checkpoint_format=checkpoint_format)
        run(tiny, tmp_path / checkpoint_format, settings, **texts)
        loaded.append(load_weights(tmp_path / checkpoint_format, config_of(tiny), dtype=torch.float32, device="cpu"))
    assert all(torch.equal(loaded[1][name], weight) for name, weight in loaded[0].items())


def test_head_gates_and_z_are_quantized_when_included(tiny, texts, tmp_path):
    settings = QuantizeSettings(group_size=32, samples=6, sample_tokens=128, include=("lm_head", "o_gate", "z_proj"))
    report = report_of(run(tiny, tmp_path / "out", settings, **texts))
    stored = load_file(tmp_path / "out" / "model.safetensors")
    for module in ("lm_head", "model.layers.1.self_attn.o_gate", "model.layers.0.self_attn.z_proj"):
        assert f"{module}.qweight" in stored
    written = load_gptq_config(tmp_path / "out")
    assert written.lm_head
    assert not written.dynamic
    assert [layer.index for layer in report.layers] == [0, 1, 2, -1]
    head = report.layers[-1].matrices[0]
    assert head.error < head.error_rtn
    original = load_file(tiny / "model.safetensors")["lm_head.weight"]
    read = dequantize(PackedMatrix(**{part: stored[f"lm_head.{part}"] for part in PARTS}), written, dtype=torch.float32)
    assert float((read - original).norm() / original.norm()) < 0.3


def test_matrices_that_do_not_fit_are_left_alone_with_their_partners_and_a_reason(texts, tmp_path):
    odd = write_model(tmp_path / "odd", head_dim=12, intermediate_size=80)
    events = run(odd, tmp_path / "out", SETTINGS, **texts)
    reasons = events[0].left
    alone = {name for names in reasons.values() for name in names}
    assert {f"model.layers.1.self_attn.{kind}_proj" for kind in "qkvo"} <= alone  # k, v: 12 outputs
    assert {f"model.layers.{layer}.mlp.down_proj" for layer in range(3)} <= alone  # 80 inputs, groups of 32
    assert "model.layers.0.self_attn.q_proj" not in alone
    assert any("no multiples of 8" in reason for reason in reasons)
    assert any("group size 32" in reason for reason in reasons)
    assert any("load with it" in reason for reason in reasons)
    written = load_gptq_config(tmp_path / "out")
    assert written.for_module("model.layers.1.self_attn.qkv_proj") is None  # the name that vLLM looks up
    assert written.for_module("model.layers.0.self_attn.q_proj") is not None
    assert written.for_module("model.layers.2.mlp.down_proj") is None
    load_weights(tmp_path / "out", config_of(odd), dtype=torch.float32, device="cpu")


def test_a_model_larger_than_a_shard_is_split_and_indexed(tiny, texts, tmp_path):
    settings = QuantizeSettings(group_size=32, samples=4, sample_tokens=128, max_shard_bytes=300_000)
    run(tiny, tmp_path / "out", settings, **texts)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    assert len(shards) > 2
    sizes = {
        name: sum(t.numel() * t.element_size() for t in load_file(tmp_path / "out" / name).values()) for name in shards
    }
    assert index["metadata"]["total_size"] == sum(sizes.values())
    load_weights(tmp_path / "out", config_of(tiny), dtype=torch.float32, device="cpu")


def test_tied_models_keep_their_embedding_and_refuse_the_head(texts, tmp_path):
    tied = write_model(tmp_path / "tied", tie_word_embeddings=True)
    with pytest.raises(QuantizeError, match="lm_head is the embedding"):
        run(tied, tmp_path / "no", QuantizeSettings(include=("lm_head",)), **texts)
    report = report_of(run(tied, tmp_path / "out", SETTINGS, **texts))
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert report.perplexity.divergence_after < report.perplexity.divergence_rtn


@pytest.mark.parametrize("asks", [1, 9, 25, 40])
def test_a_stopped_run_is_not_a_model_and_continues_to_the_same_bytes(tiny, texts, finished, tmp_path, asks):
    left = iter(range(asks))
    events = run(tiny, tmp_path / "out", should_stop=lambda: next(left, None) is None, **texts)
    assert not any(isinstance(event, QuantizeFinished) for event in events)
    assert not (tmp_path / "out" / "config.json").exists()
    assert not list((tmp_path / "out").glob("*.safetensors"))
    done = [event.index for event in events if isinstance(event, LayerDone)]
    again = run(tiny, tmp_path / "out", **texts)
    assert [event.index for event in again if isinstance(event, LayerDone) and event.reused] == done
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (finished[1] / name).read_bytes()
    assert report_of(again).perplexity == report_of(finished[0]).perplexity
    assert not (tmp_path / "out" / FOLDER).exists()


def test_a_run_killed_while_it_names_its_files_continues(tiny, texts, finished, tmp_path, monkeypatch):
    real = os.replace

    def killed(source, target):
        if str(target).endswith("/config.json"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "out", **texts)
    monkeypatch.setattr(os, "replace", real)
    assert not (tmp_path / "out" / "config.json").exists()
    events = run(tiny, tmp_path / "out", **texts)
    assert sum(isinstance(event, MatrixDone) for event in events) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (finished[1] / "model.safetensors").read_bytes()


def test_an_unfinished_run_with_other_settings_is_refused_without_restart(tiny, texts, tmp_path):
    left = iter(range(40))
    run(tiny, tmp_path / "out", should_stop=lambda: next(left, None) is None, **texts)
    other = QuantizeSettings(group_size=16, samples=12, sample_tokens=256)
    with pytest.raises(QuantizeError, match=r"other settings \(group_size\).*--restart"):
        run(tiny, tmp_path / "out", other, **texts)
    with pytest.raises(QuantizeError, match=r"\(calibration\)"):
        run(tiny, tmp_path / "out", calibration=[write_text(tmp_path / "b.txt", 7, 3000)], held_out=texts["held_out"])
    report_of(run(tiny, tmp_path / "out", other, restart=True, **texts))
    assert load_gptq_config(tmp_path / "out").group_size == 16


def test_a_full_disk_is_reported_and_the_run_continues_later(tiny, texts, finished, tmp_path, monkeypatch):
    real, written = store_files._write_all, []

    def fill(descriptor, piece):
        written.append(len(piece))
        if sum(written) > 2_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, piece)

    monkeypatch.setattr(store_files, "_write_all", fill)
    with pytest.raises(DiskFullError, match="run the same command again"):
        run(tiny, tmp_path / "out", **texts)
    assert not (tmp_path / "out" / "config.json").exists()
    monkeypatch.setattr(store_files, "_write_all", real)
    run(tiny, tmp_path / "out", **texts)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (finished[1] / "model.safetensors").read_bytes()


def test_too_little_disk_space_is_reported_before_the_work(tiny, texts, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match="is free"):
        run(tiny, tmp_path / "out", **texts)


def test_destinations_with_other_files_are_refused_and_unchanged(tiny, texts, finished, tmp_path):
    with pytest.raises(QuantizeError, match="holds a model already"):
        run(tiny, finished[1], **texts)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(QuantizeError, match=r"notes\.txt is there"):
        run(tiny, tmp_path, **texts)
    with pytest.raises(QuantizeError, match="is a file"):
        run(tiny, tmp_path / "notes.txt", **texts)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_two_runs_at_once_are_refused(tiny, texts, tmp_path):
    first = quantize(tiny, tmp_path / "out", SETTINGS, device="cpu", **texts)
    next(first)
    with pytest.raises(QuantizeError, match="another process"):
        run(tiny, tmp_path / "out", **texts)
    first.close()
    report_of(run(tiny, tmp_path / "out", **texts))


def test_a_quantized_model_is_not_quantized_again(finished, texts, tmp_path):
    with pytest.raises(QuantizeError, match="quantized already"):
        run(finished[1], tmp_path / "twice", **texts)


def test_a_text_that_is_both_calibration_and_held_out_is_refused(tiny, texts, tmp_path):
    copy = shutil.copy(texts["calibration"][0], tmp_path / "copy.txt")
    with pytest.raises(QuantizeError, match="both calibration and held-out"):
        run(tiny, tmp_path / "out", calibration=texts["calibration"], held_out=[copy])


def test_weights_that_are_not_finite_are_named(tiny, texts, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(QuantizeError, match=r"mlp\.up_proj.*not finite"):
        run(folder, tmp_path / "out", **texts)


def test_the_programs_own_texts_are_enough_and_do_not_overlap(tiny):
    from sala_core.quantize.calibration import read_samples
    from sala_core.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(tiny)
    seen, unseen = (
        read_samples(paths, tokenizer, samples=128, sample_tokens=1024)
        for paths in (DEFAULT_CALIBRATION, DEFAULT_HELD_OUT)
    )
    assert seen.ids.numel() > 50_000
    assert unseen.ids.numel() > 1_500
    assert not seen.hashes & unseen.hashes
    assert (seen.ids[:, : seen.num_prefix] == seen.ids[0, : seen.num_prefix]).all()
    assert tokenizer.is_control(seen.ids[0].numpy()).sum() >= 3  # control tokens of the prefix
    assert not tokenizer.is_control(seen.ids[:, seen.num_prefix :].numpy()).any()


def test_samples_use_all_of_a_short_text_and_spread_over_a_long_one(tiny, tmp_path):
    from sala_core.quantize.calibration import read_samples
    from sala_core.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(tiny)
    file = write_text(tmp_path / "a.txt", 3, 2400)
    all_ids = torch.from_numpy(tokenizer.encode_content(file.read_text())).long()
    few = read_samples([file], tokenizer, samples=2, sample_tokens=128)
    body = few.ids[:, few.num_prefix :]
    assert torch.equal(body[0], all_ids[: body.shape[1]])
    assert torch.equal(body[1], all_ids[-body.shape[1] :])
    many = read_samples([file], tokenizer, samples=999, sample_tokens=512)
    joined = many.ids[:, many.num_prefix :].reshape(-1)
    assert len(all_ids) - len(joined) < many.ids.shape[0]
    assert torch.equal(joined, all_ids[: len(joined)])
    with pytest.raises(QuantizeError, match="cannot fill"):
        read_samples([file], tokenizer, samples=2, sample_tokens=8)
