"""The token stream of a conversation that was sent: its parts, the texts among them as documents of the library."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash

from sala_core.engine.engine import Engine
from sala_core.errors import LibraryError
from sala_core.ingest import Document, encode_document
from sala_core.session.served.conversation import Conversation, Exchange, Item, Reply, Text
from sala_core.session.stream import TEXT, StreamWriter
from sala_core.store import Library, MessageDraft, PartDraft
from sala_core.text.prompt import SYSTEM_PROMPT

_CACHED_TEXTS = 8
_MAX_CACHED_CHARS = 32 << 20
_TITLE_CHARS = 60
_MEDIA_TYPE = "text/plain"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One item as parts of the stream. signature: equal for equal items. messages: those of an exchange."""

    signature: str
    parts: tuple[PartDraft, ...]
    messages: tuple[MessageDraft, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens of its parts."""
        return sum(len(part.token_ids) for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A conversation as a stream. base: the system message and the texts before the first turn. tail: what follows."""

    base: tuple[Piece, ...]
    tail: tuple[Piece, ...]

    @cached_property
    def key(self) -> str:
        """The same for all conversations with this base."""
        return xxhash.xxh3_128_hexdigest("\n".join(piece.signature for piece in self.base).encode())[:24]

    @property
    def parts(self) -> list[PartDraft]:
        """The whole stream."""
        return [part for piece in (*self.base, *self.tail) for part in piece.parts]

    @property
    def messages(self) -> list[MessageDraft]:
        """The messages of all turns."""
        return [message for piece in self.tail for message in piece.messages]


class Layouts:
    """Makes streams of conversations with one library. Texts that were sent lately are not encoded again."""

    def __init__(self, library: Library) -> None:
        """Nothing is encoded yet."""
        self._library = library
        self._known: OrderedDict[str, tuple[str, np.ndarray]] = OrderedDict()
        self._num_chars: dict[str, int] = {}

    def lay(self, sent: Conversation, engine: Engine) -> Laid:
        """Encode a conversation, and store its texts. Raises DiskFullError, LibraryError."""
        pieces = [self._piece(item, engine, is_raw=sent.is_raw) for item in sent.items]
        begins = bool(sent.items) and isinstance(sent.items[0], Text) and sent.items[0].role == "system"
        if not begins:
            pieces.insert(0, _raw_start(engine) if sent.is_raw else _system(sent.system, engine))
        num_base = next((index for index, piece in enumerate(pieces) if piece.signature[0] in "tr"), len(pieces))
        return Laid(base=tuple(piece for piece in pieces[:num_base] if piece.parts), tail=tuple(pieces[num_base:]))

    def _piece(self, item: Item, engine: Engine, *, is_raw: bool) -> Piece:
        writer = StreamWriter(engine.tokenizer, engine.chat)
        if isinstance(item, Text):
            return self._text(item, engine, is_raw=is_raw)
        if isinstance(item, Reply):
            part = writer.written_answer(item.text, "")
            ids = np.concatenate([engine.chat.message_prefix("assistant"), part.token_ids])
            return Piece(signature=reply_signature(ids), parts=(PartDraft(kind="assistant", token_ids=ids),))
        return _exchange(item, engine, writer)

    def _text(self, item: Text, engine: Engine, *, is_raw: bool) -> Piece:
        document_id, ids = self._document(item.text, engine)
        nothing = np.empty(0, np.int32)
        prefix = nothing if is_raw else engine.chat.message_prefix(item.role)
        suffix = nothing if is_raw or item.is_open else engine.chat.message_suffix(item.role)
        part = PartDraft(
            kind=TEXT,
            token_ids=np.concatenate([prefix, ids, suffix]),
            document_id=document_id,
            body_start=len(prefix),
        )
        return Piece(signature=text_signature(part.token_ids), parts=(part,))

    def _document(self, text: str, engine: Engine) -> tuple[str, np.ndarray]:
        """The id of a text in the library, and its token ids."""
        key = xxhash.xxh3_128_hexdigest(engine.tokenizer.fingerprint.encode() + b"\0" + text.encode())
        known = self._known.get(key)
        if known is not None and self._is_there(known[0]):
            self._known.move_to_end(key)
            return known
        name = title(text)
        document = Document(
            name=name,
            media_type=_MEDIA_TYPE,
            num_bytes=len(text.encode()),
            text=text,
            content_hash=Document.hash_of(name, text),
        )
        encoded = encode_document(document, engine.tokenizer)
        made = (self._library.put_document(encoded, engine.tokenizer.fingerprint), encoded.token_ids)
        self._known[key], self._num_chars[key] = made, len(text)
        while len(self._known) > _CACHED_TEXTS or sum(self._num_chars.values()) > _MAX_CACHED_CHARS:
            oldest, _ = self._known.popitem(last=False)
            del self._num_chars[oldest]
        return made

    def _is_there(self, document_id: str) -> bool:
        try:
            self._library.document(document_id)
        except LibraryError:
            return False
        return True


def continued_question(text: str, message_id: str, engine: Engine, *, is_raw: bool, think: bool | None) -> PartDraft:
    """A question that stands in the message of the text before it, up to where the answer begins.

    Args:
        text: the end of that message.
        message_id: of the question.
        engine: whose template ends the message.
        is_raw: the answer follows at once, as for a text without roles.
        think: as `ChatLayout.generation_prompt` takes it.
    """
    ids = engine.tokenizer.encode_content(text)
    ending = [] if is_raw else [engine.chat.message_suffix("user"), engine.chat.generation_prompt(think)]
    return PartDraft(kind="user", token_ids=np.concatenate([ids, *ending]), message_id=message_id)


def exchange_signature(question: str, answer: str) -> str:
    """The signature of a turn. White space around its texts does not count."""
    joined = f"{question.strip()}\0{answer.strip()}".encode("utf-8", "replace")
    return f"t:{xxhash.xxh3_128_hexdigest(joined)}"


def text_signature(token_ids: np.ndarray) -> str:
    """The signature of a text, from all tokens of its part, int32 [n]."""
    return f"d:{_digest(token_ids)}"


def reply_signature(token_ids: np.ndarray) -> str:
    """The signature of a message of the assistant that answers nothing, from its tokens, int32 [n]."""
    return f"r:{_digest(token_ids)}"


def _digest(token_ids: np.ndarray) -> str:
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(token_ids, dtype="<i4").tobytes())


def title(text: str) -> str:
    """A name for a text: the beginning of its first line that has letters."""
    for line in text.split("\n", 40)[:40]:
        shown = " ".join("".join(c if c.isprintable() else " " for c in line[: 4 * _TITLE_CHARS]).split())
        if any(c.isalnum() for c in shown):
            cut = shown[: _TITLE_CHARS + 1]
            return shown if len(shown) <= _TITLE_CHARS else cut[: cut.rfind(" ")] if " " in cut else cut[:-1]
    return "text"


def _system(prompt: str, engine: Engine) -> Piece:
    part = StreamWriter(engine.tokenizer, engine.chat).system(prompt)
    return Piece(signature=f"s:{prompt or SYSTEM_PROMPT}", parts=(part,))


def _raw_start(engine: Engine) -> Piece:
    start = engine.tokenizer.stream_start
    return Piece(signature="s:raw", parts=(PartDraft(kind="system", token_ids=start),) if len(start) else ())


def _exchange(item: Exchange, engine: Engine, writer: StreamWriter) -> Piece:
    question, answer = MessageDraft(role="user", text=item.question), MessageDraft(role="assistant", text=item.answer)
    if item.is_open:
        ids = np.concatenate(
            [
                engine.tokenizer.encode_content(item.question),
                engine.chat.message_suffix("user"),
                engine.chat.message_prefix("assistant"),
            ]
        )
        asked = PartDraft(kind="user", token_ids=ids, message_id=question.id)
    else:
        asked = writer.past_question(item.question, question.id)
    return Piece(
        signature=exchange_signature(item.question, item.answer),
        parts=(asked, writer.written_answer(item.answer, answer.id)),
        messages=(question, answer),
    )
