"""The baseline: a model with full attention in every layer, Qwen3's architecture (arXiv:2505.09388).

It is as fast as torch allows without an inference server: one product for q, k and v; the same fused kernels as SALA
for norms, RoPE and SwiGLU; the same 4-bit matrices; torch's flash attention; decoding in one CUDA graph, with the next
token chosen on the device and no synchronization between tokens.
"""

from collections.abc import Iterator, Mapping

import torch
from sala_kernels import (
    Int4Weight,
    add_rms_norm,
    int4_linear,
    int4_swiglu,
    qk_norm_rotary,
    rms_norm,
    rotary_cos_sin,
    swiglu,
)
from torch import Tensor
from torch.nn.functional import linear

from sala_core.bench.models.torch_attention import TorchAttention
from sala_core.bench.sizes import FullConfig

_SLICE_TOKENS = 8192  # multiplied with matrices at once; bounds the memory of activations besides h, q and attention


class FullCache:
    """Keys and values [layers, capacity, kv heads, d], and the rotary cosines and sines of every position."""

    def __init__(self, config: FullConfig, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        """Reserve all rows.

        Args:
            config: the model's shapes.
            capacity: tokens of prompt and answer together.
            dtype, device: of keys and values.
        """
        shape = (config.num_hidden_layers, capacity, config.num_key_value_heads, config.head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.cos_sin = rotary_cos_sin(0, capacity, config.head_dim, config.rope_theta, device)
        self.length = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of keys and values, with all reserved rows."""
        return 2 * self.keys.numel() * self.keys.itemsize


class FullAttentionModel:
    """The forward pass of one sequence, without gradients."""

    def __init__(
        self, config: FullConfig, weights: Mapping[str, Tensor | Int4Weight], attention: TorchAttention
    ) -> None:
        """weights: as `random_weights.full_weights` makes them."""
        self.config, self.weights, self._attention = config, weights, attention
        embedding = weights["model.embed_tokens.weight"]
        assert isinstance(embedding, Tensor)
        self._embedding = embedding
        self._head = embedding if config.tie_word_embeddings else weights["lm_head.weight"]

    @torch.inference_mode()
    def prefill(self, ids: Tensor, cache: FullCache) -> Tensor:
        """Fill an empty cache with the prompt, int64 [T]. Returns the most probable next token, int64 [1].

        Attention takes the whole prompt at once, where its kernels are fastest. Everything else runs in slices. In the
        last layer, tokens before the last one only need their keys and values.
        """
        config, T = self.config, len(ids)
        assert cache.length == 0
        h = torch.empty(T, config.hidden_size, dtype=self._embedding.dtype, device=ids.device)
        q = h.new_empty(T, config.num_attention_heads, config.head_dim)
        for part in _slices(T):
            h[part] = self._embedding[ids[part]]
            x = self._first_norm(h[part])
            q[part], cache.keys[0, part], cache.values[0, part] = self._project(0, x, cache.cos_sin[:, part])
        last = config.num_hidden_layers - 1
        for layer in range(last):
            attended = self._attention.prefill(q, cache.keys[layer, :T], cache.values[layer, :T])
            for part in _slices(T):
                x = self._finish_layer(layer, h[part], attended[part])
                keys, values = cache.keys[layer + 1], cache.values[layer + 1]
                q[part], keys[part], values[part] = self._project(layer + 1, x, cache.cos_sin[:, part])
            del attended
        num_keys = torch.tensor([T], dtype=torch.int32, device=ids.device)
        attended = self._attention.decode(q[-1:], cache.keys[last, :T], cache.values[last, :T], num_keys)
        x = self._finish_layer(last, h[-1:], attended)
        cache.length = T
        return self._next_token(x)

    @torch.inference_mode()
    def decode(self, token: Tensor, position: Tensor, cache: FullCache) -> Tensor:
        """Decode one token, int64 [1], at a position, int64 [1] on the device. Returns the next token, [1].

        Nothing is synchronized with the host.
        """
        h = self._embedding[token]
        cos_sin = cache.cos_sin.index_select(1, position)
        num_keys = (position + 1).to(torch.int32)
        x = self._first_norm(h)
        for layer in range(self.config.num_hidden_layers):
            keys, values = cache.keys[layer], cache.values[layer]
            q, k, v = self._project(layer, x, cos_sin)
            keys.index_copy_(0, position, k)
            values.index_copy_(0, position, v)
            x = self._finish_layer(layer, h, self._attention.decode(q, keys, values, num_keys))
        return self._next_token(x)

    def _next_token(self, x: Tensor) -> Tensor:
        return self._multiply(x, self._head).argmax(-1)

    def _first_norm(self, h: Tensor) -> Tensor:
        return rms_norm(h, self._weight(0, "input_layernorm"), self.config.rms_norm_eps)

    def _project(self, layer: int, x: Tensor, cos_sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [T, D] -> q [T, H, d], k and v [T, kv heads, d], with norms and RoPE applied to q and k."""
        config, d = self.config, self.config.head_dim
        num_q, num_kv = config.num_attention_heads * d, config.num_key_value_heads * d
        qkv = self._multiply(x, self.weights[f"model.layers.{layer}.self_attn.qkv_proj.weight"])
        q, k, v = (part.unflatten(-1, (-1, d)) for part in qkv.split([num_q, num_kv, num_kv], -1))
        q_norm, k_norm = (self._weight(layer, f"self_attn.{name}_norm") for name in "qk")
        q, k = qk_norm_rotary(q, k, q_norm, k_norm, cos_sin, eps=config.rms_norm_eps)
        return q, k, v

    def _finish_layer(self, layer: int, h: Tensor, attended: Tensor) -> Tensor:
        """Add the projected attention output [T, H, d] and the MLP's output to h [T, D], in place.

        Returns h normalized for the next layer, or for the head.
        """
        prefix, eps = f"model.layers.{layer}.", self.config.rms_norm_eps
        update = self._multiply(attended.reshape(len(h), -1), self.weights[prefix + "self_attn.o_proj.weight"])
        x = add_rms_norm(h, update, self._weight(layer, "post_attention_layernorm"), eps, scale=1.0)
        gate, up = (self.weights[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "up"))
        if isinstance(gate, Int4Weight) and isinstance(up, Int4Weight):
            x = int4_swiglu(x, gate, up)
        else:
            x = swiglu(self._multiply(x, gate), self._multiply(x, up))
        update = self._multiply(x, self.weights[prefix + "mlp.down_proj.weight"])
        last = layer + 1 == self.config.num_hidden_layers
        weight = self._tensor("model.norm.weight") if last else self._weight(layer + 1, "input_layernorm")
        return add_rms_norm(h, update, weight, eps, scale=1.0)

    def _weight(self, layer: int, name: str) -> Tensor:
        return self._tensor(f"model.layers.{layer}.{name}.weight")

    def _tensor(self, name: str) -> Tensor:
        weight = self.weights[name]
        assert isinstance(weight, Tensor)
        return weight

    def _multiply(self, x: Tensor, weight: Tensor | Int4Weight) -> Tensor:
        return int4_linear(x, weight) if isinstance(weight, Int4Weight) else linear(x, weight)


class FullAttentionDecoder:
    """Greedy decoding from a cache: by replaying one CUDA graph on a card, token by token on a CPU."""

    def __init__(self, model: FullAttentionModel, cache: FullCache, max_new_tokens: int) -> None:
        """Captures the graph. The cache must have rows for prompt and answer; it can be filled later."""
        self._model, self._cache, self.max_new_tokens = model, cache, max_new_tokens
        device = cache.keys.device
        self._token = torch.zeros(1, dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._tokens = torch.zeros(max_new_tokens, dtype=torch.int64, device=device)
        self._count = torch.zeros(1, dtype=torch.int64, device=device)
        self._graph = self._capture() if device.type == "cuda" else None

    @torch.inference_mode()
    def run(self, first: Tensor, num_tokens: int) -> Tensor:
        """Decode `num_tokens` tokens after `first` [1] and wait for the last one. Returns them, int64 on the CPU."""
        self._begin(first)
        for _ in range(num_tokens):
            if self._graph is None:
                self._advance()
            else:
                self._graph.replay()
        return self._tokens[:num_tokens].cpu()

    def _begin(self, first: Tensor) -> None:
        self._token.copy_(first)
        self._position.fill_(self._cache.length)
        self._count.zero_()

    def _advance(self) -> None:
        self._token.copy_(self._model.decode(self._token, self._position, self._cache))
        self._tokens.index_copy_(0, self._count, self._token)
        self._position += 1
        self._count += 1

    @torch.inference_mode()
    def _capture(self) -> "torch.cuda.CUDAGraph":
        self._begin(self._token)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles kernels and creates library handles, which is not allowed in a capture
            for _ in range(min(2, len(self._tokens))):
                self._advance()
        torch.cuda.current_stream().wait_stream(side)
        self._begin(self._token)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance()
        return graph


def _slices(T: int) -> Iterator[slice]:
    for start in range(0, T, _SLICE_TOKENS):
        yield slice(start, min(T, start + _SLICE_TOKENS))
