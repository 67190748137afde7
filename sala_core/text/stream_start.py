"""The token that a stream begins with: `<s>`, where the model was trained with it in front of every text.

A chat template does not write it as a rule, because tokenizers add it. transformers takes it from the post-processor of
`tokenizer.json`; before version 5 also from `add_bos_token` in `tokenizer_config.json`, whose default is true for a
Llama tokenizer. Models are published with either, so both count here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from sala_core.errors import TokenizerError

BosChoice = Literal["auto"] | bool
"""Whether a stream begins with the token: "auto" as the tokenizer's settings ask."""

_LLAMA_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast")


def asks_for_bos(description: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a tokenizer puts a token in front of a text.

    `add_bos_token` decides if it is set, else the post-processor if there is one, else the tokenizer's class.

    Args:
        description: the content of `tokenizer.json`.
        settings: the content of `tokenizer_config.json`.
    """
    chosen = settings.get("add_bos_token")
    if isinstance(chosen, bool):
        return chosen
    processor = description.get("post_processor")
    if processor is not None:
        return bool(processor_start(processor))
    return settings.get("tokenizer_class") in _LLAMA_CLASSES


def processor_start(processor: Any) -> list[int]:
    """The ids that a post-processor of `tokenizer.json` writes in front of a single text; [] for none."""
    for part in _parts(processor):
        if part.get("type") != "TemplateProcessing":
            continue
        ids: list[int] = []
        for item in part.get("single") or []:
            if "SpecialToken" not in item:
                break
            name = item["SpecialToken"]["id"]
            ids += (part.get("special_tokens") or {}).get(name, {}).get("ids", [])
        return ids
    return []


def stream_start(
    description: Mapping[str, Any],
    settings: Mapping[str, Any],
    choice: BosChoice,
    *,
    named: str | None,
    model_id: int | None,
    added: Mapping[str, int],
) -> tuple[int, ...]:
    """The ids that every stream begins with, at most one unless the post-processor writes more; () for none.

    Args:
        description: the content of `tokenizer.json`.
        settings: the content of `tokenizer_config.json`.
        choice: "auto", or what the user wants.
        named: `bos_token` of the settings.
        model_id: `bos_token_id` of `config.json`.
        added: the tokenizer's added tokens, text -> id.

    Raises TokenizerError where the token is wanted and the tokenizer has none, or where text could imitate it.
    """
    if choice is False or (choice == "auto" and not asks_for_bos(description, settings)):
        return ()
    if named is not None:
        if named not in added:
            raise TokenizerError(
                f"the token {named!r} of the stream's beginning is none of the added tokens of tokenizer.json, so text "
                "could imitate it; correct the file, or go on without it: --bos off"
            )
        return (added[named],)
    ids = processor_start(description.get("post_processor")) or ([] if model_id is None else [model_id])
    if not ids and choice == "auto":
        return ()
    if not ids or not set(ids) <= set(added.values()):
        raise TokenizerError(
            f"the tokenizer has no token for the beginning of a stream (bos_token: none, bos_token_id: {model_id}); "
            "leave out --bos on"
        )
    return tuple(ids)


def _parts(processor: Any) -> Iterator[Mapping[str, Any]]:
    """A post-processor, and all its parts."""
    if isinstance(processor, Mapping):
        yield processor
        for inner in processor.get("processors") or []:
            yield from _parts(inner)
