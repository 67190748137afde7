"""A saved state is bound to everything that its bytes depend on, and to nothing else."""

import json
from dataclasses import asdict

import pytest
import torch
import xxhash

from sala_core import Engine
from sala_core.errors import StateMismatchError
from sala_core.model.checkpoint import weight_files
from sala_core.model.fingerprint import state_fingerprint


@pytest.fixture(scope="module")
def folder(make_model):
    return make_model()


def fingerprint(folder, **changes):
    return state_fingerprint(folder, Engine.load(folder).config, torch.float32, "tokenizer", **changes)


def test_plain_cpu_states_keep_the_fingerprint_of_earlier_versions(folder):
    """Libraries written by versions 0.1 and 0.2 stay readable."""
    config = Engine.load(folder).config
    facts = {
        "format": 1,
        "chunk_tokens": 1024,
        "dtype": "torch.float32",
        "config": {name: value for name, value in asdict(config).items() if name != "attn_qk_norm"},
        "tokenizer": "tokenizer",
    }
    digest = xxhash.xxh3_128(json.dumps(facts, sort_keys=True).encode())
    for file in weight_files(folder):
        digest.update(file.read_bytes())
    assert fingerprint(folder) == fingerprint(folder, kv="plain", chunk_tokens=1024) == digest.hexdigest()


def test_every_kv_format_and_chunk_length_has_its_own_fingerprint(folder):
    fingerprints = {
        fingerprint(folder, kv=kv, chunk_tokens=chunk)
        for kv in ("plain", "int8", "fp8")
        for chunk in (1024, 2048, 8192)
    }
    assert len(fingerprints) == 9


def test_the_fingerprint_of_an_engine_depends_on_its_settings(folder):
    engines = [
        Engine.load(folder, dtype="float32"),
        Engine.load(folder, dtype="float32", kv="int8"),
        Engine.load(folder, dtype="float32", kv="fp8"),
        Engine(Engine.load(folder).model, name="x", folder=folder, chunk_tokens=2048),
    ]
    assert len({engine.fingerprint for engine in engines}) == len(engines)
    assert Engine.load(folder, dtype="float32", kv="plain").fingerprint == engines[0].fingerprint


def test_a_state_file_of_another_kv_format_is_refused(folder, ids, tmp_path):
    engines = [Engine.load(folder, dtype="float32", kv=kv) for kv in ("plain", "int8", "fp8")]
    for engine in engines:
        state = engine.new_state()
        engine.forward(state, ids[:150])
        engine.save_state(state, tmp_path / "state")
        loaded = engine.load_state(tmp_path / "state")
        assert torch.equal(engine.forward(loaded, ids[150:]), engine.forward(state, ids[150:]))
        for other in engines:
            if other is not engine:
                with pytest.raises(StateMismatchError, match="another model, dtype or version"):
                    other.load_state(tmp_path / "state")
