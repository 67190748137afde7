"""Train a byte-level BPE tokenizer with ChatML control tokens.

`python -m sala_core.train.data.tokenizer_training TARGET TEXT...`
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from sala_core.train.data.corpus import SourceText, read_texts

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, "<think>", "</think>")
VOCAB_SIZE = 8192

# Pieces: words with a leading space, single digits, quotation marks (always alone), punctuation, white space.
_PIECES = r" ?\p{L}+|\p{N}|[\"“”]| ?[^\s\p{L}\p{N}\"“”]+|\n+| +(?=\S)|\s+"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Train a BPE tokenizer on `texts`. The control tokens have the ids 0 to 4."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, generation_config.json (EOS tokens) and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2097152,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    ends = [tokenizer.token_to_id(token) for token in (TURN_END, END_OF_TEXT)]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def sample(texts: Iterable[SourceText]) -> Iterator[str]:
    """Yield pieces of the corpus. Books are cut and some medical texts skipped, so that neither kind dominates."""
    rng = random.Random(0)
    for source in texts:
        if source.kind == "medquad" and rng.random() < 0.7:
            continue
        text = source.text[:600_000] if source.kind == "books" else source.text
        yield from (text[start : start + 20_000] for start in range(0, len(text), 20_000))


def main() -> None:
    """Parse the command line, train the tokenizer and write its files."""
    parser = argparse.ArgumentParser(prog="sala_core.train.data.tokenizer_training", description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("texts", type=Path, nargs="+", help="files and folders")
    parser.add_argument(
        "--held-out",
        nargs="*",
        default=[],
        metavar="NAME",
        help="hold out files with this in their names",
    )
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE)
    arguments = parser.parse_args()
    texts = sample(read_texts(arguments.texts, arguments.held_out))
    save_tokenizer(train_tokenizer(texts, arguments.vocab_size), arguments.target)


if __name__ == "__main__":
    main()
