"""A session as a simple model: its parts, and the versions of its turns that are not shown. Nothing here uses a store.

Every question has a text of its own, which ends with a number that grows; so a text names a turn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Turn:
    """A question with its answer. number: of the question; versions of a turn are in the order of their numbers.

    parent, order: of a turn that is not shown: the text of the turn that it follows, "" for none; and when it was
    hidden.
    """

    text: str
    number: int
    parent: str = ""
    order: int = 0

    @property
    def answer(self) -> str:
        """The text of the answer."""
        return self.text[::-1]


Part = tuple[str, Tokens] | tuple[str, Turn]
"""("system" or "document", tokens) or ("turn", the turn)."""


@dataclass(frozen=True)
class Session:
    """A session: its parts, the turns that are not shown, and its name, if it is in the bin."""

    parts: tuple[Part, ...] = ()
    hidden: frozenset[Turn] = frozenset()
    was: str = ""

    @property
    def turns(self) -> list[Turn]:
        """The turns that are shown."""
        return [value for _, value in self.parts if isinstance(value, Turn)]

    def parent(self, index: int) -> str:
        """The text of the turn before the one with this index."""
        return self.turns[index - 1].text if index else ""

    def versions(self, index: int) -> list[Turn]:
        """All versions of a shown turn, the oldest first."""
        others = [turn for turn in self.hidden if turn.parent == self.parent(index)]
        return sorted([*others, self.turns[index]], key=lambda turn: turn.number)


def as_seen(session: Session, tokens_of: Callable[[Turn], tuple[Tokens, Tokens]]) -> object:
    """(parts, messages, hidden turns, texts of the versions of each turn) as a library holds them."""
    parts: list[tuple[str, Tokens]] = []
    for kind, value in session.parts:
        if isinstance(value, Turn):
            parts += zip(("user", "assistant"), tokens_of(value), strict=True)
        else:
            parts.append((kind, value))
    messages = tuple(each for turn in session.turns for each in (("user", turn.text), ("assistant", turn.answer)))
    hidden = frozenset((turn.text, turn.parent, turn.order) for turn in session.hidden)
    versions = tuple(tuple(turn.text for turn in session.versions(index)) for index in range(len(session.turns)))
    return tuple(parts), messages, hidden, versions


def with_turn(session: Session, turn: Turn) -> Session:
    """With a turn behind all others."""
    return replace(session, parts=(*session.parts, ("turn", turn)))


def gathered(session: Session, index: int) -> Session:
    """With the documents that stand behind a turn before it."""
    place = _place(session, index)
    behind = session.parts[place:]
    documents = tuple(part for part in behind if part[0] == "document")
    others = tuple(part for part in behind if part[0] != "document")
    return replace(session, parts=session.parts[:place] + documents + others)


def asked_again(session: Session, index: int, turn: Turn) -> Session:
    """With another version of a turn, which nothing follows. No document may stand behind it."""
    return with_turn(_hidden_from(session, index), turn)


def other_version(session: Session, index: int, step: int) -> Session:
    """With another version of a turn shown, and what followed it when it was shown last."""
    versions = session.versions(index)
    wanted = versions[versions.index(session.turns[index]) + step]
    return _shown(_hidden_from(gathered(session, index), index), wanted.text)


def without_turn(session: Session, index: int) -> Session:
    """Without a turn; what follows it stays. If nothing does, the version before it, or else behind it, is shown."""
    gone, parent = session.turns[index], session.parent(index)
    is_last = index == len(session.turns) - 1
    moved = frozenset(replace(turn, parent=parent) if turn.parent == gone.text else turn for turn in session.hidden)
    parts = tuple(part for part in gathered(session, index).parts if part != ("turn", gone))
    left = Session(parts, moved)
    versions = sorted((turn for turn in moved if turn.parent == parent), key=lambda turn: turn.number)
    if not is_last or not versions:
        return left
    earlier = [turn for turn in versions if turn.number < gone.number]
    return _shown(left, (earlier[-1] if earlier else versions[0]).text)


def restored(session: Session, before: Session, index: int) -> Session:
    """As before a turn was deleted, with the documents where the deletion has put them.

    A version that was shown in its place is hidden again, as the last one.
    """
    shown = {turn.text for turn in session.turns[index:]} if index == len(before.turns) - 1 else set()
    order = _next_order(session)
    hidden = frozenset(replace(turn, order=order) if turn.text in shown else turn for turn in before.hidden)
    return replace(gathered(before, index), hidden=hidden)


def branched(session: Session, index: int) -> Session:
    """What a branch behind a turn has: everything up to the turn, and the versions of these turns."""
    end = _place(session, index) + 1
    below = {turn.text for turn in session.turns[index:]}
    while more := {turn.text for turn in session.hidden if turn.parent in below} - below:
        below |= more
    return Session(session.parts[:end], frozenset(turn for turn in session.hidden if turn.text not in below))


def _place(session: Session, index: int) -> int:
    return session.parts.index(("turn", session.turns[index]))


def _next_order(session: Session) -> int:
    return max((turn.order for turn in session.hidden), default=0) + 1


def _hidden_from(session: Session, index: int) -> Session:
    order = _next_order(session)
    gone = [
        replace(turn, parent=session.parent(at), order=order) for at, turn in enumerate(session.turns) if at >= index
    ]
    return replace(session, parts=session.parts[: _place(session, index)], hidden=session.hidden | frozenset(gone))


def _shown(session: Session, text: str) -> Session:
    """With a hidden turn behind all others, and behind it those that followed it when it was shown last."""
    hidden = {turn.text: turn for turn in session.hidden}
    path = [hidden.pop(text)]
    while followers := [turn for turn in hidden.values() if turn.parent == path[-1].text]:
        path.append(hidden.pop(max(followers, key=lambda turn: (turn.order, turn.number)).text))
    for turn in path:
        session = with_turn(session, replace(turn, parent="", order=0))
    return replace(session, hidden=frozenset(hidden.values()))
