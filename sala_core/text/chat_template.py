"""Prefixes and suffixes of messages, derived from the model's chat template, so that a session only appends tokens.

A chat template renders a whole list of messages, but a session appends message by message. Therefore the template is
rendered once with marker texts as messages. The text between the markers becomes the prefix and suffix of each role.
A stream of appended messages can differ from a rendering of the same messages in three ways:

- Content is unchanged, even if the template would trim it.
- An answer stays as it was generated, with its thinking, even if the template drops earlier thinking.
- An answer follows the generation prompt, even if that is longer than the prefix of past answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NoReturn

import numpy as np
from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sala_core.errors import TokenizerError
from sala_core.text.thinking import OPEN_TAG
from sala_core.text.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

# documents are consecutive user messages; the probe has every pair of neighbors that a session can have
_PROBE: tuple[Role, ...] = ("system", "user", "user", "assistant", "user", "user", "assistant", "user")


@dataclass(frozen=True, kw_only=True)
class ChatPieces:
    """The texts around messages, for each role. The first message of a stream is the system message."""

    prefixes: Mapping[Role, str]
    suffixes: Mapping[Role, str]
    generation_prompt: str


class ChatLayout:
    """Token ids around the messages of a stream. The content of a message goes between them unchanged.

    pieces: the same as text. opens_thinking: whether the generation prompt opens a `<think>` block.
    """

    def __init__(self, tokenizer: Tokenizer, pieces: ChatPieces) -> None:
        """Encode the pieces. Raises TokenizerError if the text of a message could imitate a boundary."""
        self.pieces = pieces
        self.opens_thinking = pieces.generation_prompt.rstrip().endswith(OPEN_TAG)
        self._prefixes = {role: _frozen(tokenizer, text) for role, text in pieces.prefixes.items()}
        self._suffixes = {role: _frozen(tokenizer, text) for role, text in pieces.suffixes.items()}
        self._generation_prompt = _frozen(tokenizer, pieces.generation_prompt)
        openings = {f"a {role} message": ids for role, ids in self._prefixes.items()}
        openings["the answer"] = self._generation_prompt
        for what, ids in openings.items():
            if not tokenizer.is_control(ids).any():
                raise TokenizerError(
                    f"the chat template opens {what} without a control token, so text of a document could "
                    "imitate it; use a model whose template and tokenizer mark the roles"
                )
        if not tokenizer.eos_token_ids & set(self._suffixes["assistant"].tolist()):
            raise TokenizerError(
                f"the chat template ends an answer with {pieces.suffixes['assistant']!r}, which has none of "
                f"the eos_token_id {sorted(tokenizer.eos_token_ids)}; the answer would not stop there"
            )

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> "ChatLayout":
        """Derive the layout from the tokenizer's chat template.

        Raises TokenizerError if there is no template, or one that does not allow messages to be appended.
        """
        if tokenizer.chat_template is None:
            raise TokenizerError("the model has no chat template; add its chat_template.jinja or tokenizer_config.json")
        return cls(tokenizer, derive_pieces(tokenizer.chat_template, tokenizer.special_tokens))

    def message(self, role: Role, content_ids: np.ndarray) -> np.ndarray:
        """Return a whole message: prefix, content, suffix; int32 [n]. A system message must be the stream's first."""
        return np.concatenate([self.message_prefix(role), content_ids, self.message_suffix(role)], dtype=np.int32)

    def message_prefix(self, role: Role) -> np.ndarray:
        """Return the ids before the content, int32, read-only. Raises ValueError for an unknown role."""
        return _of_role(self._prefixes, role)

    def message_suffix(self, role: Role) -> np.ndarray:
        """Return the ids after the content, int32, read-only. The assistant's contains the EOS token of answers."""
        return _of_role(self._suffixes, role)

    def generation_prompt(self) -> np.ndarray:
        """Return the ids that open the assistant's turn after a user message, int32, read-only."""
        return self._generation_prompt


def derive_pieces(template: str, special_tokens: Mapping[str, str]) -> ChatPieces:
    """Derive the pieces of a template from renderings with markers. All of them end with a user message, as in use.

    template: Jinja source. special_tokens: variables of the template: "bos_token" and so on. Raises TokenizerError if
    the rendering is not a concatenation of one prefix and one suffix per role.
    """
    probe = _Probe(template, special_tokens)
    gaps = probe.gaps(_PROBE)
    between = dict(zip(pairwise(_PROBE), gaps[1:], strict=False))
    suffix = gaps[-1]
    prefixes: dict[Role, str] = {
        "system": gaps[0],
        "user": _minus_start(between["user", "user"], suffix),
        "assistant": _minus_start(between["user", "assistant"], suffix),
    }
    suffixes: dict[Role, str] = {
        "system": _minus_end(between["system", "user"], prefixes["user"]),
        "user": suffix,
        "assistant": _minus_end(between["assistant", "user"], prefixes["user"]),
    }
    tail = probe.gaps(_PROBE, add_generation_prompt=True)[-1]
    prompt = _minus_start(tail, suffix)
    if not prompt.startswith(prefixes["assistant"]):
        _refuse(f"it asks for an answer with {prompt!r}, but opens past ones with {prefixes['assistant']!r}")
    pieces = ChatPieces(prefixes=prefixes, suffixes=suffixes, generation_prompt=prompt)
    _verify(probe, pieces)
    return pieces


def _minus_start(gap: str, start: str) -> str:
    """The text between two messages without the suffix of the first. Raises TokenizerError."""
    if not gap.startswith(start):
        _refuse(f"it ends user messages with {start!r}, but not where it writes {gap!r}")
    return gap.removeprefix(start)


def _minus_end(gap: str, end: str) -> str:
    """The text between two messages without the prefix of the second. Raises TokenizerError."""
    if not gap.endswith(end):
        _refuse(f"it opens user messages with {end!r}, but not where it writes {gap!r}")
    return gap.removesuffix(end)


class _Probe:
    """Renders conversations with a template, like the transformers library."""

    def __init__(self, template: str, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _raise_exception
        self._special_tokens = dict(special_tokens)
        try:
            self._template = environment.from_string(template)
        except TemplateError as error:
            raise TokenizerError(f"the chat template cannot be read: {error}") from error

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise TokenizerError(f"the chat template refuses a conversation of {roles}: {error}") from error

    def gaps(self, roles: tuple[Role, ...], *, add_generation_prompt: bool = False) -> list[str]:
        """Return the texts before, between and after the contents of messages: one more than there are roles."""
        markers = [f"Marker{i}of{len(roles)}End" for i in range(len(roles))]
        messages = [{"role": role, "content": marker} for role, marker in zip(roles, markers, strict=True)]
        rest = self.render(messages, add_generation_prompt=add_generation_prompt)
        gaps = []
        for marker, role in zip(markers, roles, strict=True):
            gap, found, rest = rest.partition(marker)
            if not found or marker in rest:
                _refuse(f"it does not write each {role} message once and in order")
            gaps.append(gap)
        return [*gaps, rest]


def _verify(probe: _Probe, pieces: ChatPieces) -> None:
    """Check that every prompt of a conversation, with contents of several kinds, is a concatenation of the pieces."""
    contents = [
        "You answer.",
        'Document: a & b.txt\n\n  <p>Überall\n\n"x" {{ y }}',
        "Wer?\nWarum?",
        "Er.\n\nDarum. 😀",
    ]
    messages = [{"role": role, "content": contents[i % 4]} for i, role in enumerate(_PROBE)]
    stream = ""
    for i, message in enumerate(messages):
        role = _PROBE[i]
        stream += pieces.prefixes[role] + message["content"] + pieces.suffixes[role]
        if role == "user":
            rendered = probe.render(messages[: i + 1], add_generation_prompt=True)
            if rendered != stream + pieces.generation_prompt:
                _refuse("what it writes for a conversation is not its messages' pieces in a row")


def _frozen(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of a piece of the template, int32 [n], read-only."""
    ids = tokenizer.encode_control(text)
    ids.flags.writeable = False
    return ids


def _of_role(pieces: Mapping[Role, np.ndarray], role: Role) -> np.ndarray:
    if role not in pieces:
        raise ValueError(f"a role is one of {ROLES}, got {role!r}")
    return pieces[role]


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _refuse(reason: str) -> NoReturn:
    raise TokenizerError(f"the chat template cannot serve a conversation that is only appended to: {reason}")
