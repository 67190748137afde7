"""The golden checkpoints: results of the published rules, computed in float64 by an independent program.

Neighboring blocks share a window of pooled keys, so their scores are often exactly equal. Of equal blocks, the golden
program takes those that `torch.topk` returns for the row of all blocks of the finished text. That depends on tokens
after the query, which a state that can be continued must not depend on: this program takes the earlier block. The tests
therefore compare the choices up to exact ties, and everything else with the golden rule for ties.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from sala_kernels import selected_mask

import sala_core.model.forward as model_module
from sala_core import Engine

NUM_TOKENS, NUM_BLOCKS = 1500, 24
SPLITS = {
    "at once": [1500],
    "uneven": [700, 3, 61, 64, 100, 572],
    "one by one, then the rest": [1] * 500 + [1000],
}


def golden_choice(scores, *, position, layout, backend):
    """As `choose_blocks`, with ties as in `torch.topk` over the row of all blocks of the finished text."""
    kv_heads, T, num_blocks = scores.shape
    row = torch.full((kv_heads, T, NUM_BLOCKS), -torch.inf)
    row[..., :num_blocks] = scores
    own = (torch.arange(position, position + T) // layout.block)[:, None]
    block = torch.arange(NUM_BLOCKS)
    row.masked_fill_(((block < layout.init) | (block > own - layout.local)) & (block <= own), torch.inf)
    row.masked_fill_(block > own, -torch.inf)
    best = row.topk(layout.max_blocks, -1)
    is_choice = ~best.values.isinf()
    order = is_choice.int().argsort(-1, descending=True)[..., : layout.slots]
    return torch.where(is_choice.gather(-1, order), best.indices.gather(-1, order), -1)


def odd_split(seed):
    """Random odd lengths that add up to the length of the text."""
    generator = torch.Generator().manual_seed(seed)
    lengths = []
    while (left := NUM_TOKENS - sum(lengths)) > 0:
        lengths.append(min(left, 2 * int(torch.randint(100, (1,), generator=generator)) + 1))
    return lengths


def run(engine, ids, split):
    """Logits, selected blocks {layer: [T, kv heads, blocks]} and the end state."""
    state, model = engine.new_state(), engine.model
    logits, masks = [], {layer: [] for layer in engine.config.sparse_layers}
    for piece in ids.split(split):
        position, choices = state.position, {}
        logits.append(model.logits(model.prefill(state, piece, choices=choices)))
        for layer, parts in masks.items():
            nothing = torch.full((engine.config.num_key_value_heads, len(piece), 1), -1)
            chosen = choices.get(layer, nothing)
            mask = selected_mask(chosen, position=position, num_blocks=NUM_BLOCKS, layout=model.layout)
            own = (torch.arange(position, position + len(piece)) // model.layout.block)[:, None]
            mask |= (own < model.layout.max_blocks) & (
                torch.arange(NUM_BLOCKS) <= own
            )  # these queries attend to all blocks
            parts.append(mask.transpose(0, 1))
    return torch.cat(logits), {layer: torch.cat(parts) for layer, parts in masks.items()}, state


def float64_scores(q, k, config):
    """Scores of all blocks for all queries, [T, kv heads, blocks] float64. q: [T, H, d], k: [kv heads, T, d]."""
    sparse = config.sparse_config
    T, position = len(q), torch.arange(len(q))
    fine_start = range(0, T - sparse.kernel_size + 1, sparse.kernel_stride)
    coarse_start = range(0, T - sparse.coarse_size + 1, sparse.coarse_stride)
    per_block = sparse.block_size // sparse.kernel_stride
    out = torch.zeros(T, len(k), NUM_BLOCKS, dtype=torch.float64)
    for head, keys in enumerate(k.double()):
        fine = torch.stack([keys[a : a + sparse.kernel_size].mean(0) for a in fine_start])
        coarse = torch.stack([keys[a : a + sparse.coarse_size].mean(0) for a in coarse_start])
        group = q.shape[1] // len(k)
        queries = q[:, head * group : (head + 1) * group].double() * config.head_dim**-0.5
        unseen = torch.tensor(coarse_start) + sparse.coarse_size - 1 > position[:, None]
        lse = (queries @ coarse.T).masked_fill(unseen[:, None], -torch.inf).logsumexp(-1, keepdim=True)
        unseen = torch.tensor(fine_start) + sparse.kernel_size - 1 > position[:, None]
        p = ((queries @ fine.T) - lse).exp().sum(1).masked_fill(unseen, 0)
        for block in range(NUM_BLOCKS):
            touching = p[:, max(0, per_block * block - 1) : per_block * (block + 1)]
            out[:, head, block] = touching.amax(-1) if touching.shape[-1] else 0
    return out


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden" / "tiny-sala"
    return Engine.load(folder, dtype="float32"), load_file(folder / "expected.safetensors")


@pytest.mark.parametrize("split", [*SPLITS.values(), odd_split(1)], ids=[*SPLITS, "odd"])
def test_logits_choices_and_states_for_any_split(golden, split, monkeypatch):
    monkeypatch.setattr(model_module, "choose_blocks", golden_choice)
    engine, expected = golden
    logits, masks, state = run(engine, expected["ids"], split)
    torch.testing.assert_close(logits[-256:], expected["logits_last256"], rtol=0, atol=1e-4)
    assert torch.equal(logits.argmax(-1), expected["argmax"])
    for layer, mask in masks.items():
        assert torch.equal(mask, expected[f"selected.{layer}"]), layer
    for layer, linear in state.linear.items():
        limit = 1e-4 * float(expected[f"state.{layer}"].abs().max())
        torch.testing.assert_close(linear, expected[f"state.{layer}"], rtol=0, atol=limit)


def test_our_choice_differs_only_between_blocks_of_exactly_equal_score(golden, monkeypatch):
    engine, expected = golden
    ours, keys, queries = [], [], []
    choose, attend = model_module.choose_blocks, model_module.block_attention

    def both(scores, *, position, layout, backend):
        ours.append(choose(scores, position=position, layout=layout, backend=backend))
        return golden_choice(scores, position=position, layout=layout, backend=backend)

    def record(q, k, *rest, **options):
        queries.append(q)
        keys.append(k)
        return attend(q, k, *rest, **options)

    monkeypatch.setattr(model_module, "choose_blocks", both)
    monkeypatch.setattr(model_module, "block_attention", record)
    run(engine, expected["ids"], [NUM_TOKENS])
    layout = engine.model.layout
    first = layout.max_blocks * layout.block  # the first query that chooses blocks
    per_layer = torch.cat(ours, 1).split(NUM_TOKENS - first, 1)
    differences = 0
    for layer, chosen, q, k in zip(engine.config.sparse_layers, per_layer, queries, keys, strict=True):
        mask = selected_mask(chosen, position=first, num_blocks=NUM_BLOCKS, layout=layout).transpose(0, 1)
        theirs = expected[f"selected.{layer}"][first:]
        assert torch.equal(mask.sum(-1), theirs.sum(-1))
        scores = float64_scores(q, k, engine.config)[first:]
        for t, head in (mask != theirs).any(-1).nonzero().tolist():
            gained, lost = mask[t, head] & ~theirs[t, head], theirs[t, head] & ~mask[t, head]
            assert scores[t, head][gained].tolist() == pytest.approx(scores[t, head][lost].tolist(), rel=1e-12)
            assert int(gained.nonzero()[0]) < int(lost.nonzero()[0])
            differences += 1
    assert 0 < differences < 0.1 * NUM_TOKENS * 2 * 3


def test_dense_logits_with_the_reference_switch(golden, shared, tmp_path):
    _, expected = golden
    folder = shared / "golden" / "tiny-sala"
    raw = json.loads((folder / "config.json").read_text())
    raw["sparse_config"]["dense_len"] = 2000
    (tmp_path / "config.json").write_text(json.dumps(raw))
    shutil.copy(folder / "model.safetensors", tmp_path)
    ids, dense = expected["ids"], expected["logits_dense_last256"]
    engine = Engine.load(tmp_path, dtype="float32", reference_dense_len=True)
    torch.testing.assert_close(engine.forward(engine.new_state(), ids)[-256:], dense, rtol=0, atol=1e-4)
    sparse_engine = Engine.load(tmp_path, dtype="float32")
    assert (sparse_engine.forward(sparse_engine.new_state(), ids)[-256:] - dense).abs().max() > 1e-2


def test_the_switch_attends_densely_only_below_dense_len(golden, shared):
    engine, expected = golden
    switched = Engine.load(shared / "golden" / "tiny-sala", dtype="float32", reference_dense_len=True)
    at = engine.config.sparse_config.dense_len
    choices = []
    switched.forward(switched.new_state(), expected["ids"][: at - 1], choices=choices)
    assert choices == [{}]
    for n in (at, NUM_TOKENS):
        ids = expected["ids"][:n]
        found = switched.forward(switched.new_state(), ids)
        assert torch.equal(found, engine.forward(engine.new_state(), ids))


@pytest.mark.parametrize("split", [[1500], SPLITS["uneven"], odd_split(2)], ids=["at once", "uneven", "odd"])
def test_gptq_checkpoint_gives_its_logits(shared, split, monkeypatch):
    monkeypatch.setattr(model_module, "choose_blocks", golden_choice)
    folder = shared / "golden" / "tiny-sala-gptq"
    engine, expected = Engine.load(folder, dtype="float32"), load_file(folder / "expected.safetensors")
    state = engine.new_state()
    logits = torch.cat([engine.forward(state, piece) for piece in expected["ids"].split(split)])
    torch.testing.assert_close(logits[-256:], expected["logits_last256"], rtol=0, atol=1e-4)
    assert torch.equal(logits.argmax(-1), expected["argmax"])
