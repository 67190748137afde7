"""The keys of `config.json` beside the fields of `SalaConfig`: without effect here, with one legal value, or unknown.

A key that changes what a model computes must not be passed over. So each key is a field of `SalaConfig`, or is listed
here, or the model is refused by that key's name.
"""

from collections.abc import Mapping
from typing import Any

from sala_core.errors import ConfigError

WITHOUT_EFFECT = frozenset(
    """
    architectures auto_map model_type transformers_version _name_or_path name_or_path _commit_hash tokenizer_class
    dtype torch_dtype use_cache _attn_implementation attn_implementation _attn_implementation_autoset
    initializer_range attention_dropout attn_dropout hidden_dropout hidden_dropout_prob resid_pdrop embd_pdrop
    mup_denominator rand_init shift_labels pretraining_tp gradient_checkpointing output_router_logits
    pad_token_id sep_token_id unk_token_id decoder_start_token_id forced_bos_token_id forced_eos_token_id
    return_dict return_dict_in_generate output_hidden_states output_attentions output_scores
    id2label label2id num_labels problem_type finetuning_task task_specific_params prefix
    torchscript use_bfloat16 tf_legacy_loss chunk_size_feed_forward is_decoder quantization_config
    do_sample temperature top_p top_k typical_p max_length min_length max_new_tokens num_beams num_beam_groups
    num_return_sequences repetition_penalty diversity_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size early_stopping bad_words_ids suppress_tokens begin_suppress_tokens
    exponential_decay_length_penalty remove_invalid_values unsloth_version unsloth_fixed
    """.split()  # noqa: SIM905 - 60 names, by subject
)
"""Names and versions, settings of training, of sampling (which `generation_config.json` sets) and of the writer's code.

`quantization_config` is read with the weights.
"""

_ONE_VALUE: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "hidden_act": ("silu", "swish"),
    "lightning_layerwise_decay": (False,),
    "partial_rotary_factor": (1.0,),
    "sliding_window": (),
    "use_sliding_window": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({},),
}
"""Keys of features, and the values that this program computes. None, which means not set, is legal everywhere."""

_ROPE_KEYS = ("rope_scaling", "rope_parameters")


def check_keys(raw: Mapping[str, Any], computed: frozenset[str]) -> None:
    """Refuse a key of `config.json` that the program neither computes nor knows to be without effect.

    raw: the parsed file. computed: the fields of `SalaConfig`. Raises ConfigError, which names the keys.
    """
    for name, legal in _ONE_VALUE.items():
        value = raw.get(name)
        if value is None or any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in legal):
            continue
        shown = " or ".join(repr(one) for one in legal) or "null"
        raise ConfigError(f"{name} {_shown(value)} is not supported, only {shown}; use another model")
    known = computed | WITHOUT_EFFECT | set(_ONE_VALUE) | set(_ROPE_KEYS)
    _refuse_unknown([name for name, value in raw.items() if name not in known and value is not None], "")


def check_sparse_keys(raw: Mapping[str, Any], computed: frozenset[str]) -> None:
    """The same for the keys of `sparse_config`. computed: the fields of `SparseConfig`."""
    _refuse_unknown(
        [name for name, value in raw.items() if name not in computed and value is not None], "sparse_config"
    )


def rope_theta(raw: Mapping[str, Any], default: float) -> float:
    """The base of the rotary frequencies, from `rope_theta` or from `rope_parameters` (transformers 5).

    Raises ConfigError for two different bases, and for rotary embeddings that scale the angles.
    """
    found: dict[str, Any] = {} if raw.get("rope_theta") is None else {"rope_theta": raw["rope_theta"]}
    for name in _ROPE_KEYS:
        parameters = raw.get(name)
        if parameters is None:
            continue
        if not isinstance(parameters, Mapping):
            raise ConfigError(f"{name} must be an object, found {_shown(parameters)}")
        set_here = {key: value for key, value in parameters.items() if value is not None}
        kinds = {set_here.pop(key, "default") for key in ("rope_type", "type")}
        partial = set_here.pop("partial_rotary_factor", 1.0)
        if "rope_theta" in set_here:
            found[f"{name}.rope_theta"] = set_here.pop("rope_theta")
        if kinds != {"default"} or partial != 1.0 or set_here:
            raise ConfigError(
                f"{name} {_shown(dict(parameters))} is not supported, only rope_type 'default' with a rope_theta; use "
                "another model"
            )
    if len({float(theta) if isinstance(theta, int | float) else repr(theta) for theta in found.values()}) > 1:
        listed = ", ".join(f"{name} {theta!r}" for name, theta in found.items())
        raise ConfigError(f"config.json names two bases of the rotary embedding: {listed}; correct it")
    return next(iter(found.values()), default)


def _refuse_unknown(names: list[str], where: str) -> None:
    if names:
        listed = ", ".join(repr(str(name)[:60]) for name in sorted(names, key=str)[:5])
        raise ConfigError(
            f"{where or 'config.json'} has {len(names)} key(s) that this program does not know, {listed}, and it would "
            "compute something else if they matter; remove them from a copy of the model's folder if its own code "
            "does not use them, otherwise use another model"
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
