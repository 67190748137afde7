"""Bytes in any encoding become text and never raise."""

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.ingest.parsers.charset import decode_declared, decode_html, decode_plain
from sala_core.ingest.parsers.result import normalize_text

FRENCH = (
    "Longtemps, je me suis couché de bonne heure. Parfois, à peine ma bougie éteinte, mes yeux se "
    "fermaient si vite que je n'avais pas le temps de me dire : « Je m'endors. » Et, une demi-heure "
    "après, la pensée qu'il était temps de chercher le sommeil m'éveillait. "
)
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. "
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"


@pytest.mark.parametrize("text", [FRENCH, RUSSIAN, JAPANESE, "plain", "𝔘 emoji 🙂\n"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_unicode_is_decoded_exactly_and_without_its_bom(text: str, mark: bytes, encoding: str) -> None:
    assert decode_plain(mark + text.encode(encoding)) == (text, ())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_bom_is_recognized_in_latin_text(encoding: str) -> None:
    decoded, notes = decode_plain(FRENCH.encode(encoding))
    assert decoded == FRENCH
    assert notes == (f"read as UTF-16{encoding[-2:].upper()} (guessed)",)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"),
        (FRENCH, "latin-1"),
        ("naïve", "latin-1"),
        ("Der Weiße Käse kostet 5 £ – “süß”.", "cp1252"),
        (FRENCH * 2000 + "fin", "latin-1"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "iso2022_jp"),
    ],
)
def test_legacy_encodings_are_guessed_right_with_a_warning(text: str, encoding: str) -> None:
    decoded, warnings = decode_plain(text.encode(encoding))
    assert decoded == text
    assert len(warnings) == 1
    assert "guessed" in warnings[0]


def test_a_long_ascii_text_with_one_late_accent_is_guessed_by_the_accent() -> None:
    decoded, _ = decode_plain(("plain words\n" * 20_000 + "un café\n").encode("latin-1"))
    assert decoded.endswith("un café\n")


def test_a_broken_byte_does_not_turn_utf8_into_another_encoding() -> None:
    decoded, warnings = decode_plain(FRENCH.encode() + b"\xc3\n" + FRENCH.encode())
    assert decoded == FRENCH + "\ufffd\n" + FRENCH
    assert warnings == ("1 place is not valid UTF-8, first in line 1; shown as \ufffd",)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Der Wärter hängt über der Tür".encode() + b" \xff", "Der Wärter hängt über der Tür \ufffd"),
        ("Schlüssel über der Tür. T".encode() + b"\xc3", "Schlüssel über der Tür. T\ufffd"),
        ("渡船九点开".encode() + b"\xe3\x80", "渡船九点开\ufffd"),
        ("渡船".encode() + b"\xe4\xb9", "渡船\ufffd"),
        ("Tür".encode() + b" x\xc3", "Tür x\ufffd"),
        ("Сторож ".encode() + b"\xd0" + " склада".encode(), "Сторож \ufffd склада"),
    ],
)
def test_short_utf8_with_a_broken_place_stays_utf8_and_names_the_line(data: bytes, text: str) -> None:
    decoded, notes = decode_plain(b"line 1\n" + data)
    assert decoded == "line 1\n" + text
    assert notes == ("1 place is not valid UTF-8, first in line 2; shown as \ufffd",)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Žluťoučký kůň úpěl ďábelské ódy, řekl hlídač.", "iso8859_2"),
        ("jméno;ulice\nBřetislav;Křižíkova\nŽofie;Lípová\n", "cp1250"),
        ("ad;sokak\nŞükrü;Çınar Sokağı\nAyşegül;Köprü\n", "cp1254"),
        ("¿Dónde está el árbol? Mañana, según el niño.", "cp1252"),
        ("It’s a “test” – really, 40 €…", "cp1252"),
        ("£50 off", "cp1252"),
        ("Łukasz Wałęsa", "cp1250"),
        ("int x; // счётчик\n", "cp1251"),
        ("ВНИМАНИЕ: СКЛАД ЗАКРЫТ", "cp1251"),
        ("Καλημέρα κόσμε", "iso8859_7"),
        ("שלום עולם", "cp1255"),
        ("مرحبا بالعالم", "cp1256"),
        ("สวัสดีชาวโลก", "tis_620"),
        ("/* 初始化 */ int a; // 返回结果\n", "gbk"),
        ("㐀 汉字 𠀀 是的，没有问题。", "gb18030"),
        ("你好，世界", "big5"),
        ("int a; /* 初期化する */", "cp932"),
        ("①倉庫係は髙橋です。㈱みどり運送", "cp932"),
        ("テスト", "euc_jp"),
        ("창고 열쇠는 이웃집에 있습니다.", "cp949"),
        ("渡船九点开。", "utf-16-le"),
        ("仓库的钥匙\r\n在邻居家 (4711)。\r\n", "utf-16-be"),
        ("창고 관리인은 거리에 삽니다.\n", "utf-16-le"),
    ],
)
def test_short_texts_are_guessed_by_the_likelihood_of_their_language(text: str, encoding: str) -> None:
    decoded, notes = decode_plain(text.encode(encoding))
    assert decoded == text.replace("\r\n", "\n")
    assert len(notes) == 1
    assert "guessed" in notes[0]


def test_utf16_that_is_cut_inside_a_character_keeps_the_rest() -> None:
    decoded, notes = decode_plain("仓库管理员住在椴树街七号\n大门".encode("utf-16-le")[:-1])
    assert decoded == "仓库管理员住在椴树街七号\n大\ufffd"
    assert any("not valid UTF-16LE, first in line 2" in note for note in notes)


def test_nul_bytes_in_a_log_are_left_out_with_a_note() -> None:
    decoded, notes = decode_plain(b"09:00 left\n09:01 le\0\0\0\0" + b"09:02 lamp\n\0\0")
    assert decoded == "09:00 left\n09:01 le\n09:02 lamp\n"
    assert notes == ("6 NUL characters left out, first in line 2",)


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("latin1", b"\x93x\x94 \x80", "“x” €"),
        ("US-ASCII", b"gro\xdf \x96 K\xfcche", "groß – Küche"),
        ("iso-8859-9", "Ş “x”".encode("cp1254"), "Ş “x”"),
        ("gb2312", "陶喆、赵翀".encode("gbk"), "陶喆、赵翀"),
        ("gbk", b"5 \x80", "5 €"),
        ("x-sjis", "髙橋 ①".encode("cp932"), "髙橋 ①"),
        ("euc-jp", b"\xad\xa1\xc1\xd2\xad\xea \x8e\xc3", "①倉㈱ ﾃ"),
        ("ISO-2022-JP", b"\x1b$B-!\x1b(B ok", "① ok"),
        ("ks_c_5601-1987", "똠방".encode("cp949"), "똠방"),
        ("big5", "鎖匙喺隔籬".encode("big5hkscs"), "鎖匙喺隔籬"),
        ("x-cp1251", "Сторож".encode("cp1251"), "Сторож"),
        ("866", "Сторож".encode("cp866"), "Сторож"),
        ("iso-8859-8-i", "שלום".encode("iso8859_8"), "שלום"),
        ("tis-620", "ไทย…".encode("cp874"), "ไทย…"),
        ("utf-16", "Tür".encode(), "Tür"),
        ("latin1", "Müller über".encode(), "Müller über"),
    ],
)
def test_labels_mean_what_browsers_take_them_to_mean(label: str, data: bytes, text: str) -> None:
    assert decode_declared(data, label) == (text, ())
    assert decode_html(f'<meta charset="{label}"><p>'.encode() + data)[0].endswith(text)


def test_a_label_that_the_bytes_contradict_is_named_with_the_guess() -> None:
    decoded, notes = decode_declared("Сторож склада живёт".encode("cp1251"), "utf-8")
    assert decoded == "Сторож склада живёт"
    assert notes == ('declared as "utf-8", read as windows-1251 (guessed)',)
    decoded, notes = decode_declared("Küche für Müller".encode("cp1252"), "bogus")
    assert decoded == "Küche für Müller"
    assert notes == ('unknown encoding "bogus"', "read as windows-1252 (guessed)")


@pytest.mark.parametrize(
    "head",
    [
        '<!-- <meta charset="koi8-r"> --><meta charset="windows-1251">',
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">',
        '<?xml version="1.0" encoding="windows-1251"?>',
    ],
)
def test_html_declares_its_encoding_in_three_ways(head: str) -> None:
    assert decode_html(f"{head}<p>Сторож".encode("cp1251")) == (f"{head}<p>Сторож", ())


def test_newlines_nul_and_surrogates_are_normalized() -> None:
    assert normalize_text("a\r\nb\rc\n\0\ud800") == "a\nb\nc\n\ufffd\ufffd"


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            bytes.__add__,
            st.sampled_from([codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF32_BE, b"\x1b$B", b"+AGE-"]),
            st.binary(max_size=60),
        ),
    )
)
def test_any_bytes_decode_to_text_that_can_be_stored(data: bytes) -> None:
    text, warnings = decode_plain(data)
    assert text.encode().decode() == text
    assert "\0" not in text
    assert "\r" not in text
    assert all(isinstance(warning, str) and warning for warning in warnings)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\x1b\ufeff"), min_size=1))
def test_any_utf8_text_survives_unless_it_looks_like_utf16(text: str) -> None:
    assert decode_plain(text.encode())[0] == text
