"""Text to token ids and back, where text of a document can never become a control token.

Two tokenizers are built from one `tokenizer.json`. The control one knows the added tokens and encodes only
the pieces of our own chat template. The content one has neither added tokens nor a post-processor, and its
vocabulary lacks every entry (and merge) that would lead to a control id, so `<|im_end|>` in a file is spelled
out of ordinary tokens. It adds no dummy space in front: content always stands behind a template piece.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import xxhash

from sala_core.errors import TokenizerError
from sala_core.text.tokenizer_files import TokenizerFiles, content_description, control_description, token_bytes

_CHUNK_CHARS = 1 << 16  # text is encoded in pieces of about this size, so that scratch memory stays bounded
_CUT_SEARCH_CHARS = 1 << 12
_LINE_START = re.compile(r"(?<=\S\n)(?=\S)")
_WORD_START = re.compile(r"(?<=\S)(?=[ ]\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")


class StreamDecoder:
    """Decodes ids one by one; a character is given out once all its bytes are there.

    Whatever was pushed, the pieces and `flush()` together are `Tokenizer.decode` of all ids.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Text completed by this token, possibly none. Raises ValueError for a negative id."""
        return self._decoder.decode(_piece(self._pieces, token_id))

    def flush(self) -> str:
        """What is left at the end: a replacement character if the ids stopped within a character."""
        return self._decoder.decode(b"", final=True)


class Tokenizer:
    """The tokenizer of one model folder; safe to use from several threads.

    vocab_size: one more than the highest id. eos_token_ids: any of these ends an answer. control_ids: every
    added token, special or not. fingerprint: changes whenever the same text could give other ids.
    chat_template and special_tokens ("bos_token" and so on) are what the chat layout is rendered from.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        """Build both tokenizers. Raises TokenizerError if text could be lost or become a control token."""
        control = control_description(files)
        self._control = _build(control)
        self._content = _build(content_description(control))
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
        self.fingerprint = _fingerprint(control, files)
        self._check_ids(files.model_vocab_size)

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Read tokenizer.json and, where they are, tokenizer_config.json, chat_template.jinja, config.json
        and generation_config.json.

        Raises TokenizerError if one is missing or broken, or if their ids do not fit together.
        """
        return cls(TokenizerFiles.read(folder))

    def encode_content(self, text: str) -> np.ndarray:
        """Ids of text from outside, int32 [n]; never a control id."""
        return self._ids(self._content.encode(part, add_special_tokens=False).ids for _, part in _parts(text))

    def encode_content_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of `encode_content`, int32 [n], and the character of `text` where each begins, int64 [n].

        Offsets never decrease; tokens that share one character share its offset. A token that begins with a
        space begins at that space.
        """
        starts: list[np.ndarray] = []

        def encode() -> Iterator[list[int]]:
            for offset, part in _parts(text):
                encoding = self._content.encode(part, add_special_tokens=False)
                begins = np.fromiter((begin for begin, _ in encoding.offsets), dtype=np.int64)
                starts.append(begins + offset)
                yield encoding.ids

        ids = self._ids(encode())
        return ids, np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)

    def encode_control(self, text: str) -> np.ndarray:
        """Ids of a piece of our own template, int32 [n], control tokens recognised; not for outside text."""
        encoding = self._control.encode(text, add_special_tokens=False)
        first = next((i for i, token in enumerate(encoding.ids) if self._control_mask[token]), len(encoding.ids))
        # before the first control token the piece continues the text in front of it: no dummy space there
        cut = encoding.offsets[first][0] if first < len(encoding.ids) else len(text)
        head = self.encode_content(text[:cut])
        return np.concatenate([head, np.asarray(encoding.ids[first:], dtype=np.int32)])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids, control tokens as written; bytes that are no UTF-8 become U+FFFD.

        Unlike some libraries' decoding it is plain concatenation: nothing is stripped at the start. Ids that
        the model has and the tokenizer has not are empty. Raises ValueError for a negative id.
        """
        return b"".join(_piece(self._pieces, int(i)) for i in ids).decode("utf-8", errors="replace")

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for ids that arrive one by one."""
        return StreamDecoder(self._pieces)

    def is_control(self, ids: np.ndarray) -> np.ndarray:
        """Which ids are control tokens, bool of the shape of `ids`."""
        return self._control_mask[ids]

    def _ids(self, parts: Iterable[list[int]]) -> np.ndarray:
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
    if token_id < 0:
        raise ValueError(f"a token id cannot be negative, got {token_id}")
    return pieces[token_id] if token_id < len(pieces) else b""


def _build(description: dict[str, Any]) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(description))
    except Exception as error:  # the library raises nothing more precise
        raise TokenizerError(f"tokenizer.json cannot be used: {error}") from error


def _fingerprint(control: dict[str, Any], files: TokenizerFiles) -> str:
    """Hash of everything that decides on ids; the version marks changes of our own rules."""
    known = {
        "version": 1,
        "tokenizer": control,
        "template": files.chat_template,
        "special_tokens": files.special_tokens,
        "eos_token_ids": sorted(files.eos_token_ids),
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(known, sort_keys=True).encode())


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Pieces of a text with their offsets, cut where a line or a word begins if there is such a place.

    Lone surrogates, which have no UTF-8 form, are read as U+FFFD.
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
    """A place at most `limit` and near it where splitting changes no token, else `limit`."""
    for pattern in (_LINE_START, _WORD_START):
        places = [match.start() for match in pattern.finditer(text, limit - _CUT_SEARCH_CHARS, limit)]
        if places:
            return places[-1]
    return limit
