"""What a model's `generation_config.json` recommends. Each key is taken, has no effect here, or is refused by name."""

from collections.abc import Mapping
from typing import Any

_MAX_TOKENS_OF_THINKERS = 4096
"""Default limit of an answer after thinking. Models that think write long, structured answers; the limit is only a
guard, because an answer that repeats itself is ended as such."""

_TAKEN = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "thinking_budget", "verbatim", "only_quotes",
)  # fmt: skip
_WITHOUT_EFFECT = frozenset(
    {
        "_from_model_config", "transformers_version", "trust_remote_code",  # about the file itself
        "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id",  # the tokenizer takes what it needs
        "use_cache", "cache_implementation", "cache_config", "return_legacy_cache",  # how other programs compute
        "disable_compile", "compile_config", "low_memory", "prefill_chunk_size", "max_cache_len",
        "continuous_batching_config", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule",
        "assistant_confidence_threshold", "assistant_early_exit", "assistant_ensemble_weight", "assistant_lookbehind",
        "target_lookbehind", "prompt_lookup_num_tokens", "max_matching_ngram_size", "speculation_type",
        "output_attentions", "output_hidden_states", "output_scores", "output_logits",  # what they return
        "return_dict_in_generate", "num_return_sequences",
        "max_length", "max_time",  # limits of a whole sequence, where a session has its own
    }
)  # fmt: skip
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "early_stopping": (False,),
    "length_penalty": (1,),
    "diversity_penalty": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "top_h": (1,),
    "penalty_alpha": (0,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1,),
    "bad_words_ids": ([],),
    "sequence_bias": ({},),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "renormalize_logits": (False, True),
    "remove_invalid_values": (False, True),
    "token_healing": (False,),
    "use_mtp": (False,),
}
"""Keys that change an answer, and the values with which they do not."""


def recommended_values(raw: Mapping[str, Any], *, thinks: bool) -> dict[str, Any]:
    """The fields of SamplingParams that a `generation_config.json` sets.

    `do_sample` false means greedy. `max_new_tokens` is the limit of the answer, which is counted after thinking;
    without it, a model that thinks gets a larger one than the default. Null stands for a missing key.

    Args:
        raw: the file.
        thinks: whether the model can think before it answers.

    Raises ValueError for a key that would change the answer and is not computed here.
    """
    given = {name: value for name, value in raw.items() if value is not None}
    for name in sorted(given.keys() - {*_TAKEN, "do_sample", "max_new_tokens", "stop_strings"}):
        if name not in _WITHOUT_EFFECT and given[name] not in _NEUTRAL.get(name, ()):
            raise ValueError(
                f"{name} = {given[name]!r} is not computed by this program; remove {name} from the file to answer "
                "without it"
            )
    values = {name: given[name] for name in _TAKEN if name in given}
    if "max_new_tokens" in given or thinks:
        values["max_tokens"] = given.get("max_new_tokens", _MAX_TOKENS_OF_THINKERS)
    if given.get("do_sample") is False:
        values["temperature"] = 0
    if stops := given.get("stop_strings"):
        values["stop"] = (stops,) if isinstance(stops, str) else tuple(stops)
    return values
