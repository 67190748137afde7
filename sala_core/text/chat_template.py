"""Prefixes and suffixes of messages, derived from the model's chat template, so that a session only appends tokens.

A chat template renders a whole list of messages, but a session appends message by message. Therefore the template is
rendered once with marker texts as messages. The text between the markers becomes the prefix and suffix of each role.
A stream of appended messages can differ from a rendering of the same messages in three ways:

- Content is unchanged, even if the template would trim it.
- An answer stays as it was generated, with its thinking, even if the template drops earlier thinking: the linear
  layers' states have read it and cannot be rolled back, so dropping it would mean to read the turn a second time.
- An answer follows the generation prompt, even if that is longer than the prefix of past answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NoReturn

import numpy as np
from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sala_core.errors import SettingsError, TokenizerError
from sala_core.text.thinking import CLOSE_TAG, EMPTY_BLOCK, OPEN_TAG
from sala_core.text.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

# documents are consecutive user messages; the probe has every pair of neighbors that a session can have
_PROBE: tuple[Role, ...] = ("system", "user", "user", "assistant", "user", "user", "assistant", "user")

_THINKING_VARIABLE = "enable_thinking"
"""The variable by which chat templates switch thinking on or off: true, false, or undefined for the model's default."""


@dataclass(frozen=True, kw_only=True)
class ChatPieces:
    """The texts around messages, for each role. The first message of a stream is the system message.

    generation_prompt: opens an answer. thinking_prompts: the same with thinking on (True) and off (False); empty for a
    template that knows nothing of thinking.
    """

    prefixes: Mapping[Role, str]
    suffixes: Mapping[Role, str]
    generation_prompt: str
    thinking_prompts: Mapping[bool, str] = field(default_factory=dict)

    @property
    def closing(self) -> str:
        """The text that ends a block of thinking, with the template's white space before the answer."""
        _, tag, space = self.thinking_prompts.get(False, "").rpartition(CLOSE_TAG)
        return f"\n{CLOSE_TAG}{space if tag else EMPTY_BLOCK.rpartition(CLOSE_TAG)[2]}"


class ChatLayout:
    """Token ids around the messages of a stream. The content of a message goes between them unchanged.

    The system message, with which every stream begins, has the tokenizer's `stream_start` in front.

    pieces: the same as text. thinks: whether the template knows thinking, so that it can be switched.
    thinks_by_default: whether the model thinks where nothing else is asked for. thinking_end: the ids that end a block
    of thinking, int32, read-only.
    """

    def __init__(self, tokenizer: Tokenizer, pieces: ChatPieces) -> None:
        """Encode the pieces. Raises TokenizerError if the text of a message could imitate a boundary."""
        self.pieces = pieces
        self.thinks = bool(pieces.thinking_prompts)
        self.thinks_by_default = self.thinks and not _ends_closed(pieces.generation_prompt)
        self.thinking_end = _frozen(tokenizer, pieces.closing)
        self._prefixes = {role: _frozen(tokenizer, text) for role, text in pieces.prefixes.items()}
        self._suffixes = {role: _frozen(tokenizer, text) for role, text in pieces.suffixes.items()}
        self._prompts: dict[bool | None, np.ndarray] = {None: _frozen(tokenizer, pieces.generation_prompt)}
        self._prompts |= {think: _frozen(tokenizer, text) for think, text in pieces.thinking_prompts.items()}
        openings = {f"a {role} message": ids for role, ids in self._prefixes.items()}
        openings |= {"the answer": min(self._prompts.values(), key=lambda ids: int(tokenizer.is_control(ids).sum()))}
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
        start, system = tokenizer.stream_start, self._prefixes["system"]
        if not np.array_equal(system[: len(start)], start):  # a template may write `<s>` itself
            self._prefixes["system"] = _read_only(np.concatenate([start, system]))

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

    def generation_prompt(self, think: bool | None = None) -> np.ndarray:
        """Return the ids that open the assistant's turn after a user message, int32, read-only.

        think: whether the model is to think before it answers; None as the model has it. Where the template knows
        nothing of thinking, False changes nothing. Raises SettingsError for True there.
        """
        return self._prompts[self._possible(think)]

    def opens_thinking(self, think: bool | None = None) -> bool:
        """Whether the generation prompt opens the block itself. think, and errors: as `generation_prompt`."""
        possible = self._possible(think)
        prompts = self.pieces.thinking_prompts
        return _ends_open(self.pieces.generation_prompt if possible is None else prompts[possible])

    def _possible(self, think: bool | None) -> bool | None:
        """`think`, or None where there is nothing to switch. Raises SettingsError."""
        if think and not self.thinks:
            raise SettingsError(
                "this model does not think before it answers: its chat template has no <think> block, so thinking "
                "cannot be switched on; leave out --think, or choose another model"
            )
        return think if self.thinks else None


def derive_pieces(template: str, special_tokens: Mapping[str, str]) -> ChatPieces:
    """Derive the pieces of a template from renderings with markers. All of them end with a user message, as in use.

    template: Jinja source. special_tokens: variables of the template: "bos_token" and so on. Raises TokenizerError if
    the rendering is not a concatenation of one prefix and one suffix per role.
    """
    pieces = _derive(_Probe(template, special_tokens))
    if OPEN_TAG not in template and CLOSE_TAG not in template and _THINKING_VARIABLE not in template:
        return pieces
    return replace(pieces, thinking_prompts=_thinking_prompts(template, special_tokens, pieces))


def _thinking_prompts(template: str, special_tokens: Mapping[str, str], pieces: ChatPieces) -> dict[bool, str]:
    """The generation prompts with thinking on and off.

    They are the template's own if its variable changes the generation prompt and nothing else. Otherwise (the template
    has no such variable, or would also change messages that the stream holds already) an empty block stands for
    thinking that is off.
    """
    prompts = _switched_prompts(template, special_tokens, pieces)
    if prompts is not None:
        return prompts
    prompt = pieces.generation_prompt
    if _ends_closed(prompt):
        return {True: prompt[: prompt.rindex(OPEN_TAG)], False: prompt}
    before = prompt[: prompt.rindex(OPEN_TAG)] if _ends_open(prompt) else prompt
    return {True: prompt, False: before + EMPTY_BLOCK}


def _switched_prompts(template: str, special_tokens: Mapping[str, str], pieces: ChatPieces) -> dict[bool, str] | None:
    """What the template itself writes with its variable true and false; None where that cannot be used."""
    prompts: dict[bool, str] = {}
    for think in (True, False):
        try:
            switched = _derive(_Probe(template, {**special_tokens, _THINKING_VARIABLE: think}))
        except TokenizerError:  # a conversation cannot be appended to with this value
            return None
        if replace(switched, generation_prompt=pieces.generation_prompt) != pieces:
            return None
        prompts[think] = switched.generation_prompt
    return prompts if prompts[True] != prompts[False] else None


def _ends_open(prompt: str) -> bool:
    """Whether a generation prompt leaves a block of thinking open."""
    return prompt.rstrip().endswith(OPEN_TAG)


def _ends_closed(prompt: str) -> bool:
    """Whether a generation prompt ends with an empty block of thinking."""
    before, closed, after = prompt.rpartition(CLOSE_TAG)
    return bool(closed) and not after.strip() and before.rstrip().endswith(OPEN_TAG)


def _derive(probe: "_Probe") -> ChatPieces:
    """The pieces of one rendering of a template. Raises TokenizerError."""
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

    def __init__(self, template: str, variables: Mapping[str, object]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _raise_exception
        self._variables = dict(variables)
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
                **self._variables,
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
    return _read_only(tokenizer.encode_control(text))


def _read_only(ids: np.ndarray) -> np.ndarray:
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
