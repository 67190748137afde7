"""The text of an answer while it is decoded."""

from dataclasses import dataclass

from sala_core.engine.generate import Token


@dataclass(kw_only=True)
class AnswerText:
    """Collects tokens into text and thinking. Another thread may read both at any time."""

    text: str = ""
    thinking: str = ""

    def add(self, token: Token) -> None:
        """Append the token's text to the text or to the thinking."""
        if token.thinking:
            self.thinking += token.text
        else:
            self.text += token.text
