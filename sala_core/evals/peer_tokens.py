"""Chat messages for a peer model, and their token counts by the peer's own tokenizer and chat template."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from sala_core.errors import EvalError
from sala_core.evals.records import Message, Question, Reading
from sala_core.text.prompt import document_header


class PeerTokens:
    """A tokenizer and chat template from a folder in the Hugging Face layout."""

    def __init__(self, folder: Path) -> None:
        """Raises EvalError if the folder has no tokenizer.json or no chat template."""
        if not (folder / "tokenizer.json").is_file():
            raise EvalError(f"{folder} has no tokenizer.json; give the folder of the peer's tokenizer: --tokenizer DIR")
        from transformers import PreTrainedTokenizerFast  # takes seconds

        try:
            self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise EvalError(f"the tokenizer in {folder} cannot be read: {error}") from error
        if not self._tokenizer.chat_template:
            raise EvalError(f"{folder} has no chat template; add its chat_template.jinja or tokenizer_config.json")
        digest = hashlib.sha256((folder / "tokenizer.json").read_bytes())
        digest.update(str(self._tokenizer.chat_template).encode())
        self.digest = digest.hexdigest()[:16]

    def messages(self, reading: Reading, question: Question) -> list[dict[str, str]]:
        """The messages of a request. Consecutive user messages are joined, since many templates refuse them."""
        messages = [{"role": "system", "content": reading.system}]
        for message in (*reading.messages, Message(role="user", text=question.text)):
            header = document_header(message.document) if message.document else ""
            if messages[-1]["role"] == message.role == "user":
                messages[-1]["content"] += f"\n\n{header}{message.text}"
            else:
                messages.append({"role": message.role, "content": header + message.text})
        return messages

    def count(self, reading: Reading) -> int:
        """Tokens of the prompt with its longest question."""
        longest = max(reading.questions, key=lambda question: self.text_tokens(question.text))
        return self.count_messages(self.messages(reading, longest))

    def count_messages(self, messages: Sequence[dict[str, str]]) -> int:
        """Tokens of the messages with the chat template. Raises EvalError if the template refuses them."""
        try:
            text = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            roles = ", ".join(dict.fromkeys(message["role"] for message in messages))
            raise EvalError(f"the peer's chat template refuses messages of {roles}: {error}") from error
        return self.text_tokens(text)

    def text_tokens(self, text: str) -> int:
        """Tokens of a text alone."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def first_tokens(self, text: str, num_tokens: int) -> str:
        """The text of the first `num_tokens` tokens of `text`."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in encoded["offset_mapping"]][:num_tokens]
        return text[: ends[-1]] if ends else ""
