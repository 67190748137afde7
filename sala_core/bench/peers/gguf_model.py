"""A GGUF file of random weights: a model with full attention in every layer, of the size of one of ours."""

from pathlib import Path

import numpy as np

from sala_core.bench.sizes import FullConfig

_ARCHITECTURE = "qwen3"


def write_gguf(config: FullConfig, file: Path, *, weights: str, context: int) -> None:
    """Write the model. Raises ImportError without the package `gguf`.

    Args:
        config: the model's shapes.
        file: to write.
        weights: "fp32" or "bf16". Norms are float32 in both.
        context: tokens that the file says the model was trained for.
    """
    import gguf

    writer = gguf.GGUFWriter(str(file), _ARCHITECTURE)
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_tokenizer_model("none")  # tokens are given as numbers
    writer.add_vocab_size(config.vocab_size)
    kind = gguf.GGMLQuantizationType.F32 if weights == "fp32" else gguf.GGMLQuantizationType.BF16
    generator = np.random.default_rng(1)
    for name, shape in _shapes(config).items():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, dtype=np.float32))
            continue
        matrix = generator.standard_normal(shape, dtype=np.float32) * np.float32(shape[1] ** -0.5)
        writer.add_tensor(name, gguf.quants.quantize(matrix, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shapes(config: FullConfig) -> dict[str, tuple[int, ...]]:
    D, F, d = config.hidden_size, config.intermediate_size, config.head_dim
    num_q, num_kv = config.num_attention_heads * d, config.num_key_value_heads * d
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (config.vocab_size, D), "output_norm.weight": (D,)}
    if not config.tie_word_embeddings:
        shapes["output.weight"] = (config.vocab_size, D)
    for i in range(config.num_hidden_layers):
        layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (D,), "attn_q": (num_q, D), "attn_k": (num_kv, D), "attn_v": (num_kv, D),
            "attn_q_norm": (d,), "attn_k_norm": (d,), "attn_output": (D, num_q),
            "ffn_norm": (D,), "ffn_gate": (F, D), "ffn_up": (F, D), "ffn_down": (D, F),
        }  # fmt: skip
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
    return shapes
