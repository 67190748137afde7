"""What a question looks for: its words with their weights, and the kind of answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from sala_core.finder.text_index import build_index, fold, word_set
from sala_core.finder.words import FUNCTION_WORDS, QUESTION_WORDS

_KIND_OF = re.compile(r"\b(?:what|which)(?: (?:kind|sort|type) of| is the| was the| are the| were the)? ([a-z]{3,})")


class AnswerKind(Enum):
    """What the answer of a question is, as far as its question word tells."""

    PERSON = "person"
    PLACE = "place"
    NUMBER = "number"
    REASON = "reason"
    MANNER = "manner"
    THING = "thing"


_KINDS = (
    (AnswerKind.NUMBER, r"\bhow (?:many|much|long|old|far|tall|big|often|deep|high|large|fast)\b"),
    (AnswerKind.NUMBER, r"\b(?:what|which) (?:time|year|age|date|day|month|hour|number|percentage)\b|\bwhen\b"),
    (AnswerKind.NUMBER, r"\b(?:wie ?viele?|wann|combien|quand|cuando|cuantos?|cuantas?|quando|quanti)\b"),
    (AnswerKind.REASON, r"\b(?:why|reason|warum|wieso|pourquoi|perche|por que)\b"),
    (AnswerKind.PLACE, r"\b(?:where|what place|which (?:town|city|country|place)|wo|wohin|woher|ou|donde|dove)\b"),
    (AnswerKind.PERSON, r"\b(?:who|whom|whose|name|named|called|wer|wen|wem|qui|quien|chi|heisst|nom|nombre)\b"),
    (AnswerKind.MANNER, r"\b(?:how|wie|comment|como|come)\b"),
)


@dataclass(frozen=True, kw_only=True)
class QuestionWords:
    """The words of a question as `fold` gives them."""

    sought: tuple[str, ...]
    """Words to look for, each once, in their order."""
    sequence: tuple[str, ...]
    """All words but those of grammar, in their order."""
    kind: AnswerKind
    category: str
    """The noun that names what is asked for, as in "which hotel"; "" without one."""
    names: tuple[str, ...]
    """Those of `sought` that are written with a capital inside the question, or are numbers: what has to be there."""
    is_empty: bool
    """Whether it has function words and greetings alone, so that nothing can be looked for."""
    asks_for_text: bool
    """Whether it asks for a sentence with certain words, which are `sought`."""
    refers_back: bool
    """Whether a pronoun stands for something that was named before: "Where does she live?" """


_GREETINGS = word_set(
    """
    hello hi hey hallo bonjour hola ciao thanks thank thx bye goodbye ok okay yes no cool great nice good
    morning evening afternoon day night test danke merci gracias grazie cheers welcome sorry
    """
)
_PRONOUNS = word_set(
    """
    he she him her his hers they them their theirs it its this that these those there then er sie ihn ihm il
    elle lui
    """
)


_ASKS_FOR_TEXT = re.compile(
    r"^\W*(?:please\W+)?(?:can you |could you )?"
    r"(?:(?:quote|find|show(?: me)?|give(?: me)?|cite|copy|search for|look for)\b"
    r"(?: the| a| any| all)?(?: exact)? (?:sentence|passage|line|place|paragraph|part|text)s?"
    r"|(?:which|what) (?:sentence|passage|paragraph)s?)"
    r"(?: (?:of|in|from) (?:the|this) (?:text|book|document|file|story))?"
    r"(?: (?:that|which|where|with|on|about|containing|mentioning))*"
    r"(?: (?:mentions?|speaks?|tells?|talks?|says?|contains?|has|have|is|are|names?))?(?: (?:of|about|on|that))?\b",
    re.IGNORECASE,
)
"""The beginning of a question that asks for a sentence with certain words: only these are looked for."""


_IN_THE_TEXT = re.compile(
    r"\b(?:in|of|from|by|according to|does|do|did) (?:the|this|these|that) "
    r"(?:text|book|document|documents|file|files|novel|story|paper|manual)(?= (?:say|tell|call|give|mention)|\W*$|,)",
    re.IGNORECASE,
)


_HOW_TO_ANSWER = re.compile(
    r"(?<=[.?!])\s*(?:please\s+)?(?:quote|cite|copy|give|show|tell|answer|explain)\b[^.?!]{0,40}[.!]?\s*$",
    re.IGNORECASE,
)
"""A last sentence that says how to answer: "Quote it." """


def parse_question(text: str) -> QuestionWords:
    """Take a question apart. A question of function words alone is looked for by these."""
    text = _HOW_TO_ANSWER.sub("", _IN_THE_TEXT.sub(" ", text))
    asks_for_text = _ASKS_FOR_TEXT.match(text)
    index = build_index([text[asks_for_text.end() :] if asks_for_text else text])
    words = [index.vocabulary[i] for i in index.ids.tolist()]
    content = [word for word in words if word not in FUNCTION_WORDS and word not in QUESTION_WORDS]
    plain = " ".join(words)
    kind = next((kind for kind, pattern in _KINDS if re.search(pattern, plain)), AnswerKind.THING)
    named = _KIND_OF.search(plain)
    category = fold(named[1]) if named and named[1] in content else ""
    chosen = content or words
    is_name = [capital or words[i][0].isdigit() for i, capital in enumerate(index.capitalized.tolist())]
    opens = [i == 0 or sentence != index.sentence_of[i - 1] for i, sentence in enumerate(index.sentence_of.tolist())]
    opens = opens if not asks_for_text else [False] * len(words)
    inside = [word for i, word in enumerate(words) if not opens[i] and is_name[i] and word in content]
    return QuestionWords(
        sought=tuple(dict.fromkeys(chosen)),
        sequence=tuple(chosen),
        kind=kind,
        category=category,
        names=tuple(dict.fromkeys(inside)),
        is_empty=all(word in _GREETINGS for word in content),
        asks_for_text=asks_for_text is not None,
        refers_back=not inside and any(word in _PRONOUNS for word in words),
    )


def with_context(question: QuestionWords, names: Sequence[str]) -> QuestionWords:
    """The question with names from the turn before, for one that refers back to them."""
    added = tuple(name for name in names if name not in question.sought)
    return replace(question, sought=question.sought + added)
