"""Characters that a tokenizer cannot write, because some bytes have no token of their own.

Such a character is replaced by one character that the tokenizer has, so offsets into the text stay what they are. Who
reads a text counts them (`CharacterFilter.count`) and tells the user.
"""

from collections.abc import Mapping

from sala_core.errors import TokenizerError

_REPLACEMENTS = "\ufffd?_ "
_ESSENTIAL = frozenset(b"\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,")
_MAX_LISTED = 8


class CharacterFilter:
    """Finds and replaces the characters that a tokenizer lacks. replacement: the character in their place."""

    def __init__(self, lost_bytes: frozenset[int], whole_characters: frozenset[str]) -> None:
        """Choose a replacement.

        lost_bytes: bytes without a token. whole_characters: characters that are tokens themselves, so that their bytes
        do not matter. Raises TokenizerError where plain text cannot be written.
        """
        self._lost = lost_bytes
        self._whole = whole_characters
        essential = sorted(byte for byte in _ESSENTIAL & lost_bytes if chr(byte) not in whole_characters)
        found = next((char for char in _REPLACEMENTS if not self.lacks(char)), None)
        if essential or found is None:
            raise TokenizerError(
                f"{len(lost_bytes)} of 256 bytes have no token of their own beside control tokens, among them "
                f"{(essential or sorted(lost_bytes))[0]:#04x}; plain text would be lost; use another tokenizer"
            )
        self.replacement = found

    def lacks(self, char: str) -> bool:
        """Whether the tokenizer cannot write this character."""
        return char not in self._whole and not self._lost.isdisjoint(char.encode())

    def replaced(self, text: str) -> str:
        """The text with every such character replaced by one character. No lone surrogates."""
        wrong = [char for char in set(text) if self.lacks(char)]
        return text.translate({ord(char): self.replacement for char in wrong}) if wrong else text

    def count(self, text: str) -> dict[str, int]:
        """How often each such character stands in the text, in the order of their code points."""
        return {char: text.count(char) for char in sorted(set(text)) if self.lacks(char)}


def replacement_note(counts: Mapping[str, int], replacement: str) -> str:
    """One sentence about replaced characters, for the user: how many, and which."""
    total, chars = sum(counts.values()), sorted(counts, key=lambda char: (-counts[char], char))
    listed = ", ".join(f"U+{ord(char):04X} ({counts[char]:,})" for char in chars[:_MAX_LISTED])
    more = f" and {len(chars) - _MAX_LISTED} others" if len(chars) > _MAX_LISTED else ""
    return (
        f"{total:,} character{'' if total == 1 else 's'} that the model's tokenizer cannot write "
        f"{'is' if total == 1 else 'are'} read as {replacement!r}: {listed}{more}"
    )
