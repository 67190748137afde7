"""What an engine is sent: the documents or the passages, the earlier turns, and the question last.

Some chat templates know no system message, and most want user and assistant to take turns. So everything stands in
user messages, and the texts are at the beginning of the first one: the bytes before a new question stay the same, and a
server that keeps what it has read can use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sala_core.events import Evidence
from sala_core.remote.engine import PastTurn
from sala_core.text.prompt import document_header

NOT_TOLD = "The text does not say."

TEXT_HEAD = "Read the following text. Questions about it come after it."
TEXT_TASK = (
    "That was the text. Answer questions from it alone, in a few sentences. Quote the words that prove the answer, in "
    f"quotation marks and exactly as they stand. If the text does not tell it, answer: {NOT_TOLD}"
)
_PASSAGES_HEAD = "Here are passages from a longer text, each with its number and its place."
_PASSAGES_TASK = (
    "Answer the question from these passages alone, in a few sentences. Quote the words that prove the answer, in "
    "quotation marks and exactly as they stand, and give the number of their passage, such as [1]. If the passages do "
    f"not tell it, answer: {NOT_TOLD}"
)


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One message of a prompt. role: "user" or "assistant"."""

    role: str
    content: str


def text_prompt(
    documents: Sequence[tuple[str, str]], turns: Sequence[PastTurn], question: str
) -> tuple[ChatMessage, ...]:
    """The whole text, then all turns.

    Args:
        documents: (name, text) in the order of the session.
        turns: the earlier ones that are sent.
        question: the present one.
    """
    texts = "\n\n".join(document_header(name) + text for name, text in documents)
    return _conversation(f"{TEXT_HEAD}\n\n{texts}\n\n{TEXT_TASK}\n\n", turns, question)


def passages_prompt(passages: Sequence[Evidence], turns: Sequence[PastTurn], question: str) -> tuple[ChatMessage, ...]:
    """The earlier turns, then the passages for this question, and the question.

    Args:
        passages: as they are numbered, from 1.
        turns: the earlier ones that are sent.
        question: the present one.
    """
    shown = "\n\n".join(
        f"[{number}] {place_words(item)}\n{item.text.strip()}" for number, item in enumerate(passages, 1)
    )
    last = f"{_PASSAGES_HEAD}\n\n{shown}\n\n{_PASSAGES_TASK}\n\nQuestion: {question}"
    return (*_exchanged(turns), ChatMessage(role="user", content=last))


def _conversation(before: str, turns: Sequence[PastTurn], question: str) -> tuple[ChatMessage, ...]:
    exchanged = (*_exchanged(turns), ChatMessage(role="user", content=f"Question: {question}"))
    first = ChatMessage(role="user", content=before + exchanged[0].content)
    return (first, *exchanged[1:])


def _exchanged(turns: Sequence[PastTurn]) -> tuple[ChatMessage, ...]:
    messages = []
    for turn in turns:
        messages.append(ChatMessage(role="user", content=f"Question: {turn.question}"))
        messages.append(ChatMessage(role="assistant", content=turn.answer))
    return tuple(messages)


def place_words(item: Evidence) -> str:
    """Where a passage stands: "novel.txt, page 3" or "novel.txt, lines 10 to 12"."""
    if item.page is not None:
        return f"{item.document}, page {item.page}"
    if item.rows is not None:
        return f"{item.document}, rows {item.rows[0]} to {item.rows[1]}; columns: {item.header}"
    if item.line_start == item.line_end:
        return f"{item.document}, line {item.line_start}"
    return f"{item.document}, lines {item.line_start} to {item.line_end}"
