"""Every figure of the paper on scale is computed here, from the code that counts memory and cuts streams."""

import math
import re

import pytest
import torch
from sala_kernels import Int4Matrix

from sala_core.engine.memory_plan import DeviceSettings, ModelSize, kv_bytes, linear_bytes, plan_memory
from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig
from sala_core.session.stream import SEGMENT_TOKENS, SNAPSHOT_TOKENS

SPARSE = (0, 9, 16, 17, 22, 29, 30, 31)
RELEASED = SalaConfig.from_dict(
    {
        "model_type": "minicpm_sala",
        "vocab_size": 73448,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "mixer_types": ["minicpm4" if index in SPARSE else "lightning-attn" for index in range(32)],
        "lightning_nh": 32,
        "lightning_nkv": 32,
        "lightning_head_dim": 128,
        "dim_model_base": 256,
        "scale_emb": 12,
        "scale_depth": 1.4,
        "eos_token_id": [2, 73440],
        "tie_word_embeddings": False,
    }
)
TOKENS = 1 << 20
PEOPLE, QUESTIONS_A_DAY, SITTINGS_A_DAY, ANSWER_TOKENS, READERS, PEAK = 10_000, 20, 4, 300, 10, 3
READ_S, READ_AND_1024_S = 228.0, 235.7
"""Published: RTX 5090, GPTQ int4, 1024K tokens, to the first token and with 1,024 decoded ones (arXiv 2602.11761)."""
LINK_BYTES_PER_S = 25e9 / 8
OTHER_SHARE = 1 / 16
FULL_LAYERS, FULL_KV_HEADS, FULL_HEAD_DIM = 36, 8, 128


def int4_weights() -> dict[str, torch.Tensor | Int4Matrix]:
    """The released model's weights as they are quantized: o_gate and z_proj stay bfloat16."""
    weights: dict[str, torch.Tensor | Int4Matrix] = {}
    for name, shape in expected_shapes(RELEASED).items():
        if len(shape) != 2 or "layers" not in name or "o_gate" in name or "z_proj" in name:
            weights[name] = torch.empty(shape, dtype=torch.bfloat16, device="meta")
            continue
        num_out, num_in = shape
        weights[name] = Int4Matrix(
            words=torch.empty(num_out, num_in // 8, dtype=torch.int32, device="meta"),
            scales=torch.empty(num_in // 128, num_out, dtype=torch.bfloat16, device="meta"),
            zeros=None,
            group_size=128,
            in_features=num_in,
        )
    return weights


def figures() -> dict[str, str]:
    """Name -> value, as the paper's tables have them."""
    size = ModelSize.of(RELEASED, int4_weights(), torch.bfloat16)
    plain, int8, snapshot = (kv_bytes(size, "plain", TOKENS), kv_bytes(size, "int8", TOKENS), linear_bytes(RELEASED))
    state, state_int8 = plain + snapshot, int8 + snapshot
    full = FULL_LAYERS * FULL_KV_HEADS * FULL_HEAD_DIM * 2 * 2 * TOKENS
    token_s = (READ_AND_1024_S - READ_S) / 1024
    answer_s = ANSWER_TOKENS * token_s
    restore_s, restore_int8_s = state / LINK_BYTES_PER_S, state_int8 / LINK_BYTES_PER_S
    a_sitting = QUESTIONS_A_DAY // SITTINGS_A_DAY
    day_s = SITTINGS_A_DAY * (restore_s + a_sitting * answer_s)
    day_stateless_s = QUESTIONS_A_DAY * (READ_S + answer_s)
    texts = PEOPLE // READERS
    segment = SEGMENT_TOKENS * plain / TOKENS

    def resident(card_bytes: float, kv: str) -> int:
        plan = plan_memory(size, TOKENS, DeviceSettings(kv=kv, chunk_tokens=8192))
        one = plan.kv_bytes + plan.linear_bytes
        return int((card_bytes * (1 - OTHER_SHARE) - (plan.total_bytes - one)) // one)

    def cards(seconds: float) -> int:
        return math.ceil(PEOPLE * seconds * PEAK / 86_400)

    return {
        "keys, values and pooled keys of a token, bfloat16": f"{plain / TOKENS:,.0f} bytes",
        "keys and values of a token, int8": f"{int8 / TOKENS:,.0f} bytes",
        "linear states at one position (a snapshot)": f"{snapshot:,} bytes",
        "state of 1,048,576 tokens, bfloat16": f"{state:,} bytes ({state / 1e9:.2f} GB)",
        "state of 1,048,576 tokens, int8": f"{state_int8:,} bytes ({state_int8 / 1e9:.2f} GB)",
        "full attention, 8B (36 layers, 8 heads of 128), bfloat16": f"{full / 1e9:.1f} GB",
        "a segment of the store": f"{SEGMENT_TOKENS:,} tokens, {segment / 1e6:.1f} MB",
        "objects of a state: segments, and one snapshot": f"{TOKENS // SEGMENT_TOKENS + 1:,}",
        "with a snapshot every 65,536 tokens instead": f"{(plain + TOKENS // SNAPSHOT_TOKENS * snapshot) / 1e9:.2f} GB",
        "int4 weights": f"{size.weights_bytes / 1e9:.2f} GB",
        "sessions of 1M in a card of 141 GB, bfloat16 / int8": (
            f"{resident(141e9, 'plain')} / {resident(141e9, 'int8')}"
        ),
        "sessions of 1M in a card of 32 GiB, bfloat16 / int8": (
            f"{resident(32 * 2**30, 'plain')} / {resident(32 * 2**30, 'int8')}"
        ),
        "reading a text": f"{READ_S:.0f} s",
        "an answer of 300 tokens": f"{answer_s:.2f} s ({token_s * 1e3:.2f} ms a token)",
        "fetching a state over 25 Gbit/s, bfloat16 / int8": f"{restore_s:.2f} / {restore_int8_s:.2f} s",
        "10,000 states, nothing shared, bfloat16 / int8": (
            f"{PEOPLE * state / 1e12:.1f} / {PEOPLE * state_int8 / 1e12:.1f} TB"
        ),
        "10,000 states, ten people a text, and two snapshots each": (
            f"{(texts * state + 2 * PEOPLE * snapshot) / 1e12:.1f} / "
            f"{(texts * state_int8 + 2 * PEOPLE * snapshot) / 1e12:.1f} TB"
        ),
        "reading 10,000 texts once / 1,000 texts": (
            f"{PEOPLE * READ_S / 3600:,.0f} / {texts * READ_S / 3600:,.0f} card-hours"
        ),
        "card time of a person a day, state kept": f"{day_s:.1f} s",
        "card time of a person a day, read again for each question": f"{day_stateless_s:,.0f} s",
        "cards at the peak, state kept": f"{cards(day_s):,}",
        "cards at the peak, read again": f"{cards(day_stateless_s):,}",
        "traffic from storage at the peak": f"{PEOPLE * SITTINGS_A_DAY * state * PEAK / 86_400 / 1e9:.1f} GB/s",
        "card-hours of a person a month, state kept": f"{30 * day_s / 3600:.2f}",
        "card-hours of a person a month, read again": f"{30 * day_stateless_s / 3600:.1f}",
    }


@pytest.fixture(scope="module")
def paper(root):
    return (root / "sala_core" / "remote" / "SCALE.md").read_text(encoding="utf-8")


def test_every_figure_in_the_paper_is_the_one_that_the_code_counts(paper):
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", paper, re.MULTILINE)
    stated = {name: value for name, value in rows if name not in ("what", "variable") and not name.startswith("`")}
    assert stated == figures()


def test_the_figures_in_the_text_are_those_of_the_tables(paper):
    """A number with a unit in the prose stands in a table of the paper too, or is computed here."""
    snapshot = linear_bytes(RELEASED)
    state = kv_bytes(ModelSize.of(RELEASED, {}, torch.bfloat16), "plain", TOKENS) + snapshot
    at_every_page, months = TOKENS / 64 * snapshot / 1e9, state / 1e9 / (READ_S / 3600)
    computed = f"{at_every_page:.0f} {months:.0f} {snapshot / 1e6:.1f}"
    tables = computed + "\n".join(line for line in paper.splitlines() if line.startswith("|"))
    prose = "\n".join(line for line in paper.splitlines() if not line.startswith("|"))
    for number in re.findall(r"\b([\d,.]*\d) (?:GB/s|TB|GB|MB|card-hours|cards|GB-months)\b", prose):
        assert number in tables, number
