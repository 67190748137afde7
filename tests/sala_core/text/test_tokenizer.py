"""Text to ids and back: nothing is lost or becomes a control token, and offsets point at the text."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as RawTokenizer

from sala_core.errors import TokenizerError
from sala_core.text import tokenizer as tokenizer_module
from sala_core.text.tokenizer import Tokenizer

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
PLAIN_ADDED = ["<think>", "</think>", "<tool_call>", "hello"]
CORPUS = [
    "The whale swam by the ship. hello hello the old man said, <s> was not a tag; <|im_end|> neither.\n",
    "def read(path):\n    return path.read_text()\n\n",
    "Größe, 日本語の本, emoji 😀😀 and naïve café.\n",
] * 20
# includes the texts of added tokens, and pieces of them, far more often than random text does
TEXTS = st.lists(
    st.one_of(st.text(), st.sampled_from([*SPECIAL, *PLAIN_ADDED, " ", "\n", "  ", "<|im_", "é", "日", "😀"])),
    max_size=12,
).map("".join)


def byte_level() -> RawTokenizer:
    raw = RawTokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.post_processor = processors.ByteLevel(trim_offsets=True)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False))
    return raw


def sentencepiece_like(*, metaspace: bool) -> RawTokenizer:
    """Like MiniCPM's and Llama's: a letter for spaces, bytes for unknown characters."""
    raw = RawTokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    if metaspace:
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    else:
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trained = RawTokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, show_progress=False)
    trained.train_from_iterator([text for text in CORPUS if text.isascii()], trainer)
    learned = json.loads(trained.to_str())["model"]
    first = [*SPECIAL[:3], *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {text: i for i, text in enumerate([*first, *learned["vocab"]])}
    description = json.loads(raw.to_str())
    description["model"] |= {"vocab": vocab, "merges": learned["merges"]}
    raw = RawTokenizer.from_str(json.dumps(description))
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return raw


def lead_into_control(raw: RawTokenizer) -> RawTokenizer:
    """Add merges that spell two of the added tokens, as in some vocabularies."""
    description = json.loads(raw.to_str())
    model = description["model"]
    for word in ("<think>", "hello"):
        for letter in word:
            model["vocab"].setdefault(letter, len(model["vocab"]))
        for i in range(2, len(word) + 1):
            model["vocab"].setdefault(word[:i], len(model["vocab"]))
            merge = [word[: i - 1], word[i - 1]]
            if merge not in model["merges"]:
                model["merges"].insert(i - 2, merge)
    return RawTokenizer.from_str(json.dumps(description))


def write_folder(folder, raw, *, template="x", config=None):
    raw.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    raw.add_tokens([AddedToken(text, normalized=False) for text in PLAIN_ADDED])
    raw.enable_truncation(5)
    raw.enable_padding()
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(raw.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "bos_token": "<s>"}))
    config = config or {"eos_token_id": [raw.token_to_id("</s>"), raw.token_to_id("<|im_end|>")]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


KINDS = {
    "byte_level": byte_level,
    "prepend": lambda: sentencepiece_like(metaspace=False),
    "metaspace": lambda: sentencepiece_like(metaspace=True),
    "byte_level_with_merges_to_control": lambda: lead_into_control(byte_level()),
    "prepend_with_merges_to_control": lambda: lead_into_control(sentencepiece_like(metaspace=False)),
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, tmp_path_factory):
    return Tokenizer.from_folder(write_folder(tmp_path_factory.mktemp(request.param), KINDS[request.param]()))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Tokenizer.from_folder(write_folder(tmp_path_factory.mktemp("plain"), byte_level()))


@pytest.mark.parametrize("token", [*SPECIAL, *PLAIN_ADDED])
@pytest.mark.parametrize("around", ["{}", "a {} b", "{0}{0}", "\n{}\n", "x{}y"])
def test_content_never_becomes_an_added_token_and_keeps_its_text(tokenizer, token, around):
    text = around.format(token)
    ids = tokenizer.encode_content(text)
    assert not tokenizer.control_ids & set(ids.tolist())
    assert tokenizer.decode(ids) == text
    assert tokenizer.control_ids & set(tokenizer.encode_control(text).tolist())


def test_every_added_token_is_a_control_id_that_decodes_to_its_text(tokenizer):
    texts = {tokenizer.decode([i]) for i in tokenizer.control_ids}
    assert texts == set(SPECIAL + PLAIN_ADDED)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_content_round_trips_without_control_ids(tokenizer, text):
    text = text.replace("▁", "")
    ids = tokenizer.encode_content(text)
    assert ids.dtype == np.int32
    assert not tokenizer.is_control(ids).any()
    assert tokenizer.decode(ids) == text


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_offsets_point_at_the_text_of_each_token(tokenizer, text):
    text = text.replace("▁", "")
    ids, starts = tokenizer.encode_content_with_offsets(text)
    assert np.array_equal(ids, tokenizer.encode_content(text))
    assert (ids.shape, starts.dtype) == (starts.shape, np.int64)
    assert (np.diff(starts) >= 0).all()
    bounds = [0, *(int(i) for i in np.flatnonzero(np.diff(starts)) + 1), len(ids)] if text else []
    for begin, end in itertools.pairwise(bounds):
        stop = starts[end] if end < len(ids) else len(text)
        spelled = tokenizer.decode(ids[begin:end])
        if "\ufffd" not in spelled:
            assert spelled == text[starts[begin] : stop]


def test_a_token_that_begins_with_a_space_has_the_offset_of_the_space(tokenizer):
    text = "the ship said the"
    ids, starts = tokenizer.encode_content_with_offsets(text)
    spaces = [int(start) for i, start in zip(ids, starts, strict=True) if tokenizer.decode([i]).startswith(" ")]
    assert spaces == [3, 8, 13]


def test_content_gets_no_space_in_front_and_continues_a_template_piece(tokenizer):
    assert tokenizer.decode(tokenizer.encode_content("whale")) == "whale"
    piece, content = tokenizer.encode_control("<|im_start|>user\n"), tokenizer.encode_content("whale")
    assert tokenizer.decode(np.concatenate([piece, content])).replace(" ", "") == "<|im_start|>user\nwhale"
    assert tokenizer.decode(tokenizer.encode_control("\n<|im_end|>")) == "\n<|im_end|>"


def test_control_pieces_are_encoded_as_within_a_whole_rendering(tokenizer):
    whole = "<|im_start|>user\nA ship.<|im_end|>\n<|im_start|>assistant\n"
    parts = ["<|im_start|>user\n", None, "<|im_end|>\n", "<|im_start|>assistant\n"]
    ids = [tokenizer.encode_content("A ship.") if part is None else tokenizer.encode_control(part) for part in parts]
    assert np.concatenate(ids).tolist() == tokenizer.encode_control(whole).tolist()


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 500), max_size=40))
def test_streamed_text_equals_the_decoded_text(tokenizer, ids):
    decoder = tokenizer.stream_decoder()
    pieces = [decoder.push(i) for i in ids]
    assert "".join(pieces) + decoder.flush() == tokenizer.decode(ids)


def test_a_character_is_streamed_when_its_last_byte_arrives(plain):
    ids = plain.encode_content("鯨")
    decoder = plain.stream_decoder()
    assert len(ids) > 1
    assert [decoder.push(int(i)) for i in ids] == [""] * (len(ids) - 1) + ["鯨"]
    assert decoder.push(int(ids[0])) == ""
    assert decoder.flush() == "\ufffd"


def test_negative_ids_are_refused_and_ids_beyond_the_tokenizer_are_empty(plain):
    assert plain.decode([plain.vocab_size + 7]) == ""
    with pytest.raises(ValueError, match="negative"):
        plain.decode([-1])


@pytest.mark.parametrize("line", ["The old whale swam by the ship, 日本語.\n", "word " * 7, "日本", "a", "\n", " "])
def test_long_text_encoded_in_parts_equals_one_encoded_whole(plain, monkeypatch, line):
    text = line * (3000 // len(line))
    whole, whole_starts = plain.encode_content_with_offsets(text)
    monkeypatch.setattr(tokenizer_module, "_CHUNK_CHARS", 200)
    monkeypatch.setattr(tokenizer_module, "_CUT_SEARCH_CHARS", 100)
    ids, starts = plain.encode_content_with_offsets(text)
    assert plain.decode(ids) == text
    if line.strip() and len(line) > 2:
        assert np.array_equal(ids, whole)
        assert np.array_equal(starts, whole_starts)


def test_parts_stay_near_their_size(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_CHUNK_CHARS", 100)
    monkeypatch.setattr(tokenizer_module, "_CUT_SEARCH_CHARS", 50)
    parts = list(tokenizer_module._parts("word\n" * 300 + "x" * 333))
    assert all(50 <= len(part) <= 100 for _, part in parts[:-1])
    assert [offset for offset, _ in parts] == [0, *itertools.accumulate(len(part) for _, part in parts)][:-1]


def test_lone_surrogates_become_replacement_characters(plain):
    ids, starts = plain.encode_content_with_offsets("a\ud800b")
    assert plain.decode(ids) == "a\ufffdb"
    assert starts.max() == 2


def test_accents_composed_by_a_normalizer_keep_their_offsets(tmp_path):
    raw = byte_level()
    raw.normalizer = normalizers.NFC()
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, raw))
    ids, starts = tokenizer.encode_content_with_offsets("cafe\u0301 ship")
    assert tokenizer.decode(ids) == "café ship"
    assert 5 in starts.tolist()


def test_the_fingerprint_changes_with_the_ids_and_the_template(tmp_path):
    folder = write_folder(tmp_path, byte_level())
    fingerprint = Tokenizer.from_folder(folder).fingerprint
    assert Tokenizer.from_folder(folder).fingerprint == fingerprint
    (folder / "chat_template.jinja").write_text("y")
    other_template = Tokenizer.from_folder(folder)
    assert other_template.chat_template == "y"
    write_folder(tmp_path, lead_into_control(byte_level()))
    assert len({fingerprint, other_template.fingerprint, Tokenizer.from_folder(folder).fingerprint}) == 3


def test_the_template_named_default_is_taken_from_a_list(tmp_path):
    named = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    assert Tokenizer.from_folder(write_folder(tmp_path, byte_level(), template=named)).chat_template == "b"


def test_added_tokens_named_only_in_tokenizer_config_are_control_tokens(tmp_path):
    folder = write_folder(tmp_path, byte_level())
    size = Tokenizer.from_folder(folder).vocab_size
    entry = {"content": "<|late|>", "special": False, "normalized": False, "single_word": False,
             "lstrip": False, "rstrip": False}  # fmt: skip
    settings_file = folder / "tokenizer_config.json"
    settings_file.write_text(json.dumps({"added_tokens_decoder": {str(size): entry}}))
    tokenizer = Tokenizer.from_folder(folder)
    assert size in tokenizer.control_ids
    assert tokenizer.encode_control("<|late|>").tolist() == [size]
    assert size not in tokenizer.encode_content("<|late|>").tolist()


def test_eos_ids_come_from_both_configs_and_must_be_tokens(tmp_path):
    folder = write_folder(tmp_path, byte_level(), config={"eos_token_id": 4})
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 7]}))
    assert Tokenizer.from_folder(folder).eos_token_ids == {4, 7}
    for eos in ({"eos_token_id": 100_000}, {"eos_token_id": "</s>"}, {"eos_token_id": -1}):
        (folder / "config.json").write_text(json.dumps(eos))
        with pytest.raises(TokenizerError, match="eos_token_id"):
            Tokenizer.from_folder(folder)
    (folder / "generation_config.json").unlink()
    (folder / "config.json").write_text("{}")
    with pytest.raises(TokenizerError, match="found none"):
        Tokenizer.from_folder(folder)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path):
    folder = write_folder(tmp_path, byte_level(), config={"eos_token_id": 4, "vocab_size": 100})
    with pytest.raises(TokenizerError, match="do not belong together"):
        Tokenizer.from_folder(folder)


def without_letters(description, letters):
    """Remove entries of the vocabulary, and all entries and merges that contain them."""
    model = description["model"]
    model["merges"] = [m for m in model["merges"] if not set(letters) & set("".join(m))]
    model["vocab"] = {text: i for text, i in model["vocab"].items() if not set(letters) & set(text)}


def without_bytes(description, lost):
    """A Llama-like tokenizer without the tokens of some bytes."""
    gone = {f"<0x{byte:02X}>" for byte in lost}
    description["model"]["vocab"] = {text: i for text, i in description["model"]["vocab"].items() if text not in gone}


def byte_as_added_token(description, text="!"):
    token_id = description["model"]["vocab"][text]
    description["added_tokens"].insert(0, description["added_tokens"][0] | {"id": token_id, "content": text})


def changed(folder, raw, change):
    """The tokenizer of a folder, made from a changed description. Its ids are counted anew."""
    description = json.loads(raw.to_str())
    change(description)
    description["model"]["vocab"] = {text: i for i, text in enumerate(description["model"]["vocab"])}
    return Tokenizer.from_folder(write_folder(folder, RawTokenizer.from_str(json.dumps(description))))


# GPT-2's letters for the bytes 0x00 to 0x07; "æ" stands for 0xE6, the first byte of "日"
LETTERS_OF_CONTROL_BYTES = [chr(0x100 + byte) for byte in range(8)]
LOSSY = {
    "byte_level": lambda folder: changed(
        folder, byte_level(), lambda d: without_letters(d, [*LETTERS_OF_CONTROL_BYTES, "æ"])
    ),
    "byte_fallback": lambda folder: changed(
        folder, sentencepiece_like(metaspace=False), lambda d: without_bytes(d, [*range(8), 0xE6])
    ),
    "byte_fallback_without_the_replacement_character": lambda folder: changed(
        folder, sentencepiece_like(metaspace=True), lambda d: without_bytes(d, [*range(8), 0xE6, 0xEF])
    ),
}
BAD = ["\x00", "\x07", "日"]  # 日 begins with the byte 0xE6, 鯨 does not


@pytest.fixture(scope="module", params=LOSSY)
def lossy(request, tmp_path_factory):
    """A tokenizer that lacks some bytes, and the character that it writes instead."""
    tokenizer = LOSSY[request.param](tmp_path_factory.mktemp("lossy"))
    return tokenizer, "?" if "replacement" in request.param else "\ufffd"


def test_characters_without_a_token_are_replaced_and_counted(lossy):
    tokenizer, replacement = lossy
    text = "The\x00 old\x07 man\x00 read 日 and 鯨.\n"
    expected = text.translate({ord(char): replacement for char in BAD})
    ids = tokenizer.encode_content(text)
    assert tokenizer.decode(ids) == expected
    assert np.array_equal(ids, tokenizer.encode_content(expected))
    assert tokenizer.unencodable(text) == {"\x00": 2, "\x07": 1, "日": 1}
    note = tokenizer.note_of_replaced(tokenizer.unencodable(text))
    assert note == (
        f"4 characters that the model's tokenizer cannot write are read as {replacement!r}: "
        "U+0000 (2), U+0007 (1), U+65E5 (1)"
    )
    assert tokenizer.unencodable(expected) == {}
    assert tokenizer.note_of_replaced({}) is None


@settings(max_examples=100, deadline=None)
@given(text=st.lists(st.one_of(st.text(), st.sampled_from([*BAD, "a", " ", "\ud800", "\n"])), max_size=12).map("".join))
def test_offsets_are_exact_where_characters_are_replaced(lossy, text):
    tokenizer, replacement = lossy
    text = text.replace("▁", "")
    written = "".join(replacement if tokenizer.unencodable(char) else char for char in text.replace("\ud800", "\ufffd"))
    written = tokenizer_module._SURROGATE.sub("\ufffd" if not tokenizer.unencodable("\ufffd") else "?", written)
    ids, starts = tokenizer.encode_content_with_offsets(text)
    assert tokenizer.decode(ids) == written
    bounds = [0, *(int(i) for i in np.flatnonzero(np.diff(starts)) + 1), len(ids)] if text else []
    for begin, end in itertools.pairwise(bounds):
        stop = starts[end] if end < len(ids) else len(text)
        spelled = tokenizer.decode(ids[begin:end])
        if "\ufffd" not in spelled:
            assert spelled == written[starts[begin] : stop]


def test_a_tokenizer_with_all_bytes_replaces_nothing(plain):
    assert plain.unencodable("".join(BAD) + "\ufffd") == {}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: without_letters(d, ["e"]), "1 of 256 bytes .*0x65; plain text would be lost"),
        (lambda d: byte_as_added_token(d, "Ċ"), "1 of 256 bytes .*0x0a; plain text would be lost"),
        (lambda d: without_letters(d, ["ï", "?", "_", "Ġ"]), "plain text would be lost"),
        (lambda d: (without_letters(d, ["é"]), d.update(normalizer={"type": "NFC"})), "the normalizer NFC could lead"),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "text could be lost"),
        (lambda d: d["model"].update(type="WordPiece"), "only BPE"),
        (lambda d: d["model"].update(end_of_word_suffix="</w>"), "suffixes"),
        (lambda d: d.update(normalizer={"type": "NoSuchNormalizer"}), "cannot be used"),
    ],
)
def test_tokenizers_that_could_lose_text_are_refused(tmp_path, change, word):
    folder = write_folder(tmp_path, byte_level())
    description = json.loads((folder / "tokenizer.json").read_text())
    change(description)
    (folder / "tokenizer.json").write_text(json.dumps(description))
    with pytest.raises(TokenizerError, match=word):
        Tokenizer.from_folder(folder)


def test_missing_or_broken_files_are_tokenizer_errors(tmp_path):
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="JSON"):
        Tokenizer.from_folder(tmp_path)
