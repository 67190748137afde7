"""The files of a tokenizer, and the two descriptions made of `tokenizer.json`: control and content."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sala_core.errors import TokenizerError

_SPACE = "▁"  # how sentencepiece-like vocabularies write a space
_NEVER_IN_UTF8 = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """What a model folder says about its tokenizer, parsed but not yet built."""

    description: Mapping[str, Any]  # tokenizer.json
    settings: Mapping[str, Any]  # tokenizer_config.json, {} where there is none
    chat_template: str | None
    special_tokens: Mapping[str, str]
    eos_token_ids: tuple[int, ...]
    model_vocab_size: int | None  # of config.json

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
        )


def control_description(files: TokenizerFiles) -> dict[str, Any]:
    """`tokenizer.json` with every added token of `tokenizer_config.json`, and nothing that cuts or pads.

    Raises TokenizerError for a kind of tokenizer that could lose text.
    """
    control = copy.deepcopy(dict(files.description))
    control["truncation"] = control["padding"] = None
    model = control.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else model
        raise TokenizerError(f"tokenizers of type {kind!r} are not supported, only BPE")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise TokenizerError("BPE with subword prefixes or suffixes is not supported")
    model["dropout"] = None
    added = [dict(token) for token in control.get("added_tokens") or []]
    known = {token["id"] for token in added}
    for text_id, token in (files.settings.get("added_tokens_decoder") or {}).items():
        if int(text_id) not in known:
            added.append({"id": int(text_id), **token})
    control["added_tokens"] = sorted(added, key=lambda token: token["id"])
    return control


def content_description(control: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer for text from outside: no way leads to an id of an added token.

    Added tokens and the post-processor go, and with them every vocabulary entry of an added token and the
    merges through it; so does the dummy space in front. Raises TokenizerError if some byte of text would then
    have no token.
    """
    content = copy.deepcopy(dict(control))
    model = content["model"]
    banned_ids = {token["id"] for token in content["added_tokens"]}
    banned_text = {token["content"] for token in content["added_tokens"]}
    gone = {text for text, i in model["vocab"].items() if i in banned_ids or text in banned_text}
    model["vocab"] = {text: i for text, i in model["vocab"].items() if text not in gone}
    model["merges"] = [merge for merge in model.get("merges") or [] if not _touches(merge, gone)]
    model["unk_token"] = None
    content["added_tokens"], content["post_processor"] = [], None
    content["normalizer"] = _without_prepend(content.get("normalizer"))
    for part in _walk(content.get("pre_tokenizer")):
        if part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
            part.pop("add_prefix_space", None)
        elif part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
    alphabet = _byte_tokens(control)
    lost = sorted(byte for text, byte in alphabet.items() if byte not in _NEVER_IN_UTF8 and text not in model["vocab"])
    if lost:
        raise TokenizerError(
            f"{len(lost)} of 256 bytes have no token of their own beside control tokens "
            f"(first: {lost[0]:#04x}); text could be lost"
        )
    return content


def token_bytes(control: Mapping[str, Any]) -> list[bytes]:
    """The UTF-8 bytes each id stands for, b"" for ids that no token has; control tokens as their text."""
    alphabet = _byte_tokens(control)
    vocab: Mapping[str, int] = control["model"]["vocab"]
    added = {token["id"]: token["content"] for token in control["added_tokens"]}
    pieces = [b""] * (max([*vocab.values(), *added], default=-1) + 1)
    byte_level = _is_byte_level(control)
    for text, token_id in vocab.items():
        if not byte_level:
            byte = alphabet.get(text)
            pieces[token_id] = text.replace(_SPACE, " ").encode() if byte is None else bytes([byte])
        elif all(char in alphabet for char in text):
            pieces[token_id] = bytes(alphabet[char] for char in text)
        else:
            pieces[token_id] = text.encode()
    for token_id, text in added.items():
        pieces[token_id] = text.encode()
    return pieces


def _is_byte_level(control: Mapping[str, Any]) -> bool:
    parts = [*_walk(control.get("pre_tokenizer")), *_walk(control.get("normalizer"))]
    return any(part["type"] == "ByteLevel" for part in parts)


def _byte_tokens(control: Mapping[str, Any]) -> dict[str, int]:
    """How the vocabulary writes each single byte: GPT-2's letters, or `<0x0A>` where the model falls back."""
    if _is_byte_level(control):
        return _byte_letters()
    if control["model"].get("byte_fallback"):
        return {f"<0x{byte:02X}>": byte for byte in range(256)}
    raise TokenizerError("the tokenizer works neither on bytes nor with byte fallback; text could be lost")


def _byte_letters() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    letters.update({chr(0x100 + i): byte for i, byte in enumerate(others)})
    return letters


def _walk(part: Any) -> Iterator[dict[str, Any]]:
    """A normalizer or pre-tokenizer and all it is made of."""
    if not isinstance(part, dict):
        return
    yield part
    for key in ("normalizers", "pretokenizers"):
        for inner in part.get(key) or []:
            yield from _walk(inner)


def _without_prepend(normalizer: Any) -> Any:
    if not isinstance(normalizer, dict) or normalizer.get("type") == "Prepend":
        return None
    if normalizer.get("type") == "Sequence":
        kept = [_without_prepend(inner) for inner in normalizer["normalizers"]]
        return {"type": "Sequence", "normalizers": [inner for inner in kept if inner is not None]}
    return normalizer


def _touches(merge: Any, gone: set[str]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in gone or right in gone or left + right in gone


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The file chat_template.jinja if there is one, else the entry of tokenizer_config.json."""
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


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in values):
        raise TokenizerError(f"eos_token_id must be a number or a list of numbers, found {value!r}")
    return values


def _read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file, {} where there is no file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{file} must hold a JSON object")
    return content
