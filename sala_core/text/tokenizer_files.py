"""Read the files of a tokenizer, and make two descriptions from `tokenizer.json`: control and content."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sala_core.errors import TokenizerError
from sala_core.text.unencodable import CharacterFilter

_SPACE = "▁"  # how sentencepiece-like vocabularies write a space
_KEEPS_CHARACTERS = frozenset(["Sequence", "Prepend", "Replace", "ByteLevel"])
"""Normalizers that compose no character of others. `Replace` writes the space's letter."""
_NEVER_IN_UTF8 = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """The tokenizer files of a model folder, parsed."""

    description: Mapping[str, Any]  # tokenizer.json
    settings: Mapping[str, Any]  # tokenizer_config.json, {} if there is none
    chat_template: str | None
    special_tokens: Mapping[str, str]
    eos_token_ids: tuple[int, ...]
    model_vocab_size: int | None  # vocab_size in config.json
    model_bos_token_id: int | None = None  # bos_token_id in config.json

    @classmethod
    def read(cls, folder: Path) -> "TokenizerFiles":
        """Read a model folder. Raises TokenizerError for a missing or broken file."""
        description = _read_json(folder / "tokenizer.json")
        if not description:
            raise TokenizerError(f"{folder} has no tokenizer.json; download the model's tokenizer files too")
        settings = _read_json(folder / "tokenizer_config.json")
        config = _read_json(folder / "config.json")
        generation = _read_json(folder / "generation_config.json")
        eos = _ids(config.get("eos_token_id")) + _ids(generation.get("eos_token_id"))
        return cls(
            description=description,
            settings=settings,
            chat_template=_chat_template(folder, settings),
            special_tokens=_special_tokens(settings),
            eos_token_ids=tuple(sorted(set(eos))),
            model_vocab_size=config.get("vocab_size"),
            model_bos_token_id=next(iter(_ids(config.get("bos_token_id"), "bos_token_id")), None),
        )


def control_description(files: TokenizerFiles) -> dict[str, Any]:
    """Return `tokenizer.json` with all added tokens of `tokenizer_config.json`, without truncation and padding.

    Raises TokenizerError for a kind of tokenizer that could lose text.
    """
    control = dict(files.description)
    control["truncation"] = control["padding"] = None
    model = control.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else model
        raise TokenizerError(f"tokenizers of type {kind!r} are not supported, only BPE")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise TokenizerError("BPE with subword prefixes or suffixes is not supported")
    control["model"] = {**model, "dropout": None}
    added = [dict(token) for token in control.get("added_tokens") or []]
    known = {token["id"] for token in added}
    for text_id, token in (files.settings.get("added_tokens_decoder") or {}).items():
        if int(text_id) not in known:
            added.append({"id": int(text_id), **token})
    control["added_tokens"] = sorted(added, key=lambda token: token["id"])
    return control


def content_description(control: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the tokenizer for content, which cannot produce the id of an added token.

    It has no added tokens, no vocabulary entry of an added token and no merges through such an entry, no
    post-processor, and adds no space in front.
    """
    content = dict(control)  # only what changes is copied: a vocabulary and its merges can have a million parts
    model = content["model"] = dict(control["model"])
    banned_ids = {token["id"] for token in content["added_tokens"]}
    banned_text = {token["content"] for token in content["added_tokens"]}
    gone = {text for text, i in model["vocab"].items() if i in banned_ids or text in banned_text}
    model["vocab"] = {text: i for text, i in model["vocab"].items() if text not in gone}
    model["merges"] = [merge for merge in model.get("merges") or [] if not _touches(merge, gone)]
    model["unk_token"] = None
    content["added_tokens"], content["post_processor"] = [], None
    content["normalizer"] = _without_prepend(content.get("normalizer"))
    content["pre_tokenizer"] = copy.deepcopy(content.get("pre_tokenizer"))
    for part in _walk(content.get("pre_tokenizer")):
        if part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
            part.pop("add_prefix_space", None)
        elif part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
    return content


def character_filter(control: Mapping[str, Any], content: Mapping[str, Any]) -> CharacterFilter | None:
    """What replaces the characters that the content tokenizer cannot write; None if it can write all of them.

    Raises TokenizerError if it works neither on bytes nor with byte fallback, if plain text would be lost, or if a
    normalizer could make such a character out of others.
    """
    vocab = content["model"]["vocab"]
    lost = [byte for text, byte in _byte_tokens(control).items() if text not in vocab and byte not in _NEVER_IN_UTF8]
    if not lost:
        return None
    kinds = {part["type"] for part in _walk(content.get("normalizer"))} - _KEEPS_CHARACTERS
    if kinds:
        raise TokenizerError(
            f"{len(lost)} of 256 bytes have no token of their own beside control tokens, and the normalizer "
            f"{', '.join(sorted(kinds))} could lead to them; text could be lost; use another tokenizer"
        )
    whole = frozenset() if _is_byte_level(control) else frozenset(text for text in vocab if len(text) == 1)
    return CharacterFilter(frozenset(lost), whole | {" "} if _SPACE in whole else whole)


def token_bytes(control: Mapping[str, Any]) -> list[bytes]:
    """Return id -> UTF-8 bytes of the token; control tokens as text, b"" for unused ids."""
    alphabet = _byte_tokens(control)
    vocab: Mapping[str, int] = control["model"]["vocab"]
    added = {token["id"]: token["content"] for token in control["added_tokens"]}
    pieces = [b""] * (max([*vocab.values(), *added], default=-1) + 1)
    byte_level = _is_byte_level(control)
    for text, token_id in vocab.items():
        if not byte_level:
            byte = alphabet.get(text)
            pieces[token_id] = text.replace(_SPACE, " ").encode() if byte is None else bytes([byte])
            continue
        try:
            pieces[token_id] = bytes(map(alphabet.__getitem__, text))
        except KeyError:  # letters outside the alphabet
            pieces[token_id] = text.encode()
    for token_id, text in added.items():
        pieces[token_id] = text.encode()
    return pieces


def _is_byte_level(control: Mapping[str, Any]) -> bool:
    parts = [*_walk(control.get("pre_tokenizer")), *_walk(control.get("normalizer"))]
    return any(part["type"] == "ByteLevel" for part in parts)


def _byte_tokens(control: Mapping[str, Any]) -> dict[str, int]:
    """Vocabulary entry -> byte: letters as in GPT-2, or `<0x0A>` with byte fallback. Raises TokenizerError."""
    if _is_byte_level(control):
        return _byte_letters()
    if control["model"].get("byte_fallback"):
        return {f"<0x{byte:02X}>": byte for byte in range(256)}
    raise TokenizerError("the tokenizer works neither on bytes nor with byte fallback; text could be lost")


def _byte_letters() -> dict[str, int]:
    """GPT-2's alphabet, letter -> byte: printable bytes as themselves, the others as letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    letters.update({chr(0x100 + i): byte for i, byte in enumerate(others)})
    return letters


def _walk(part: Any) -> Iterator[dict[str, Any]]:
    """Yield a normalizer or pre-tokenizer, and all its parts."""
    if not isinstance(part, dict):
        return
    yield part
    for key in ("normalizers", "pretokenizers"):
        for inner in part.get(key) or []:
            yield from _walk(inner)


def _without_prepend(normalizer: Any) -> Any:
    """A normalizer without the step that adds a space in front; None if it is only that step."""
    if not isinstance(normalizer, dict) or normalizer.get("type") == "Prepend":
        return None
    if normalizer.get("type") == "Sequence":
        parts = [_without_prepend(inner) for inner in normalizer["normalizers"]]
        return {"type": "Sequence", "normalizers": [part for part in parts if part is not None]}
    return normalizer


def _touches(merge: Any, gone: set[str]) -> bool:
    """Whether a merge takes or makes one of the entries `gone`."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in gone or right in gone or left + right in gone


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The text of chat_template.jinja if it exists, otherwise the entry in tokenizer_config.json, or None."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        template = settings.get("chat_template")
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{folder / 'chat_template.jinja'} cannot be read: {error}") from error
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in _NAMED_TOKENS:
        value = settings.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _ids(value: Any, name: str = "eos_token_id") -> list[int]:
    """The ids in an `eos_token_id`: a number, a list or None. Raises TokenizerError."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in values):
        raise TokenizerError(f"{name} must be a number or a list of numbers, found {value!r}")
    return values


def _read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file, {} if there is no file. Raises TokenizerError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{file} must hold a JSON object")
    return content
