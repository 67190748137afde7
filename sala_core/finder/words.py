"""What words have in common: stems, function words, the language of a text."""

from collections.abc import Callable
from functools import lru_cache

import snowballstemmer

from sala_core.finder.text_index import TextIndex, fold, word_set

_STEM_PREFIX = 3  # words whose stems are equal begin with the same letters

FUNCTION_WORDS = word_set(
    """
    a an the of to in on at by for with from into onto and or but if as is are was were be been being am do does
    did done has had having will would shall should can could may might must not no nor so than that this these
    those there here it its he him his she her hers they them their theirs we us our ours you your yours i me my
    mine all any some such only own same too very just then also about after before while between during out up
    down over under again once s t d ll ve re m o please tell say says said
    """
)
"""English words that are never looked for, as long as the question has others."""

QUESTION_WORDS = word_set(
    """
    who whom whose which what when where why how wer wen wem wessen was wann wo wohin woher warum wieso wie
    welche welcher welches qui que quoi ou quand pourquoi comment quel quelle quels quelles combien quien
    quienes donde cuando como cual cuales cuanto chi che cosa dove quando perche come quale quanti
    """
)
"""Words that ask, in some languages, without diacritics."""

_COMMON = {
    "english": "the of and to that was his with for had",
    "german": "der die und das nicht ist ich ein mit sich",
    "french": "le les et des est une dans qui pas vous",
    "spanish": "el los que del las por con una no se",
    "italian": "il di che non una gli con della per era",
    "portuguese": "o os que nao uma com para do da em",
    "dutch": "het een van dat niet zijn en op met voor",
    "swedish": "och att det som en inte han jag med var",
    "danish": "og at det som en ikke han jeg med der",
    "russian": "и в не на что он с как его она",
}


def language_of(index: TextIndex) -> str:
    """The language whose most common words stand in most sentences; "english" where none does."""
    counts = {
        language: sum(
            int(index.frequency[i]) for word in words.split() if (i := index.word_of.get(fold(word))) is not None
        )
        for language, words in _COMMON.items()
    }
    return max(counts, key=lambda language: counts[language])


@lru_cache(len(_COMMON))
def stemmer(language: str) -> Callable[[str], str]:
    """The Snowball stemmer of a language, with a memory. A stemmer is not safe for threads; it is used behind it."""
    return lru_cache(1 << 15)(snowballstemmer.stemmer(language).stemWord)


class Inflections:
    """Finds the words of a text that are forms of the same word."""

    def __init__(self, index: TextIndex) -> None:
        self._stem = stemmer(language_of(index))
        self._by_prefix: dict[str, list[int]] = {}
        for i, word in enumerate(index.vocabulary):
            self._by_prefix.setdefault(word[:_STEM_PREFIX], []).append(i)
        self._vocabulary = index.vocabulary

    def stem(self, word: str) -> str:
        """The stem of a word as `fold` gives it."""
        return self._stem(word)

    def of(self, word: str) -> list[int]:
        """Indices of all words of the text with the stem of `word`, itself included."""
        stem = self._stem(word)
        near = self._by_prefix.get(word[:_STEM_PREFIX], [])
        return [i for i in near if self._vocabulary[i] == word or self._stem(self._vocabulary[i]) == stem]
