"""The forward pass against a plain implementation in float64, token by token, for other configs than the golden one."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels import lightning_log_decay

from sala_core import Engine

BROAD = {"kernel_size": 8, "kernel_stride": 4, "block_size": 16, "window_size": 32, "init_blocks": 1, "topk": 40}
"""Every block is attended to, so that rounding cannot change a choice."""

pytestmark = pytest.mark.usefixtures("one_thread")


def norm(x, weight, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def rotated(x, theta):
    """x: [T, H, d] at positions 0, 1, ...; dimensions i and i + d/2 form a pair."""
    T, _, d = x.shape
    angle = torch.arange(T)[:, None].double() / theta ** (torch.arange(0, d, 2).double() / d)
    z = torch.complex(x[..., : d // 2], x[..., d // 2 :]) * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.cat([z.real, z.imag], -1)


def plain_lightning(config, w, x):
    """x: [T, D]; w(name): a float64 weight of this layer's mixer. Returns [T, H * d]."""
    T, d, heads = len(x), config.lightning_head_dim, config.lightning_nh
    q, k, v = ((x @ w(name).T).view(T, -1, d) for name in ("q_proj", "k_proj", "v_proj"))
    if config.qk_norm:
        q, k = norm(q, w("q_norm"), config.rms_norm_eps), norm(k, w("k_norm"), config.rms_norm_eps)
    if config.lightning_use_rope:
        q, k = rotated(q, config.rope_theta), rotated(k, config.rope_theta)
    scale = {"1/sqrt(d)": d**-0.5, "1/d": 1 / d}.get(config.lightning_scale, 1.0)
    decay = lightning_log_decay(heads).double().exp()
    out = torch.zeros(T, heads, d, dtype=torch.float64)
    for head in range(heads):
        source, S = head * config.lightning_nkv // heads, torch.zeros(d, d, dtype=torch.float64)
        for t in range(T):
            S = decay[head] * S + k[t, source][:, None] * v[t, source]
            out[t, head] = q[t, head] * scale @ S
    o = out.reshape(T, -1)
    if config.use_output_norm:
        o = norm(o, w("o_norm"), config.rms_norm_eps)
    return o * torch.sigmoid(x @ w("z_proj").T) if config.use_output_gate else o


def plain_choice(config, queries, keys, t, given=None):
    """Blocks that token t attends to. queries: [group, d], keys: [t + 1, d]. given: the chosen blocks, or None."""
    sparse, scale = config.sparse_config, config.head_dim**-0.5
    own = t // sparse.block_size
    fine = range(0, t + 2 - sparse.kernel_size, sparse.kernel_stride)
    coarse = range(0, t + 2 - 4 * sparse.kernel_size, 4 * sparse.kernel_stride)
    kept = {b for b in range(own + 1) if b < sparse.init_blocks or b >= own - sparse.window_size // sparse.block_size}
    room = sparse.topk + sparse.window_size // sparse.block_size - len(kept)
    if own + 1 <= len(kept) + room:
        return set(range(own + 1))
    if given is not None:
        return kept | given
    lse = torch.zeros(len(queries), dtype=torch.float64)
    if coarse:
        means = torch.stack([keys[a : a + 4 * sparse.kernel_size].mean(0) for a in coarse])
        lse = (queries @ means.T * scale).logsumexp(-1)
    score = dict.fromkeys(range(own + 1), 0.0)
    for a in fine:
        p = float((queries @ keys[a : a + sparse.kernel_size].mean(0) * scale - lse).exp().sum())
        for block in {a // sparse.block_size, (a + sparse.kernel_size - 1) // sparse.block_size}:
            score[block] = max(score[block], p)
    others = sorted(set(score) - kept, key=lambda block: (-score[block], block))
    return kept | set(others[:room])


def plain_sparse(config, w, x, given=None):
    """x: [T, D]. given: chosen blocks of the last tokens, by token. Returns [T, H * d]."""
    T, d, block = len(x), config.head_dim, config.sparse_config.block_size
    q, k, v = ((x @ w(name).T).view(T, -1, d) for name in ("q_proj", "k_proj", "v_proj"))
    if config.attn_use_rope:
        q, k = rotated(q, config.rope_theta), rotated(k, config.rope_theta)
    group = config.num_attention_heads // config.num_key_value_heads
    out = torch.zeros_like(q)
    for t in range(T):
        for head in range(config.num_key_value_heads):
            queries, keys = q[t, head * group : (head + 1) * group], k[: t + 1, head]
            blocks = plain_choice(config, queries, keys, t, (given or {}).get(t))
            seen = torch.tensor([i for i in range(t + 1) if i // block in blocks])
            p = (queries @ keys[seen].T * d**-0.5).softmax(-1)
            out[t, head * group : (head + 1) * group] = p @ v[seen, head]
    o = out.reshape(T, -1)
    return o * torch.sigmoid(x @ w("o_gate").T) if config.attn_use_output_gate else o


def plain_forward(engine, ids, given=None):
    """Logits [T, vocab] in float64. given: as in `plain_sparse`."""
    config, weights = engine.config, {name: w.double() for name, w in engine.model.weights.items()}
    h = weights["model.embed_tokens.weight"][ids] * config.scale_emb
    residual = config.scale_depth / config.num_hidden_layers**0.5
    for i, kind in enumerate(config.mixer_types):
        layer = {n.split(".", 3)[3]: w for n, w in weights.items() if n.startswith(f"model.layers.{i}.")}
        x = norm(h, layer["input_layernorm.weight"], config.rms_norm_eps)
        mixer = partial(plain_sparse, given=given) if kind == "minicpm4" else plain_lightning
        mixed = mixer(config, lambda name, layer=layer: layer[f"self_attn.{name}.weight"], x)
        h = h + mixed @ layer["self_attn.o_proj.weight"].T * residual
        x = norm(h, layer["post_attention_layernorm.weight"], config.rms_norm_eps)
        gate = x @ layer["mlp.gate_proj.weight"].T
        up = gate * torch.sigmoid(gate) * (x @ layer["mlp.up_proj.weight"].T)
        h = h + up @ layer["mlp.down_proj.weight"].T * residual
    head = weights["model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]
    scale = config.dim_model_base / config.hidden_size
    return norm(h, weights["model.norm.weight"], config.rms_norm_eps) * scale @ head.T


def forward(engine, ids, cuts=()):
    """Logits and end state; the ids are prefilled in pieces."""
    state = engine.new_state()
    edges = [0, *sorted(cuts), len(ids)]
    logits = [engine.forward(state, ids[a:b]) for a, b in pairwise(edges)]
    return torch.cat(logits), state


@pytest.fixture(scope="module")
def whole(engine, ids):
    """All ids in one call."""
    return forward(engine, ids)


def test_logits_equal_those_of_the_plain_implementation(engine, ids):
    n = 150 if engine.config.sparse_config.block_size < 64 else len(ids)
    found, _ = forward(engine, ids[:n])
    torch.testing.assert_close(found.double(), plain_forward(engine, ids[:n]), rtol=0, atol=1e-4)


def test_the_text_is_long_enough_that_blocks_are_chosen(engine, ids):
    choices = []
    engine.forward(engine.new_state(), ids, choices=choices)
    assert set(choices[0]) == set(engine.config.sparse_layers)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_split_gives_the_same_logits_and_states(engine, ids, whole, data):
    cuts = data.draw(st.lists(st.integers(0, len(ids)), max_size=12))
    logits, state = forward(engine, ids, cuts)
    torch.testing.assert_close(logits, whole[0], rtol=0, atol=1e-4)
    assert state.position == len(ids)
    for name, tensor in {**whole[1].segment(0, len(ids)), **whole[1].snapshot()}.items():
        found = {**state.segment(0, len(ids)), **state.snapshot()}[name]
        torch.testing.assert_close(found, tensor, rtol=0, atol=1e-4 * max(1.0, float(tensor.abs().max())))


def test_token_by_token_equals_all_at_once(engine, ids, whole):
    logits, _ = forward(engine, ids, range(1, len(ids)))
    torch.testing.assert_close(logits, whole[0], rtol=0, atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_cuts_on_the_chunk_grid_change_no_bit(engine, ids, data):
    """A prefill can therefore be stopped at any chunk and continued later. The fingerprint includes the grid."""
    start = data.draw(st.integers(0, 40))
    cuts = data.draw(st.lists(st.integers(1, len(ids) // 64), max_size=6, unique=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "chunk_tokens", 64)
        state = engine.new_state()
        engine.forward(state, ids[:start])
        pieces = state.clone()
        logits = engine.forward(state, ids[start:])
        edges = [start, *(64 * cut for cut in sorted(cuts)), len(ids)]
        parts = [engine.forward(pieces, ids[a:b]) for a, b in pairwise(edges)]
    assert torch.equal(torch.cat(parts), logits)
    expected, found = ({**s.segment(0, s.position), **s.snapshot()} for s in (state, pieces))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("count", [1, 2, 64, 290])
def test_last_only_skips_outputs_that_nothing_needs_in_the_last_layer(engine, ids, count, monkeypatch):
    model, states = engine.model, []
    for _ in range(2):
        states.append(engine.new_state())
        engine.forward(states[-1], ids[:40])
    whole = model.prefill(states[0], ids[40 : 40 + count])
    rows, mlp = [], type(model)._mlp
    monkeypatch.setattr(type(model), "_mlp", lambda self, i, x: rows.append(len(x)) or mlp(self, i, x))
    last = model.prefill(states[1], ids[40 : 40 + count], last_only=True)
    assert rows == [count] * (engine.config.num_hidden_layers - 1) + [1]
    torch.testing.assert_close(last, whole[-1:], rtol=0, atol=1e-5)
    expected, found = ({**s.segment(0, s.position), **s.snapshot()} for s in states)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("empty", [0, 1])
def test_given_blocks_replace_the_choice_of_blocks(engine, ids, empty):
    layout, model, state = engine.model.layout, engine.model, engine.new_state()
    end = 150 if layout.block < 64 else len(ids)
    start = end - 12
    candidates = range(layout.init, layout.init + layout.num_candidates(start // layout.block))
    given = list(candidates)[: layout.slots - empty] if layout.slots else []
    blocks = torch.tensor(given + [-1] * (layout.slots - len(given)), dtype=torch.int64)
    engine.forward(state, ids[:start])
    choices = {}
    found = model.logits(model.prefill(state, ids[start:end], blocks=blocks, choices=choices))
    expected = plain_forward(engine, ids[:end], {t: set(given) for t in range(start, end)})[start:]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    assert state.position == end
    assert all((chosen == blocks).all() for chosen in choices.values())


def test_nothing_depends_on_later_tokens(engine, ids, whole):
    """Bit for bit if other tokens follow, and up to rounding if none follow."""
    for n in (1, 97, 200, 329):
        other = torch.cat([ids[:n], (ids[n:] + 1) % engine.config.vocab_size])
        assert torch.equal(forward(engine, other)[0][:n], whole[0][:n])
        torch.testing.assert_close(forward(engine, ids[:n])[0], whole[0][:n], rtol=0, atol=1e-4)


def test_nothing_is_chosen_for_queries_that_attend_to_everything(engine, ids):
    choices = []
    engine.forward(engine.new_state(), ids, choices=choices)
    layout = engine.model.layout
    first = layout.max_blocks * layout.block
    for chosen in choices[0].values():
        assert (chosen[:, :first] == -1).all()
        assert not layout.slots or (chosen[:, first:] >= 0).all()


def test_choices_do_not_depend_on_later_tokens(engine, ids):
    choices, shorter = [], []
    engine.forward(engine.new_state(), ids, choices=choices)
    engine.forward(engine.new_state(), ids[:300], choices=shorter)
    for layer, chosen in shorter[0].items():
        assert torch.equal(choices[0][layer][:, :300].sort(-1).values, chosen.sort(-1).values)


def test_order_matters(engine, ids, whole):
    """A guard for the tests above: the models do attend to earlier tokens."""
    swapped = ids.clone()
    swapped[[3, 4]] = ids[[4, 3]]
    assert (forward(engine, swapped)[0][-1] - whole[0][-1]).abs().max() > 1e-3


def test_two_states_do_not_mix(small_engine, ids):
    first, second = small_engine.new_state(), small_engine.new_state()
    mixed = []
    for a in range(0, 330, 30):
        mixed.append(small_engine.forward(first, ids[a : a + 30]))
        small_engine.forward(second, ids.flip(0)[a : a + 30])
    alone, state = forward(small_engine, ids, range(30, 330, 30))
    assert torch.equal(torch.cat(mixed), alone)
    assert all(torch.equal(first.linear[i], state.linear[i]) for i in state.linear)


def test_bfloat16_is_close_to_float32(make_model, ids):
    folder = make_model(sparse_config=BROAD)
    exact = Engine.load(folder, dtype="float32")
    rounded = Engine.load(folder, dtype="bfloat16")
    state = rounded.new_state()
    found, expected = rounded.forward(state, ids), exact.forward(exact.new_state(), ids)
    assert found.dtype == torch.float32
    assert {buffer.rows.dtype for cache in state.sparse.values() for buffer in cache.buffers.values()} == {
        torch.bfloat16
    }
    assert all(linear.dtype == torch.float32 for linear in state.linear.values())
    assert (found - expected).square().mean().sqrt() < 0.03 * expected.square().mean().sqrt()
