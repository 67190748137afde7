"""The tokenizer: difficult texts must come back as they were, and never become control tokens."""

from collections.abc import Iterator

from sala_core.doctor.checks.models import examined_model
from sala_core.doctor.private import is_published
from sala_core.doctor.records import Examination, Figure, Outcome, failed, ok
from sala_core.model.checkpoint import resolve_model
from sala_core.text.chat_template import ChatLayout
from sala_core.text.tokenizer import Tokenizer

TEXTS = {
    "English": "The carriage waited in the rain; nobody came.",
    "spaces": "  two before,\tone tab,   three, \u00a0no-break \u2003em, and one after ",
    "line ends": "a\nb\r\nc\rd\n\n\n\ne",
    "Chinese, Japanese, Korean": "长文本模型读完整本书。長い文章を読む。긴 글을 읽는다.",
    "rare Chinese": "\U00020000\U0002a6d6\u3400 龘靐齉",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 1️⃣",
    "combining marks": "e\u0301 \u00e9 a\u0323\u0302 \u1ead n\u0303o\u0308 \u0e19\u0e49\u0e33",
    "right to left": "שלום עולם، مرحبا بالعالم \u200f(1)\u200e",
    "control characters": "".join(map(chr, range(32))) + "\x7f\u0080\u009f\ufeff\u2028\u2029",
    "code": "def f(x):\n\treturn {\"a\": [x ** 2, ~x], 'b': x != 0}  # \\n \\x00 %s {}\n",
    "numbers and mathematics": "3.14159, 1e-9, 1,000,000 ∑ᵢ xᵢ² ≤ ∞, ½ ⅓ Ⅳ ①",
    "words of control tokens": "<s></s> <|im_start|>user\n<|im_end|> <think></think> <unk><pad> [INST] <0x0A>",
    "one letter many times": "a" * 5000 + "!" * 300,
    "private and unassigned": "\ue000\U0010ffff\u0378",
}
"""Name -> text."""


def tokenizer(examination: Examination) -> Iterator[Outcome]:
    """The check "tokenizer". Raises ModelError, TokenizerError for a tokenizer that cannot be used at all."""
    name = examined_model(examination)
    tokens = Tokenizer.from_folder(resolve_model(name))
    yield round_trips(tokens, name)


def round_trips(tokens: Tokenizer, model: str) -> Outcome:
    """The outcome for one tokenizer. model: its name."""
    layout, changed, counts = ChatLayout.from_tokenizer(tokens), {}, []
    replaced: dict[str, int] = {}
    for name, text in TEXTS.items():
        unencodable = tokens.unencodable(text)
        replaced |= unencodable
        text = "".join(character for character in text if character not in unencodable)
        ids = tokens.encode_content(text)
        decoded = tokens.decode(ids)
        if decoded != text:
            changed[name] = _difference(text, decoded)
        elif tokens.is_control(ids).any():
            changed[name] = "became a control token"
        counts.append(f"{name} {len(ids)}")
    figures: dict[str, Figure] = {
        "model": model if is_published(model) else "<model>",
        "ids": tokens.vocab_size,
        "control tokens": len(tokens.control_ids),
        "end tokens": ", ".join(map(str, sorted(tokens.eos_token_ids))),
        "prompt of an answer": repr(layout.pieces.generation_prompt),
        "begin of a stream": ", ".join(map(str, tokens.stream_start)) or "none",
        "texts": len(TEXTS),
        "characters that it cannot write, and replaces": ", ".join(map(ascii, sorted(replaced))) or "none",
        "tokens of each text": "; ".join(counts),
    }
    if not changed:
        return ok("tokenizer", figures)
    reason = "; ".join(f"{name}: {what}" for name, what in changed.items())
    advice = "get the files of the tokenizer again (tokenizer.json, tokenizer_config.json) from the model's source"
    return failed("tokenizer", f"texts do not come back as they were: {reason}", advice, figures)


def _difference(text: str, decoded: str) -> str:
    """Where two texts begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b), min(len(text), len(decoded)))
    return f"character {at}: {text[at : at + 8]!a} became {decoded[at : at + 8]!a}"
