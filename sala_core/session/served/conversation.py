"""What a list of messages says: texts to read, questions with their answers, and the question that is asked now.

A program that keeps no session sends everything with every request, a book perhaps in the first message, or in the same
message as the question. A long message is therefore divided into a text and the question behind it: the text is read
once and kept, and the places of an answer are places in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sala_core.errors import ConversationError

LONG_CHARS = 2000
"""A message with more characters holds a text, and perhaps a question behind it."""
SEARCHED_CHARS = 200
"""The same for a model that only finds: it has nothing but the text to answer from."""
MAX_QUESTION_CHARS = 1500
_MAX_HEAD_CHARS = 500
_SEPARATORS = ("\n\n", "\n")
_ONLY_MARKS = re.compile(r"[\W_]*(</\w+>[\W_]*)*")
_LABEL = re.compile(r"^\s*(?:question|q|query|frage|user)\s*:\s*", re.IGNORECASE)
_ANSWER_LABEL = re.compile(r"\n\s*(?:helpful answer|answer|a|antwort|assistant)\s*:\s*$", re.IGNORECASE)
_LAST_WORD = re.compile(r"[^\W_]\S*[\W_]*$")
_LAST_QUESTION = re.compile(r"[.!?:]\s+([^.!?]+\?)\s*$")
_QUESTION_LINE = re.compile(r"^\s*(?:question|query|frage)\s*:\s*(.+)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Said:
    """One message as it was sent."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text that is read. is_open: the same message goes on with the question that follows."""

    text: str
    role: Literal["system", "user"] = "user"
    is_open: bool = False


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A question that was answered earlier. is_open: it stands in the message of the text before it."""

    question: str
    answer: str
    is_open: bool = False


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A message of the assistant that answers no question."""

    text: str


Item = Text | Exchange | Reply


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What was sent.

    system: the system message; "" for the program's own. items: what came before the question. is_open: the question
    stands in the message of the last text. is_raw: the text and its end were given without any roles.
    """

    system: str
    items: tuple[Item, ...]
    question: str
    is_open: bool = False
    is_raw: bool = False


def clean(text: str) -> str:
    """A text as documents have it: newlines are `\\n`, no NUL and no lone surrogate."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "replace").decode("utf-8") if _has_surrogate(text) else text


def conversation(messages: Sequence[Said], *, finds: bool) -> Conversation:
    """Arrange the messages of a program that keeps no session.

    messages: as they were sent. finds: the model only finds, so a question may also stand before its text. Raises
    ConversationError where the last one is not the user's.
    """
    leading, rest = _leading_system(messages)
    if not rest or rest[-1].role == "assistant" or not rest[-1].text.strip():
        raise ConversationError("the last message has to be one of the user that is not empty: it is what is answered")
    system = leading
    items: list[Item] = []
    if finds and len(leading) > LONG_CHARS:  # a context in the system message is searched like any other text
        system, items = "", [Text(text=leading, role="system")]
    index = 0
    while index < len(rest) - 1:
        said, follower = rest[index], rest[index + 1]
        is_answered = said.role != "assistant" and follower.role == "assistant"
        items += _earlier(said, follower.text if is_answered else None, finds=finds)
        index += 2 if is_answered else 1
    text, question = divided(rest[-1].text, finds=finds)
    if text:
        items.append(Text(text=text, is_open=not finds))
    return Conversation(system=system, items=tuple(items), question=question, is_open=bool(text) and not finds)


def turns_of(messages: Sequence[Said]) -> tuple[str, tuple[Exchange, ...], str]:
    """The system message, the earlier turns and the question of a conversation about a session.

    Messages of the user that follow each other are one question. Raises ConversationError for any other order.
    """
    system, rest = _leading_system(messages)
    turns, asked = [], []
    for said in rest:
        if said.role != "assistant":
            asked.append(said.text)
        elif not asked:
            raise ConversationError("an answer of the assistant stands behind no question; leave it out")
        else:
            turns.append(Exchange(question="\n\n".join(asked), answer=said.text))
            asked = []
    question = "\n\n".join(asked)
    if not question.strip():
        raise ConversationError("the last message has to be one of the user that is not empty: it is what is answered")
    return system, tuple(turns), question


def raw_text(prompt: str) -> Conversation:
    """A text without roles that is to go on. Raises ConversationError for one of fewer than two characters."""
    if len(prompt) < 2:
        raise ConversationError("a text to go on with has to have two characters or more")
    text, end = divided(prompt, finds=False)
    if not text:
        cut = max(prompt.rstrip().rfind(" "), 1)
        text, end = prompt[:cut], prompt[cut:]
    return Conversation(system="", items=(Text(text=text, is_open=True),), question=end, is_open=True, is_raw=True)


def divided(text: str, *, finds: bool) -> tuple[str, str]:
    """Divide a message into a text and the question behind it; ("", text) for one that is short, or has no end to cut.

    Together they are the message again, unless the model only finds and the question stands before the text.
    """
    if finds:
        return _divided_for_finder(text) if len(text) > SEARCHED_CHARS else ("", text)
    if len(text) <= LONG_CHARS:
        return "", text
    kept = text.rstrip()
    cut = len(kept) - len(tail) if (tail := _tail(kept)) else _last_cut(kept)
    return (text[:cut], text[cut:]) if cut > 0 else ("", text)


def _last_cut(text: str) -> int:
    """Where the last sentence begins, or else the last word; 0 for a text of one word, or of none."""
    word = _LAST_WORD.search(text, max(0, len(text) - MAX_QUESTION_CHARS))
    if word is None:
        return 0
    sentence = text.rfind(". ", max(0, len(text) - MAX_QUESTION_CHARS), word.start())
    return sentence + 2 if sentence >= 0 else word.start()


def _divided_for_finder(text: str) -> tuple[str, str]:
    """The text to search, and what is asked: the last paragraph, or line, or sentence with a question mark, or else the
    first one that asks, or else the last one."""
    kept = text.strip()
    tail, head, sentence = _tail(kept), _head(kept), _last_question(kept)
    if "?" in tail:
        rest, question = kept[: len(kept) - len(tail)], tail
    elif head:
        rest, question = kept[len(head) :], head
    elif sentence:
        rest, question = kept[: len(kept) - len(sentence)], sentence
    else:
        rest, question = kept[: len(kept) - len(tail)], tail if len(kept) > LONG_CHARS else ""
    if len(rest.strip()) < SEARCHED_CHARS // 2 or not question.strip():
        return "", text
    return rest.strip(), question.strip()


def asked_words(question: str) -> str:
    """What a finder looks for: the question without labels such as "Question:" and "Answer:"."""
    question = _ANSWER_LABEL.sub("", question.strip())
    lines = _QUESTION_LINE.findall(question)
    return (lines[-1] if lines else _LABEL.sub("", question)).strip() or question


def _earlier(said: Said, answer: str | None, *, finds: bool) -> list[Item]:
    """The items of a message before the last one. answer: of the assistant; None where it has none."""
    if said.role == "assistant":
        return [Reply(text=said.text)] if said.text.strip() else []
    if answer is None:
        return [Text(text=said.text)] if said.text.strip() else []
    if finds and "?" not in said.text and (len(said.text) > SEARCHED_CHARS or said.text.count("\n") > 1):
        return [Text(text=said.text), Reply(text=answer)]  # such as files, to which a program has the model say "Ok"
    text, question = divided(said.text, finds=finds)
    exchange = Exchange(question=question, answer=answer, is_open=bool(text) and not finds)
    return [Text(text=text, is_open=not finds), exchange] if text else [exchange]


def _leading_system(messages: Sequence[Said]) -> tuple[str, list[Said]]:
    """The system messages at the beginning, as one, and the others. Later ones count as the user's: chat templates have
    one only at the beginning."""
    first = next((index for index, said in enumerate(messages) if said.role != "system"), len(messages))
    return "\n\n".join(said.text for said in messages[:first]), list(messages[first:])


def _tail(text: str) -> str:
    """The last paragraph, or else the last line, if it can be a question; "" if it cannot."""
    for mark in _SEPARATORS:
        tail = text[text.rfind(mark) + len(mark) :] if mark in text else ""
        if 0 < len(tail) <= MAX_QUESTION_CHARS and not _ONLY_MARKS.fullmatch(tail):
            return tail
    return ""


def _head(text: str) -> str:
    """The first paragraph, or else the first line, if it asks something; "" if it does not."""
    for mark in _SEPARATORS:
        head = text.partition(mark)[0] if mark in text else ""
        if 0 < len(head) <= _MAX_HEAD_CHARS and ("?" in head or head.rstrip().endswith(":")):
            return head
    return ""


def _last_question(text: str) -> str:
    """The last sentence, if it ends with a question mark and is not the whole text."""
    match = _LAST_QUESTION.search(text[-MAX_QUESTION_CHARS:])
    return match.group(1) if match else ""


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
