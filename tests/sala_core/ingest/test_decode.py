"""Bytes in any encoding become text and never raise."""

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.ingest.decode import decode_text
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
    assert decode_text(mark + text.encode(encoding)) == (text, ())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_bom_is_recognized_in_latin_text(encoding: str) -> None:
    assert decode_text(FRENCH.encode(encoding)) == (FRENCH, ())


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
    decoded, warnings = decode_text(text.encode(encoding))
    assert decoded == text
    assert len(warnings) == 1
    assert "guessed" in warnings[0]


def test_a_long_ascii_text_with_one_late_accent_is_guessed_by_the_accent() -> None:
    decoded, _ = decode_text(("plain words\n" * 20_000 + "un café\n").encode("latin-1"))
    assert decoded.endswith("un café\n")


def test_a_broken_byte_does_not_turn_utf8_into_another_encoding() -> None:
    decoded, warnings = decode_text(FRENCH.encode() + b"\xc3\n" + FRENCH.encode())
    assert decoded == FRENCH + "\ufffd\n" + FRENCH
    assert warnings == ("1 places are not valid UTF-8",)


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
    text, warnings = decode_text(data)
    assert text.encode().decode() == text
    assert "\0" not in text
    assert "\r" not in text
    assert all(isinstance(warning, str) and warning for warning in warnings)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\x1b\ufeff"), min_size=1))
def test_any_utf8_text_survives_unless_it_looks_like_utf16(text: str) -> None:
    assert decode_text(text.encode())[0] == text
