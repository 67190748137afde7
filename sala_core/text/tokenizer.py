"""Text to token ids and back. The text of a document never becomes a control token.

Two tokenizers are built from one `tokenizer.json`. The control tokenizer has the added tokens and encodes only the
pieces of the chat template. The content tokenizer has neither added tokens nor a post-processor, and its vocabulary
has no entry and no merge that leads to a control id, so `<|im_end|>` in a file becomes ordinary tokens. It adds no
space in front, because content always follows a piece of the template.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import xxhash

from sala_core.errors import TokenizerError
from sala_core.text.stream_start import BosChoice, stream_start
from sala_core.text.tokenizer_files import (
    TokenizerFiles,
    character_filter,
    content_description,
    control_description,
    token_bytes,
)
from sala_core.text.unencodable import replacement_note

_CHUNK_CHARS = 1 << 16  # text is encoded in pieces of about this size, to bound the memory
_CUT_SEARCH_CHARS = 1 << 12
_LINE_START = re.compile(r"(?<=\S\n)(?=\S)")
_WORD_START = re.compile(r"(?<=\S)(?=[ ]\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")


class StreamDecoder:
    """Decodes ids one by one. Returns a character once all its bytes are there.

    The results of all `push` calls and `flush` together equal `Tokenizer.decode` of all ids.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Return the text that this token completes, possibly "". Raises ValueError for a negative id."""
        return self._decoder.decode(_piece(self._pieces, token_id))

    def flush(self) -> str:
        """Return what is left at the end: U+FFFD if the ids stop within a character, otherwise ""."""
        return self._decoder.decode(b"", final=True)


class Tokenizer:
    """The tokenizer of a model folder. Safe to use from several threads.

    vocab_size: highest id plus 1. eos_token_ids: each of these ends an answer. control_ids: ids of all added tokens,
    special or not. stream_start: ids in front of every stream, `<s>` or none, int32, read-only. fingerprint: differs
    whenever the same text could give other ids. chat_template, special_tokens ("bos_token" and so on): for
    `ChatLayout`.
    """

    def __init__(self, files: TokenizerFiles, *, bos: BosChoice = "auto") -> None:
        """Build both tokenizers. Raises TokenizerError if text could be lost or could become a control token.

        bos: whether streams begin with the tokenizer's `<s>`; "auto" as its settings ask.
        """
        control = control_description(files)
        content = content_description(control)
        self._control = _build(control)
        self._content = _build(content)
        self._filter = character_filter(control, content)
        self._pieces = token_bytes(control)
        self._control_mask = np.zeros(len(self._pieces), dtype=bool)
        for token in control["added_tokens"]:
            found = self._control.token_to_id(token["content"])
            if found != token["id"]:
                raise TokenizerError(f"added token {token['content']!r} has id {token['id']}, but reads as {found}")
            self._control_mask[token["id"]] = True
        self.vocab_size = len(self._pieces)
        self.control_ids = frozenset(np.flatnonzero(self._control_mask).tolist())
        self.eos_token_ids = frozenset(files.eos_token_ids)
        self.chat_template = files.chat_template
        self.special_tokens = dict(files.special_tokens)
        start = stream_start(
            files.description,
            files.settings,
            bos,
            named=files.special_tokens.get("bos_token"),
            model_id=files.model_bos_token_id,
            added={token["content"]: token["id"] for token in control["added_tokens"]},
        )
        self.stream_start = np.asarray(start, dtype=np.int32)
        self.stream_start.flags.writeable = False
        self.fingerprint = _fingerprint(control, files, start)
        self._check_ids(files.model_vocab_size)

    @classmethod
    def from_folder(cls, folder: Path, *, bos: BosChoice = "auto") -> "Tokenizer":
        """Read the tokenizer of a model folder.

        The files are tokenizer.json and, if they exist, tokenizer_config.json, chat_template.jinja, config.json and
        generation_config.json. bos: as for `Tokenizer`. Raises TokenizerError if a file is missing or broken, or if
        ids do not match.
        """
        return cls(TokenizerFiles.read(folder), bos=bos)

    def encode_content(self, text: str) -> np.ndarray:
        """Encode text of a document or user: int32 [n], without control ids.

        A character that the tokenizer cannot write is replaced by one that it can; `unencodable` finds them.
        """
        return self._ids(self._content.encode(part, add_special_tokens=False).ids for _, part in self._parts(text))

    def unencodable(self, text: str) -> dict[str, int]:
        """How often each character stands in `text` that the tokenizer cannot write; most can write all."""
        return self._filter.count(_SURROGATE.sub("\ufffd", text)) if self._filter else {}

    def note_of_replaced(self, counts: Mapping[str, int]) -> str | None:
        """One sentence, for the user, about what `unencodable` has found; None for nothing."""
        return replacement_note(counts, self._filter.replacement) if self._filter and counts else None

    def encode_content_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of `encode_content`, int32 [n], and the character offset where each begins, int64 [n].

        Offsets are nondecreasing; tokens that share a character have its offset. A token that begins with a space
        begins at that space.
        """
        starts: list[np.ndarray] = []

        def encode() -> Iterator[list[int]]:
            for offset, part in self._parts(text):
                encoding = self._content.encode(part, add_special_tokens=False)
                begins = np.fromiter((begin for begin, _ in encoding.offsets), dtype=np.int64)
                starts.append(begins + offset)
                yield encoding.ids

        ids = self._ids(encode())
        return ids, np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)

    def encode_control(self, text: str) -> np.ndarray:
        """Encode a piece of the chat template: int32 [n], control tokens recognized. Not for other text."""
        encoding = self._control.encode(text, add_special_tokens=False)
        first = next((i for i, token in enumerate(encoding.ids) if self._control_mask[token]), len(encoding.ids))
        # text before the first control token continues the text in front of the piece: encode it without a space
        cut = encoding.offsets[first][0] if first < len(encoding.ids) else len(text)
        head = self.encode_content(text[:cut])
        return np.concatenate([head, np.asarray(encoding.ids[first:], dtype=np.int32)])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of ids, with control tokens as text. Invalid UTF-8 becomes U+FFFD.

        This is plain concatenation: unlike in some libraries, nothing is stripped at the start. Ids beyond the
        tokenizer, which the model can have, are empty. Raises ValueError for a negative id.
        """
        return b"".join(_piece(self._pieces, int(i)) for i in ids).decode("utf-8", errors="replace")

    def stream_decoder(self) -> StreamDecoder:
        """Return a decoder for ids that arrive one by one."""
        return StreamDecoder(self._pieces)

    def is_control(self, ids: np.ndarray) -> np.ndarray:
        """Return which ids are control tokens: bool, in the shape of `ids`."""
        return self._control_mask[ids]

    def _parts(self, text: str) -> Iterator[tuple[int, str]]:
        """The pieces of a text with their offsets, every character of which the tokenizer can write."""
        for offset, part in _parts(text):
            yield offset, self._filter.replaced(part) if self._filter else part

    def _ids(self, parts: Iterable[list[int]]) -> np.ndarray:
        """Concatenate ids of content, int32 [n]. Raises TokenizerError for a control id."""
        arrays = [np.asarray(part, dtype=np.int32) for part in parts]
        ids = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)
        if self._control_mask[ids].any():
            token = int(ids[self._control_mask[ids]][0])
            raise TokenizerError(f"text was encoded as control token {token}; this tokenizer cannot be used")
        return ids

    def _check_ids(self, model_vocab_size: int | None) -> None:
        if model_vocab_size is not None and self.vocab_size > model_vocab_size:
            raise TokenizerError(
                f"the tokenizer has ids up to {self.vocab_size - 1}, the model only "
                f"{model_vocab_size} entries; they do not belong together"
            )
        unknown = sorted(i for i in self.eos_token_ids if not 0 <= i < self.vocab_size or not self._pieces[i])
        if unknown or not self.eos_token_ids:
            raise TokenizerError(
                f"eos_token_id of config.json must name tokens of the tokenizer, found {unknown or 'none'}"
            )


def _piece(pieces: Sequence[bytes], token_id: int) -> bytes:
    """The bytes of a token, b"" beyond the tokenizer. Raises ValueError for a negative id."""
    if token_id < 0:
        raise ValueError(f"a token id cannot be negative, got {token_id}")
    return pieces[token_id] if token_id < len(pieces) else b""


def _build(description: dict[str, Any]) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(description))
    except Exception as error:  # the library raises nothing more precise
        raise TokenizerError(f"tokenizer.json cannot be used: {error}") from error


def _fingerprint(control: dict[str, Any], files: TokenizerFiles, start: tuple[int, ...]) -> str:
    """Hash of everything that the ids depend on. `version` changes with the rules of this program."""
    known: dict[str, Any] = {
        "version": 1,
        "tokenizer": control,
        "template": files.chat_template,
        "special_tokens": files.special_tokens,
        "eos_token_ids": sorted(files.eos_token_ids),
    }
    if start:  # left out otherwise, so that states from before stay valid
        known["stream_start"] = start
    return xxhash.xxh3_128_hexdigest(json.dumps(known, sort_keys=True).encode())


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield (offset, piece) of a text, split at the start of a line or word if possible.

    Lone surrogates, which UTF-8 cannot encode, become U+FFFD.
    """
    text = _SURROGATE.sub("\ufffd", text)
    start = 0
    while start < len(text):
        end = start + _CHUNK_CHARS
        if end < len(text):
            end = _cut(text, end)
        yield start, text[start:end]
        start = end


def _cut(text: str, limit: int) -> int:
    """The last offset up to `limit` where a split changes no token; `limit` if there is none near it."""
    for pattern in (_LINE_START, _WORD_START):
        places = [match.start() for match in pattern.finditer(text, limit - _CUT_SEARCH_CHARS, limit)]
        if places:
            return places[-1]
    return limit
