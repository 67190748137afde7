"""Configurations of small models: one, and changes of it that cover every kind of layer."""

SMALL = {
    "model_type": "minicpm_sala", "vocab_size": 97, "hidden_size": 48, "intermediate_size": 64,
    "num_hidden_layers": 4, "mixer_types": ["minicpm4", "lightning-attn", "lightning-attn", "minicpm4"],
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "lightning_nh": 6, "lightning_nkv": 3, "lightning_head_dim": 8, "dim_model_base": 32, "eos_token_id": [2, 3],
    "sparse_config": {
        "kernel_size": 8, "kernel_stride": 4, "block_size": 16, "window_size": 32, "init_blocks": 1, "topk": 4,
    },
}  # fmt: skip

VARIANTS = {
    "grouped heads": {},
    "five heads, rotary, tied, no gates": {
        "num_attention_heads": 6, "head_dim": 10, "lightning_nh": 5, "lightning_nkv": 1, "attn_use_rope": True,
        "attn_use_output_gate": False, "use_output_gate": False, "use_output_norm": False, "qk_norm": False,
        "lightning_use_rope": False, "lightning_scale": "1/d", "tie_word_embeddings": True,
        "sparse_config": {
            "kernel_size": 4, "kernel_stride": 2, "block_size": 8, "window_size": 8, "init_blocks": 2, "topk": 6,
        },
    },
    "released model's strides": {
        "num_attention_heads": 3, "num_key_value_heads": 1, "lightning_nh": 8, "lightning_nkv": 8,
        "sparse_config": {
            "kernel_size": 32, "kernel_stride": 16, "block_size": 64, "window_size": 64, "init_blocks": 1, "topk": 3,
        },
    },
    "one window a block": {
        "mixer_types": ["lightning", "minicpm4", "minicpm4", "lightning_attn"], "lightning_scale": "none",
        "sparse_config": {
            "kernel_size": 16, "kernel_stride": 8, "block_size": 8, "window_size": 0, "init_blocks": 0, "topk": 4,
        },
    },
    "sparse layers alone": {"num_hidden_layers": 2, "mixer_types": ["minicpm4"] * 2},
    "lightning layers alone": {"num_hidden_layers": 2, "mixer_types": ["lightning-attn"] * 2},
}  # fmt: skip
