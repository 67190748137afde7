"""Relations between words from the files of Princeton WordNet 3: data.*, index.* and *.exc (its manual, wndb)."""

from collections import defaultdict
from pathlib import Path
from typing import Protocol

_PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_ENDINGS = (
    ("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("er", ""), ("est", ""),
    ("ied", "y"),
)  # fmt: skip
_MAX_SENSES = 6
_RARER_SENSE = 0.75  # weight of each sense, of the one that is more frequent
_SYNONYM, _DERIVED, _KIND, _KIND_OF_KIND, _MANNER, _GENERAL, _SIMILAR = 0.8, 0.6, 0.6, 0.45, 0.5, 0.35, 0.6

_Key = tuple[str, str]
"""(part of speech, offset) of a sense."""


class _Add(Protocol):
    def __call__(self, words: list[str], weight: float, *, forms: bool = False) -> None: ...


class WordNet:
    """The words of WordNet with their senses."""

    def __init__(self, folder: Path) -> None:
        """Load the files of a folder, such as that of the Debian package wordnet-base. Raises OSError."""
        self._words: dict[_Key, list[str]] = {}
        self._pointers: dict[_Key, list[tuple[str, _Key]]] = {}
        self._senses: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
        self._base_forms: dict[str, set[str]] = defaultdict(set)
        self._irregular: dict[str, set[str]] = defaultdict(set)
        for letter, name in _PARTS_OF_SPEECH.items():
            self._load_data(letter, folder / f"data.{name}")
            self._load_index(letter, folder / f"index.{name}")
            for line in (folder / f"{name}.exc").read_text(encoding="utf-8").splitlines():
                form, *bases = line.split()
                self._base_forms[form].update(bases)
                for base in bases:
                    self._irregular[base].add(form)

    def related(self, word: str) -> dict[str, float]:
        """Words that mean nearly the same as `word`, or are kinds of it, with weights 0 ... 1; 1 for its own forms."""
        found: dict[str, float] = {}

        def add(words: list[str], weight: float, *, forms: bool = False) -> None:
            for each in words:
                if "_" not in each and "-" not in each and each != word:
                    found[each] = max(found.get(each, 0.0), weight)
                if forms:
                    add(sorted(self._irregular.get(each, ())), weight)

        for base in sorted(self._lemmas(word)):
            add([base], 1.0, forms=True)
            for letter, offsets in self._senses.get(base, ()):
                for rank, offset in enumerate(offsets[:_MAX_SENSES]):
                    self._add_sense((letter, offset), rank, add)
        return found

    def _add_sense(self, key: _Key, rank: int, add: _Add) -> None:
        weight = _RARER_SENSE**rank
        add(self._words[key], _SYNONYM * weight, forms=True)
        for symbol, other in self._pointers[key]:
            words = self._words[other]
            if symbol == "+":
                add(words, _DERIVED * weight)
            elif symbol in ("~", "~i") and key[0] == "n" and rank < 3:
                add(words, _KIND * weight)
                for second, below in self._pointers[other]:
                    if second in ("~", "~i"):
                        add(self._words[below], _KIND_OF_KIND * weight)
            elif symbol == "~" and key[0] == "v" and rank < 3:
                add(words, _MANNER * weight, forms=True)
            elif symbol == "@" and rank < 2:
                add(words, _GENERAL * weight)
            elif symbol == "&":
                add(words, _SIMILAR * weight)

    def _lemmas(self, word: str) -> set[str]:
        """The base forms of a word; the word itself where none is known."""
        found = set(self._base_forms.get(word, ()))
        candidates = [word, *(word.removesuffix(end) + new for end, new in _ENDINGS if word.endswith(end))]
        if word.endswith("ed") and len(word) > 4 and word[-3] == word[-4]:
            candidates.append(word[:-3])
        return found | {each for each in candidates if each in self._senses} or {word}

    def _load_data(self, letter: str, file: Path) -> None:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split("|")[0].split()
            count = int(fields[3], 16)
            self._words[letter, fields[0]] = [fields[4 + 2 * i].lower().split("(")[0] for i in range(count)]
            at = 4 + 2 * count
            rows = (fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at])))
            self._pointers[letter, fields[0]] = [(row[0], ("a" if row[2] == "s" else row[2], row[1])) for row in rows]

    def _load_index(self, letter: str, file: Path) -> None:
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                self._senses[fields[0]].append((letter, fields[-int(fields[2]) :]))
