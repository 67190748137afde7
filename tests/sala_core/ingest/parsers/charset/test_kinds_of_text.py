"""Kinds of texts that readers of undeclared encodings fail on: what they name, mix, break and hide."""

import codecs

import pytest

from sala_core.ingest.parsers.charset import decode_declared, decode_html, decode_plain
from sala_core.ingest.parsers.charset.decoders import decode_with
from sala_core.ingest.parsers.charset.guess import guess_codec
from sala_core.ingest.parsers.charset.labels import codec_for


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("# -*- coding: gbk -*-\nx = 1  # 计\n", "gbk"),
        ("#!/usr/bin/ruby\n# encoding: iso-8859-2\nputs 'č'\n", "iso8859_2"),
        (";; -*- mode: lisp; coding: euc-jp-unix -*-\n; 計\n", "euc_jp"),
        ("int a; /* 計 */\n// vim: set fileencoding=sjis :\n", "cp932"),
        ("計\n\n% Local Variables:\n% coding: cp932\n% End:\n", "cp932"),
        ('<?xml version="1.0" encoding="KOI8-R"?>\n<a>да</a>', "koi8_r"),
        ('@charset "Shift_JIS";\n.a { content: "計" }', "cp932"),
        ("\\documentclass{article}\n\\usepackage[latin2]{inputenc}\nč", "iso8859_2"),
        ("\\usepackage[applemac]{inputenc}\né", "mac_roman"),
        (
            'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=ISO-8859-2\\n"\n\nmsgid "a"\nmsgstr "č"\n',
            "iso8859_2",
        ),
        ('<head><meta http-equiv="Content-Type" content="text/html; charset=windows-1251"></head>да', "cp1251"),
        ('<%@ page contentType="text/html; charset=windows-1251" %>\nда', "cp1251"),
    ],
)
def test_a_text_that_names_its_encoding_is_read_in_it_without_a_guess(text: str, encoding: str) -> None:
    assert decode_plain(text.encode(encoding)) == (text, ())


def test_a_name_that_the_bytes_contradict_is_not_believed() -> None:
    text = "# -*- coding: cp1252 -*-\n# Größe über\n"
    assert decode_plain(text.encode()) == (text, ())
    decoded, notes = decode_plain(
        "# -*- coding: gb2312 -*-\nGröße für Müller, süß über den Flüssen und Hügeln, schöne Grüße\n".encode("latin-1")
    )
    assert "Größe für Müller" in decoded
    assert "guessed" in notes[0]


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["Der Wärter wohnt hier.\n", "Сторож склада живёт.\n", "渡船九点开。钥匙在邻居家。\n"])
def test_wide_encodings_are_recognized_without_a_mark(encoding: str, text: str) -> None:
    decoded, notes = decode_plain(text.encode(encoding))
    assert decoded == text
    assert "guessed" in notes[0]


def test_marks_inside_a_text_are_dropped() -> None:
    assert decode_plain("\ufeff\ufeffa\n\ufeffb\n".encode()) == ("a\nb\n", ())
    assert decode_plain(codecs.BOM_UTF8 + '<?xml encoding="windows-1251"?>ü'.encode())[0].endswith("ü")


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        (b"abc \xc0\xaf caf\xc3\xa9 th\xc3\xa9", "abc \ufffd\ufffd café thé", "not valid UTF-8"),
        ("x 😀 für".encode("utf-16-le"), "x 😀 für", "UTF-16LE"),
        ("x \ud83d\ude00 für".encode("utf-8", "surrogatepass"), "x 😀 für", "CESU-8"),
        ("x \ud83d für Äpfel".encode("utf-8", "surrogatepass"), "x \ufffd\ufffd\ufffd für Äpfel", "not valid UTF-8"),
        ("ährend der Fahrt über die Brücke".encode()[1:], "\ufffdhrend der Fahrt über die Brücke", "not valid UTF-8"),
        (b"A+AGE-B +ImIDkQ-", "A+AGE-B +ImIDkQ-", None),
        ("CafÃ© crÃ¨me".encode(), "CafÃ© crÃ¨me", "encoded twice"),
    ],
)
def test_broken_unicode_is_kept_and_noted(data: bytes, text: str, note: str | None) -> None:
    decoded, notes = decode_plain(data)
    assert decoded == text
    assert (note is None and not notes) or (note is not None and note in " ".join(notes))


@pytest.mark.parametrize(
    ("utf8", "other", "encoding"),
    [
        ("Größe über\n", "Käse für Müller\n", "latin-1"),
        ("Сторож живёт\n", "Ключ от ворот хранится у соседки\n", "cp1251"),
        ("# 计数\n", "// 返回结果，没有问题\n", "gbk"),
    ],
)
def test_lines_in_another_encoding_are_read_in_it(utf8: str, other: str, encoding: str) -> None:
    decoded, notes = decode_plain((utf8 * 3).encode() + other.encode(encoding) + utf8.encode())
    assert decoded == utf8 * 3 + other + utf8
    assert "1 line is not UTF-8, first line 4: read as" in notes[0]


def test_one_broken_byte_in_a_line_is_no_other_encoding() -> None:
    decoded, notes = decode_plain("Größe über\n".encode() * 3 + b"one \xc3 byte\n")
    assert decoded.endswith("one \ufffd byte\n")
    assert notes == ("1 place is not valid UTF-8, first in line 4; shown as \ufffd",)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x1b[1;31mERROR\x1b[0m lamp \x1b[38;5;11m4711\x1b(B\x1b[m ok\n", "ERROR lamp 4711 ok\n"),
        (b"\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "text link\n"),
        (b"N\bNA\bAM\bME\bE\n  _\bf_\bi_\bl_\be\n", "NAME\n  file\n"),
    ],
)
def test_colors_and_overprinted_letters_of_a_terminal_are_left_out_with_a_note(data: bytes, text: str) -> None:
    decoded, notes = decode_plain(data)
    assert decoded == text
    assert "of a terminal" in notes[0]


BOX = "┌────────┬──────┐\n│ {:6} │ {:4} │\n├────────┼──────┤\n│ 47     │ 11   │\n└────────┴──────┘\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (BOX.format("Größe", "Käse"), "cp437"),
        (BOX.format("Größe", "Käse"), "cp850"),
        (BOX.format("Сторож", "Ключ"), "cp866"),
        (BOX.format("Žluťák", "Kůň"), "cp852"),
        ("Иванов Пётр", "koi8_r"),
        ("id;name;city\n1;Анна;Москва\n2;Bob;Paris\n", "cp1251"),
        ("Število mest v Ljubljani", "cp1250"),
        ("Količina prostora, ki naj se doda med predmeta", "iso8859_2"),
        ("Orientuojamųjų objektų orientacija, žmogau", "cp1257"),
        ("Vai primārā ikona ir sensitīva", "cp1257"),
        ("Škoda", "cp1250"),
        ("Åse", "cp1252"),
        ("§ 4 Absatz", "cp1252"),
        ("± 5 µm", "cp1252"),
        ("«Bonjour», dit-il. «Ça va?»", "cp1252"),
        ("Le cœur de l'œuvre, 5 €\n", "iso8859_15"),
        ("Der Mindestwert der Stellgröße", "cp850"),
        ("Ngươ\u0300i giư\u0303 kho ơ\u0309 phô\u0301", "cp1258"),
        ("id,name\n" + "".join(f"{number},name\n" for number in range(500)) + "501,Tomáš Novák\n", "cp1250"),
        ("int main() { return 0; }\n" * 50 + "// 初期化\n", "cp932"),
    ],
)
def test_more_short_texts_are_guessed_right(text: str, encoding: str) -> None:
    decoded, notes = decode_plain(text.encode(encoding))
    assert decoded == text
    assert "guessed" in notes[0]


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("koi8-u", b"\xae\xbe", "ўЎ"),
        ("windows-1255", b"\xe5\xca", "ו\u05ba"),
        ("big5", b"\xa1\x45\xa1\xe3\xa3\xe1\x8e\x69\x87\x7a\x87\xa1", "‧～€箸㡵𥣞"),
        ("gbk", b"\xa6\xd9\xa8\xbc\xfe\x59", "︐ḿ龴"),
        ("x-user-defined", b"caf\xe9", "café"),
        ("unicode", "café".encode("utf-16-le"), "café"),
        ("replacement", "café".encode(), "café"),
    ],
)
def test_characters_that_only_browsers_know_are_read(label: str, data: bytes, text: str) -> None:
    assert decode_declared(data, label)[0] == text


def test_every_label_of_the_standard_for_single_bytes_is_known() -> None:
    labels = (
        "csibm866 l2 iso_8859-2:1987 csisolatin3 l4 csisolatincyrillic asmo-708 iso-8859-6-e sun_eu_greek visual "
        "logical "
        "csisolatin6 iso885913 iso8859-14 l9 iso-8859-16 cskoi8r koi8-ru x-mac-roman dos-874 x-cp1250 x-cp1251 "
        "ansi_x3.4-1968 x-cp1253 csisolatin5 x-cp1255 x-cp1256 x-cp1257 x-cp1258 x-mac-ukrainian csiso58gb231280 "
        "x-x-big5 cseucpkdfmtjapanese csiso2022jp ms_kanji ks_c_5601-1989 unicodefffe csunicode unicode11utf8"
    )
    assert [label for label in labels.split() if codec_for(label) is None] == []


def test_a_description_that_speaks_of_a_charset_declares_none() -> None:
    head = '<meta name="description" content="the charset=koi8-r trick"><p>'
    assert decode_html((head + "Größe über").encode("latin-1"))[0] == head + "Größe über"


def test_the_guess_takes_no_more_than_a_sample_of_a_text() -> None:
    text = "Größe über alles; " * 200_000
    assert guess_codec(text.encode("cp1252")) == "cp1252"
    assert decode_with(text.encode("cp1252"), "cp1252") == text
