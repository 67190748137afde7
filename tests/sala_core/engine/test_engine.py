"""`Engine`: loading, prefill, logits and block choices, and the inputs that it refuses."""

import numpy as np
import pytest
import torch

from sala_core import Engine
from sala_core.engine.device import DeviceChoice
from sala_core.errors import ConfigError, DeviceError, MemoryBudgetError, ModelError
from sala_core.events import DeviceNote
from sala_core.model.checkpoint import expected_shapes
from sala_core.model.forward import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")


def test_ids_may_be_a_list_an_array_or_a_tensor(small_engine, ids):
    expected = small_engine.forward(small_engine.new_state(), ids[:20])
    assert expected.shape == (20, 97)
    assert expected.dtype == torch.float32
    for given in (ids[:20].tolist(), tuple(ids[:20].tolist()), ids[:20].numpy().astype(np.int32), ids[:20].int()):
        assert torch.equal(small_engine.forward(small_engine.new_state(), given), expected)


def test_no_ids_leave_the_state_as_it_is(small_engine, ids):
    state = small_engine.new_state()
    small_engine.forward(state, ids[:9])
    assert small_engine.forward(state, []).shape == (0, 97)
    assert list(small_engine.read(state, [])) == []
    assert state.position == 9


@pytest.mark.parametrize("bad", [97, -1, 1 << 40])
def test_ids_outside_the_vocabulary_are_refused_before_anything_is_read(small_engine, bad):
    state = small_engine.new_state()
    for prefill in (small_engine.forward, lambda *args: next(small_engine.read(*args))):
        with pytest.raises(ValueError, match=r"0 \.\.\. 96"):
            prefill(state, [1, bad, 2])
    with pytest.raises(ValueError, match=r"0 \.\.\. 96"):
        next(small_engine.generate(state, [bad]))
    assert state.position == 0


def test_logits_can_be_changed_without_effect_on_the_model(small_engine, ids):
    logits = small_engine.forward(small_engine.new_state(), ids[:5])
    logits += 1
    assert torch.equal(small_engine.forward(small_engine.new_state(), ids[:5]) + 1, logits)


def test_read_equals_forward_and_stops_at_the_chunk_grid(small_engine, ids, monkeypatch):
    monkeypatch.setattr(small_engine, "chunk_tokens", 64)
    state, same = small_engine.new_state(), small_engine.new_state()
    small_engine.forward(state, ids[:10])
    small_engine.forward(same, ids[:10])
    logits = small_engine.forward(same, ids[10:200])
    seen = []
    for done, hidden in small_engine.read(state, ids[10:200]):
        assert state.position == 10 + done
        torch.testing.assert_close(small_engine.model.logits(hidden)[0], logits[done - 1], rtol=0, atol=1e-5)
        seen.append(done)
    assert seen == [54, 118, 182, 190]
    assert all(torch.equal(state.linear[i], same.linear[i]) for i in state.linear)


def test_a_closed_read_leaves_the_state_at_the_end_of_a_chunk(small_engine, ids, monkeypatch):
    monkeypatch.setattr(small_engine, "chunk_tokens", 64)
    state = small_engine.new_state()
    reading = small_engine.read(state, ids)
    next(reading), next(reading)
    reading.close()
    assert state.position == 128
    small_engine.forward(state, ids[128:])
    whole = small_engine.new_state()
    small_engine.forward(whole, ids)
    assert all(torch.equal(state.linear[i], whole.linear[i]) for i in whole.linear)


def test_choices_come_chunk_by_chunk_for_every_sparse_layer(small_engine, ids, monkeypatch):
    monkeypatch.setattr(small_engine, "chunk_tokens", 64)
    choices = []
    small_engine.forward(small_engine.new_state(), ids[:200], choices=choices)
    slots = small_engine.model.layout.slots
    assert [{layer: tuple(c.shape) for layer, c in chunk.items()} for chunk in choices] == [
        {},
        {0: (2, 64, slots), 3: (2, 64, slots)},
        {0: (2, 64, slots), 3: (2, 64, slots)},
        {0: (2, 8, slots), 3: (2, 8, slots)},
    ]


def test_a_trace_holds_one_unit_of_attention_for_every_query_and_head(small_engine, ids):
    state, trace = small_engine.new_state(), AttentionTrace()
    small_engine.forward(state, ids[:200])
    list(small_engine.read(state, ids[200:210], trace=trace))
    list(small_engine.read(state, ids[210:330], trace=trace))
    assert set(trace.mass) == {0, 3}
    for mass in trace.mass.values():
        assert float(mass.sum()) == pytest.approx(130 * 4, rel=1e-5)
        assert not mass[330:].any()
        assert (mass[:16] > 0).all()


def test_an_out_of_memory_error_says_how_many_tokens_were_computed(small_engine, ids, monkeypatch):
    state = small_engine.new_state()
    small_engine.forward(state, ids[:100])

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("device full")

    monkeypatch.setattr(small_engine.model, "prefill", fail)
    with pytest.raises(MemoryBudgetError, match=r"after 100 tokens .* 230 are left"):
        next(small_engine.read(state, ids[100:]))
    with pytest.raises(MemoryBudgetError, match="after 100 tokens"):
        small_engine.forward(state, ids[100:])


def test_dtype_and_device_by_name(make_model):
    folder = make_model()
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float64", torch.float64)):
        assert Engine.load(folder, device="cpu", dtype=name).model.dtype == dtype
    assert Engine.load(folder).model.dtype in (torch.float32, torch.bfloat16)
    with pytest.raises(ModelError, match="unknown dtype 'int4'"):
        Engine.load(folder, dtype="int4")
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        Engine.load(folder, device="tpu")


def test_a_missing_cuda_device_is_reported(make_model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="choose --device cpu"):
        Engine.load(make_model(), device="cuda")
    assert Engine.load(make_model(), device="auto").model.device.type == "cpu"


def test_a_note_about_the_device_is_reported_and_kept(make_model, monkeypatch):
    chosen = DeviceChoice(device=torch.device("cpu"), note="The CPU computes, not the card: it is too old.")
    monkeypatch.setattr("sala_core.engine.engine.choose_device", lambda device: chosen)
    events = []
    engine = Engine.load(make_model(), "auto", report=events.append)
    assert events == [DeviceNote(text=chosen.note)]
    assert engine.device_note == chosen.note


def test_another_kind_of_model_is_refused(make_model):
    folder = make_model()
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("minicpm_sala", "llama"))
    with pytest.raises(ConfigError, match="model_type is 'llama'"):
        Engine.load(folder)


def test_a_model_without_a_tokenizer_has_no_chat_template(small_engine):
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        _ = small_engine.tokenizer
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        _ = small_engine.chat


def test_the_model_holds_every_weight_of_its_config_once(engine):
    shapes = {name: tuple(weight.shape) for name, weight in engine.model.weights.items()}
    assert shapes == expected_shapes(engine.config)
