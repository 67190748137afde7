"""The first token of a stream, for a tokenizer like Llama's: ids as they must be, with and without `<s>`."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, normalizers, processors
from tokenizers import Tokenizer as RawTokenizer

from sala_core.errors import TokenizerError
from sala_core.model.checkpoint import EMBEDDED, resolve_model
from sala_core.quantize.calibration import read_samples
from sala_core.session.stream import StreamWriter
from sala_core.text.chat_template import ChatLayout
from sala_core.text.prompt import SYSTEM_PROMPT
from sala_core.text.stream_start import asks_for_bos, processor_start
from sala_core.text.tokenizer import Tokenizer

BOS, EOS = 1, 2
LETTERS = ["▁", "s", "y", "t", "e", "m", "▁s", "ys", "te"]
PLAIN = ["<unk>", "<s>", "</s>"]
MARKS = ["<|x|>", "<|y|>", "<|z|>", "<|w|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + CHATML


def llama_like() -> RawTokenizer:
    """`<unk>`, `<s>`, `</s>`, 256 bytes, control tokens, a few letters: the order of Llama's vocabulary."""
    texts = [*PLAIN, *(f"<0x{byte:02X}>" for byte in range(256)), *MARKS, *LETTERS]
    vocab = {text: i for i, text in enumerate(texts)}
    merges = [("▁", "s"), ("y", "s"), ("t", "e")]
    raw = RawTokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (*PLAIN, *MARKS)])
    return raw


IM_START, IM_END = (llama_like().token_to_id(text) for text in ("<|im_start|>", "<|im_end|>"))
LETTER = {text: llama_like().token_to_id(text) for text in LETTERS}
SETTINGS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}


@pytest.fixture
def make(tmp_path):
    def build(settings=None, *, template=CHATML, processor=False, bos="auto", config=None, added=True):
        raw = llama_like()
        if processor:
            raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
        description = json.loads(raw.to_str())
        if not added:
            description["added_tokens"] = [token for token in description["added_tokens"] if token["id"] != BOS]
        (tmp_path / "tokenizer.json").write_text(json.dumps(description))
        values = SETTINGS | {"chat_template": template} | (settings or {})
        kept = {name: value for name, value in values.items() if value is not None}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(kept))
        (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [EOS, IM_END]} | (config or {})))
        return Tokenizer.from_folder(tmp_path, bos=bos)

    return build


def byte_ids(text: str) -> list[int]:
    return [3 + byte for byte in text.encode()]


def system_message(content: str) -> list[int]:
    """A Llama tokenizer writes a space after every control token: `▁s ys te m`."""
    role = [LETTER[text] for text in ("▁s", "ys", "te", "m")]
    return [IM_START, *role, *byte_ids("\n"), *byte_ids(content), IM_END]


def ids_of(layout: ChatLayout, tokenizer: Tokenizer, content: str) -> list[int]:
    return layout.message("system", tokenizer.encode_content(content)).tolist()


@pytest.mark.parametrize("choice", [True, False, "auto"])
@pytest.mark.parametrize("template", [CHATML, WITH_BOS], ids=["chatml", "template_writes_bos"])
def test_the_stream_of_a_llama_like_tokenizer_has_exactly_these_ids(make, choice, template):
    tokenizer = make({"add_bos_token": True}, template=template, bos=choice)
    layout = ChatLayout.from_tokenizer(tokenizer)
    expected = [*system_message("Q"), LETTER["▁"], *byte_ids("\n")]
    start = [BOS] if choice or template == WITH_BOS else []
    assert ids_of(layout, tokenizer, "Q") == start + expected
    whole = llama_like().encode("<s>" * len(start) + "<|im_start|>system\nQ<|im_end|>\n", add_special_tokens=False)
    assert whole.ids == start + expected
    user = layout.message("user", tokenizer.encode_content("<s>")).tolist()
    assert user[0] == IM_START
    assert BOS not in user
    assert user[-len(byte_ids("<s>")) - 3 : -3] == [*byte_ids("<"), LETTER["s"], *byte_ids(">")]


@pytest.mark.parametrize(
    ("settings", "processor", "asks"),
    [
        ({"add_bos_token": True}, False, True),
        ({"add_bos_token": False}, True, False),
        ({}, True, True),
        ({}, False, True),  # the default of a Llama tokenizer
        ({"tokenizer_class": "LlamaTokenizerFast"}, False, True),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, False, False),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, True, True),
        ({"tokenizer_class": None}, False, False),
    ],
)
def test_the_tokenizers_settings_decide(make, settings, processor, asks):
    assert make(settings, processor=processor).stream_start.tolist() == [BOS] * asks


def test_a_post_processor_in_a_sequence_counts_and_others_do_not():
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<b>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "<e>", "type_id": 0}}],
        "special_tokens": {"<b>": {"id": "<b>", "ids": [7], "tokens": ["<b>"]},
                           "<e>": {"id": "<e>", "ids": [8], "tokens": ["<e>"]}},
    }  # fmt: skip
    byte_level = {"type": "ByteLevel", "trim_offsets": True}
    assert processor_start({"type": "Sequence", "processors": [byte_level, template]}) == [7]
    assert processor_start(byte_level) == []
    assert processor_start(template | {"single": template["single"][1:]}) == []
    assert not asks_for_bos({"post_processor": byte_level}, {"tokenizer_class": "LlamaTokenizer"})


def test_the_token_is_found_by_its_id_where_the_settings_name_none(make):
    nameless = {"bos_token": None, "tokenizer_class": None}
    assert make(nameless, bos=True, config={"bos_token_id": BOS}).stream_start.tolist() == [BOS]
    assert make(nameless, processor=True).stream_start.tolist() == [BOS]
    assert make(nameless | {"add_bos_token": True}).stream_start.tolist() == []
    for config in ({}, {"bos_token_id": LETTER["s"]}):
        with pytest.raises(TokenizerError, match="no token for the beginning of a stream"):
            make(nameless, bos=True, config=config)


def test_a_token_that_text_could_imitate_is_refused(make):
    with pytest.raises(TokenizerError, match=r"'<s>' .*is none of the added tokens.*--bos off"):
        make({"add_bos_token": True}, added=False)
    assert make({"add_bos_token": True}, added=False, bos=False).stream_start.tolist() == []


def test_fingerprints_differ_by_the_token_and_are_the_old_ones_without_it(make):
    plain = make({"add_bos_token": False})
    with_token = make({"add_bos_token": False}, bos=True)
    assert plain.fingerprint != with_token.fingerprint
    assert make({"add_bos_token": False}, bos=False).fingerprint == plain.fingerprint
    assert plain.fingerprint == "9e5784c39e33570549fb4b52d7f40fab"  # of version 0.2: its states stay valid
    embedded = Tokenizer.from_folder(resolve_model(EMBEDDED))
    assert embedded.stream_start.tolist() == []
    assert embedded.fingerprint == Tokenizer.from_folder(resolve_model(EMBEDDED), bos=False).fingerprint


@pytest.mark.parametrize("choice", [True, False])
def test_sessions_and_calibration_texts_begin_with_it_once(make, choice, tmp_path):
    tokenizer = make(bos=choice)
    writer = StreamWriter(tokenizer, ChatLayout.from_tokenizer(tokenizer))
    stream = [*writer.system().token_ids.tolist(), *writer.question("mystery <s>", "q").token_ids.tolist()]
    assert tokenizer.decode(stream).startswith("<s><|im_start|>" if choice else "<|im_start|>")
    assert SYSTEM_PROMPT in tokenizer.decode(stream)
    assert stream.count(BOS) == int(choice)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("system " * 200)
    samples = read_samples(
        [tmp_path / "texts"], tokenizer, samples=2, sample_tokens=len(writer.system().token_ids) + 200
    )
    assert ((samples.ids == BOS).sum(dim=1) == int(choice)).all()
    assert np.array_equal(samples.ids[0, : len(stream)][: samples.num_prefix][0], stream[0])
