"""The operations of a decode step at a position that only the device knows.

Results are those of a position that is a number. The bits depend neither on how many tokens are computed at once nor on
the size of the buffers. The host never waits for a value.
"""

import json
import subprocess
import sys

import pytest
import torch
from sala_kernels import (
    BlockLayout,
    QuantizedRows,
    add_key_mass,
    append_rows,
    block_attention,
    block_scores,
    choose_blocks,
    compress_keys,
    compress_new_keys,
    dequantize_rows,
    lightning_advance,
    lightning_decode,
    lightning_log_decay,
    lightning_verify,
    num_windows,
    quantize_rows,
    rotary_cos_sin,
)
from sala_kernels.inspection.cases import relative_error
from sala_kernels.launch import recorded

LAYOUT = BlockLayout(stride=4, block=8, init=1, local=2, slots=3)
SCALE = 0.3
BACKENDS = ["reference", "triton"]
KINDS = [None, "int8", "fp8"]


class Cache:
    """The buffers of one sparse layer. Unwritten rows are NaN or, if quantized, have NaN scales."""

    def __init__(self, capacity, device, *, heads=2, d=16, dv=24, kind=None, layout=LAYOUT, dtype=torch.float32):
        self.layout = layout
        self.keys, self.values = (self._rows(heads, capacity, size, kind, device, dtype) for size in (d, dv))
        self.sizes = {"k1": (2 * layout.stride, layout.stride), "k2": (8 * layout.stride, 4 * layout.stride)}
        self.pooled = {
            name: torch.full((heads, max(1, num_windows(capacity, *sizes)), d), torch.nan, dtype=dtype, device=device)
            for name, sizes in self.sizes.items()
        }

    @staticmethod
    def _rows(heads, capacity, size, kind, device, dtype):
        if kind is None:
            return torch.full((heads, capacity, size), torch.nan, dtype=dtype, device=device)
        rows = QuantizedRows.empty((heads, capacity, size), kind, device)
        rows.data.fill_(0x7F)  # NaN in fp8
        rows.scale.fill_(torch.nan)
        return rows

    def write(self, k, v, position, backend):
        append_rows(k, v, self.keys, self.values, position=position, backend=backend)
        for name, (size, stride) in self.sizes.items():
            out = self.pooled[name]
            call = {"num_tokens": k.shape[0], "size": size, "stride": stride, "backend": backend}
            compress_new_keys(self.keys, out, position=position, **call)

    def attend(self, q, position, backend, mass=None):
        """The scores, chosen blocks and output of a step."""
        call = {"position": position, "layout": self.layout, "backend": backend}
        scores = block_scores(q, *self.pooled.values(), scale=SCALE, **call)
        chosen = choose_blocks(scores, **call)
        return scores, chosen, block_attention(q, self.keys, self.values, chosen, scale=SCALE, mass=mass, **call)


def draw(n, device, *, heads=4, kv_heads=2, d=16, dv=24):
    """q, k and v of n tokens."""
    generator = torch.Generator().manual_seed(n)
    shapes = [(n, heads, d), (n, kv_heads, d), (n, kv_heads, dv)]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def on(device, position):
    return torch.tensor([position], device=device)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [None, "int8"])
def test_steps_of_a_few_tokens_equal_one_call(kind, backend, device):
    """Steps of 1 to 16 tokens over every edge of windows and blocks, from the first token until blocks are chosen."""
    n = 72
    q, k, v = draw(n, device, heads=2, kv_heads=1)
    whole, cache = Cache(n, device, kind=kind, heads=1), Cache(n + 60, device, kind=kind, heads=1)
    whole.write(k, v, 0, "reference")
    start = 0
    for T in (1, 3, 16, 7, 16, 2, 13, 1, 1, 12):
        stop = start + T
        mass, expected_mass = torch.zeros(n + 60, device=device), torch.zeros(n, device=device)
        cache.write(k[start:stop], v[start:stop], on(device, start), backend)
        scores, chosen, o = cache.attend(q[start:stop], on(device, start), backend, mass)
        expected = whole.attend(q[start:stop], start, "reference", expected_mass)
        seen = expected[0].shape[-1]
        assert relative_error(scores[..., :seen], expected[0]) < 1e-5
        assert not scores[..., seen:].any()
        assert torch.equal(chosen, expected[1])
        assert relative_error(o, expected[2]) < 1e-5
        assert relative_error(mass[:n], expected_mass) < 1e-5
        assert not mass[n:].any()
        start = stop
    assert start == n
    for name, out in cache.pooled.items():
        made = num_windows(n, *cache.sizes[name])
        assert relative_error(out[:, :made], whole.pooled[name]) < 1e-6
        assert out[:, made:].isnan().all()
    for found, expected in ((cache.keys, whole.keys), (cache.values, whole.values)):
        if kind is None:
            assert torch.equal(found[:, :n], expected)
            assert found[:, n:].isnan().all()
        else:
            assert torch.equal(found.data[:, :n], expected.data)
            assert torch.equal(found.scale[:, :n], expected.scale)
            assert found.scale[:, n:].isnan().all()


@pytest.mark.usefixtures("poisoned", "products_by_row")
@pytest.mark.parametrize(("n", "heads", "kv_heads"), [(280, 16, 1), (280, 6, 2), (40, 6, 2)])
def test_bits_do_not_depend_on_the_number_of_tokens_the_capacity_or_the_kind_of_position(n, heads, kv_heads, device):
    """Several coarse tiles, so that programs split the sums; two head ratios; with chosen blocks and before."""
    layout = BlockLayout(stride=1, block=8, init=1, local=2, slots=3)
    T, d = 4, 72  # for heads this wide, a tile has 16 keys
    q, k, v = draw(n, device, heads=heads, kv_heads=kv_heads, d=d)
    found = []
    for capacity, step, known in [(n, T, True), (n + 200, 3, False), (n, 1, False)]:
        cache = Cache(capacity, device, heads=kv_heads, d=d, layout=layout)
        cache.write(k, v, 0, "reference")
        parts = []
        for start in range(n - T, n, step):
            at = start if known else on(device, start)
            parts.append(cache.attend(q[start : min(n, start + step)], at, "triton"))
        seen = min(scores.shape[-1] for scores, _, _ in parts)
        parts = [(scores[..., :seen], chosen, o.transpose(0, 1)) for scores, chosen, o in parts]
        found.append([torch.cat(x, 1) for x in zip(*parts, strict=True)])
    for other in found[1:]:
        seen = min(found[0][0].shape[-1], other[0].shape[-1])
        assert torch.equal(found[0][0][..., :seen], other[0][..., :seen])
        assert torch.equal(found[0][1], other[1])
        assert torch.equal(found[0][2], other[2])


def lightning(T, device, *, H=2, kv_heads=1, K=16, V=18, layers=2):
    generator = torch.Generator().manual_seed(T)
    shapes = [(T, H, K), (T, kv_heads, K), (T, kv_heads, V), (layers, H, K, V), (2, K)]
    q, k, v, states, norms = (torch.randn(shape, generator=generator).to(device) for shape in shapes)
    call = {"scale": K**-0.5, "q_norm": norms[0], "k_norm": norms[1], "eps": 1e-6}
    return q, k, v, states, call, rotary_cos_sin(on(device, 70_000), T, K, 1e4, device), lightning_log_decay(H, device)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("T", [1, 3, 16])
def test_verifying_and_advancing_have_the_bits_of_decoding_token_by_token(T, backend, device):
    q, k, v, states, call, cos_sin, decay = lightning(T, device)
    before = states.clone()
    o, k_ready = lightning_verify(q, k, v, states[1], decay, cos_sin=cos_sin, backend=backend, **call)
    assert torch.equal(states, before)
    state, snapshots = states[1:2].clone(), [states[1].clone()]
    for t in range(T):
        one = (x[t : t + 1] for x in (q, k, v))
        alone = lightning_decode(*one, state, decay, cos_sin=cos_sin[:, t : t + 1], backend=backend, **call)
        assert torch.equal(alone[0], o[t])
        snapshots.append(state[0].clone())
    ks, vs = (x[None].expand(2, -1, -1, -1) for x in (k_ready, v))
    for count in {0, 1, T // 2, T}:
        for taken in (count, on(device, count)):
            advanced = states.clone()
            lightning_advance(advanced, ks, vs, decay, taken, backend=backend)
            assert torch.equal(advanced[1], snapshots[count])
            assert not torch.equal(advanced[0], snapshots[count])


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", [20, 140])
def test_the_mass_of_the_first_queries_is_what_attention_adds_for_them(position, kind, backend, device):
    T, n = 5, position + 5
    q, k, v = draw(n, device, heads=2, kv_heads=1, d=72)
    cache = Cache(n + 9, device, heads=1, d=72, kind=kind)
    cache.write(k, v, 0, "reference")
    q = q[position:]
    _, chosen, _ = cache.attend(q, position, "reference")
    for count in (0, 2, T):
        found, expected = torch.full((n + 9,), 0.5, device=device), torch.full((n + 9,), 0.5, device=device)
        call = {"position": on(device, position), "scale": SCALE, "layout": LAYOUT, "backend": backend}
        add_key_mass(q, cache.keys, chosen, found, count=on(device, count), **call)
        if count:
            call |= {"position": position, "mass": expected, "backend": "reference"}
            block_attention(q[:count], cache.keys, cache.values, chosen[:, :count], **call)
        assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_beyond_the_capacity(kind, device):
    """The kernels cannot raise for a position that the host does not know."""
    _, k, v = draw(4, device)
    cache = Cache(6, device, kind=kind)
    for position in (-2, 6, 4):
        append_rows(k, v, cache.keys, cache.values, position=on(device, position), backend="triton")
    whole = Cache(4, device, kind=kind)
    append_rows(k, v, whole.keys, whole.values, position=0, backend="reference")
    for found, given in ((cache.keys, whole.keys), (cache.values, whole.values)):
        if kind is not None:
            found, given = (dequantize_rows(x, backend="reference") for x in (found, given))
        assert torch.equal(found[:, :2], given[:, 2:])
        assert found[:, 2:4].isnan().all()
        assert torch.equal(found[:, 4:], given[:, :2])
    out = torch.full((2, 3, 16), 7.0, device=device)
    rows = torch.zeros(2, 30, 16, device=device)
    compress_new_keys(rows, out[:, :2], position=on(device, 0), num_tokens=16, size=4, stride=4, backend="triton")
    assert (out[:, 2] == 7).all()
    assert not out[:, :2].any()


def test_quantized_keys_are_pooled_as_their_dequantized_values(device):
    x = torch.randn(2, 70, 40, generator=torch.Generator().manual_seed(0)).to(device)
    for kind in ("int8", "fp8"):
        rows = quantize_rows(x, kind, backend="reference")
        out = torch.empty(2, 16, 40, device=device)
        compress_new_keys(rows, out, position=0, num_tokens=70, size=8, stride=4, backend="triton")
        expected = compress_keys(dequantize_rows(rows, backend="reference"), size=8, stride=4, backend="reference")
        assert relative_error(out, expected) < 1e-6
        half = torch.empty(2, 16, 40, device=device, dtype=torch.float16)
        compress_new_keys(rows, half, position=0, num_tokens=70, size=8, stride=4, backend="triton")
        assert torch.equal(half, out.half())


def test_rows_beyond_two_billion_numbers_are_written_and_pooled(device):
    """A CPU does not allocate pages that are never touched."""
    assert not torch.utils.deterministic.fill_uninitialized_memory or not torch.are_deterministic_algorithms_enabled()
    n = 2**27 + 64
    rows = QuantizedRows(
        data=torch.empty(1, n, 16, dtype=torch.int8, device=device), scale=torch.empty(1, n, device=device)
    )
    x = torch.randn(16, 1, 16, generator=torch.Generator().manual_seed(0)).to(device)
    position = 2**27 + 16
    append_rows(x, x, rows, rows, position=on(device, position), backend="triton")
    expected = quantize_rows(x.transpose(0, 1), "int8", backend="reference")
    assert torch.equal(rows.data[:, position : position + 16], expected.data)
    assert torch.equal(rows.scale[:, position : position + 16], expected.scale)
    out = torch.empty(1, n // 16, 16, dtype=torch.float16, device=device).expand(1, -1, -1)
    compress_new_keys(rows, out, position=on(device, position), num_tokens=16, size=16, stride=16, backend="triton")
    pooled = dequantize_rows(expected, backend="reference").mean(1)
    torch.testing.assert_close(out[:, position // 16].float(), pooled, rtol=1e-3, atol=1e-3)


_STEP = """
import json, sys, torch
from sala_kernels.inspection.compiler import distinct
from test_device_positions import step
kernels = {}
for launch in distinct([l for position in json.loads(sys.argv[1]) for l in step(torch.device("meta"), position)]):
    kernels[launch.kernel.__name__] = kernels.get(launch.kernel.__name__, 0) + 1
print(json.dumps(kernels))
"""


def step(device, position, *, T=16, kind=None, capacity=2**20, card=90):
    """The launches of one layer of each kind, at the released model's shapes.

    They verify T tokens and advance by some of them or, if T is 1, decode one token. position: a number, or None for a
    tensor.
    """
    layout = BlockLayout(stride=16, block=64, init=1, local=33, slots=62)
    cache = Cache(capacity, device, d=128, dv=128, kind=kind, layout=layout, dtype=torch.bfloat16)
    at = torch.empty(1, dtype=torch.int64, device=device) if position is None else position
    taken = torch.empty(1, dtype=torch.int64, device=device) if position is None else T
    q, o = (torch.empty(T, 32, 128, dtype=torch.bfloat16, device=device) for _ in range(2))
    k, v = (torch.empty(T, 2, 128, dtype=torch.bfloat16, device=device) for _ in range(2))
    norm, states = torch.empty(128, dtype=torch.bfloat16, device=device), torch.empty(24, 32, 128, 128, device=device)
    decay = torch.empty(32, device=device)
    with recorded(card) as launches:
        cache.write(k, v, at, "auto")
        mass = torch.empty(capacity, device=device)
        _, chosen, attended = cache.attend(q, at, "auto", mass)
        assert attended.shape == o.shape
        add_key_mass(q, cache.keys, chosen, mass, position=at, count=taken, scale=SCALE, layout=layout)
        cos_sin = rotary_cos_sin(at, T, 128, 1e4, device)
        call = {"scale": SCALE, "q_norm": norm, "k_norm": norm, "cos_sin": cos_sin}
        if T == 1:
            lightning_decode(q, q, q, states[:1], decay, **call)
        else:
            _, k_ready = lightning_verify(q, q, q, states[0], decay, **call)
            lightning_advance(states, k_ready.expand(24, T, 32, 128), q.expand(24, T, 32, 128), decay, taken)
    return launches


@pytest.mark.parametrize("T", [1, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_reads_no_value_on_the_host(kind, T):
    """Tensors on the meta device have no values: reading one raises."""
    launches = step(torch.device("meta"), None, T=T, kind=kind)
    assert len(launches) == (13 if T == 1 else 14)
    assert all(0 not in launch.grid for launch in launches)
    given = [launch.arguments["position"] for launch in launches if "position" in launch.arguments]
    assert len(given) == 11  # all but those that merge sums or advance states
    assert all(isinstance(x, torch.Tensor) for x in given)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"meta|item"):
        int(torch.empty(1, dtype=torch.int64, device="meta"))


def test_a_kernel_is_compiled_once_for_all_positions(environment, root):
    """The positions include multiples of 16, on which a compiler would specialize."""
    positions = [600_001, 600_000, 600_016, 700_007, 1_000_000]
    environment |= {"TRITON_INTERPRET": "0"}
    environment["PYTHONPATH"] += f":{root / 'tests' / 'sala_kernels'}"
    command = [sys.executable, "-c", _STEP, json.dumps(positions)]
    output = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert output.returncode == 0, output.stderr[-2000:]
    kernels = json.loads(output.stdout)
    # two window sizes; keys with and without values; mass of all queries and of some; states read, and advanced
    twice = {"_mean_windows", "split_keys", "key_mass", "_steps"}
    assert kernels == {name: 2 if name in twice else 1 for name in kernels}


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_positions_and_counts_are_refused(backend, device):
    q, k, v = draw(20, device)
    cache = Cache(40, device)
    decay = lightning_log_decay(4, device)
    mass = torch.zeros(40, device=device)
    states = torch.zeros(1, 4, 16, 24, device=device)
    add = {"scale": SCALE, "layout": LAYOUT, "backend": backend}

    def calls(position, T):
        yield lambda: append_rows(k[:T], v[:T], cache.keys, cache.values, position=position, backend=backend)
        yield lambda: cache.attend(q[:T], position, backend)
        pooling = {"num_tokens": T, "size": 8, "stride": 4, "backend": backend}
        yield lambda: compress_new_keys(cache.keys, cache.pooled["k1"], position=position, **pooling)
        yield lambda: choose_blocks(torch.zeros(2, T, 9, device=device), position=position, layout=LAYOUT)
        yield lambda: block_attention(q[:T], cache.keys, cache.values, None, position=position, **add)
        yield lambda: add_key_mass(q[:T], cache.keys, None, mass, position=position, count=1, **add)
        yield lambda: rotary_cos_sin(position, T, 16, 1e4, device, backend=backend)

    wrong = [torch.tensor(3), torch.tensor([3, 4]), torch.tensor([3], dtype=torch.int32)]
    for position in [x.to(device) for x in wrong] + [torch.empty(1, dtype=torch.int64, device="meta")]:
        for call in calls(position, 2):
            with pytest.raises(ValueError, match="position that is a tensor must be"):
                call()
    for call in calls(on(device, 3), 17):
        with pytest.raises(ValueError, match="at most 16"):
            call()
    with pytest.raises(ValueError, match="there is room for 40"):
        append_rows(k, v, cache.keys, cache.values, position=21, backend=backend)
    with pytest.raises(ValueError, match="does not fit rows"):
        append_rows(k, v, cache.values, cache.keys, position=0, backend=backend)
    with pytest.raises(ValueError, match="complete"):
        compress_new_keys(
            cache.keys, cache.pooled["k1"][:, :2], position=10, num_tokens=9, size=8, stride=4, backend=backend
        )
    with pytest.raises(ValueError, match="3 of 2 queries"):
        add_key_mass(q[:2], cache.keys, None, mass, position=0, count=3, **add)
    with pytest.raises(ValueError, match="3 of 2 tokens"):
        lightning_advance(states, k[None, :2], v[None, :2], decay, 3, backend=backend)
    with pytest.raises(ValueError, match="do not fit states"):
        lightning_advance(states, v[None, :2], v[None, :2], decay, 1, backend=backend)
    with pytest.raises(ValueError, match="at most 16"):
        lightning_verify(q, k, v, states[0], decay, scale=1.0, backend=backend)
    with pytest.raises(ValueError, match="fit"):
        lightning_verify(q[:2], k[:3], v[:2], states[0], decay, scale=1.0, backend=backend)
