"""How likely the characters of a language are: the knowledge behind the guess of an encoding.

Letters are listed by falling frequency in running text. For Chinese, Japanese and Korean the most frequent characters
are listed; the others are ranked by the level that the national character set gives them.
"""

import functools
import math
from collections.abc import Mapping

# language -> letters beyond ASCII, the most frequent first
_LATIN = {
    "Western": "éèàêçâîùôûœëïüÿæäöáíóñúãõìòåøß",
    "French": "éèàêçâîùôûœëïüÿæ",
    "German": "üäößé",
    "Spanish": "óíáéñúü",
    "Portuguese": "ãçéáíóêõâúàôü",
    "Italian": "èàòùìéî",
    "Swedish": "äåöéü",
    "Danish": "øæåéöä",
    "Finnish": "äöåšž",
    "Dutch": "ëéïèöüá",
    "Icelandic": "íáðéóúæöþý",
    "Catalan": "àéóèçíòïúü",
    "Irish": "áíéóú",
    "Czech": "íáéěřčžýšůúňťóď",
    "Polish": "łęąśżóćńź",
    "Hungarian": "áéöóőíüúű",
    "Slovak": "áíčéžýšúľťôňäóďŕĺ",
    "Croatian": "čšžćđ",
    "Slovenian": "čšž",
    "Albanian": "ëç",
    "Romanian": "ăîâşţșț",
    "Turkish": "ıüşğöçâîû",
    "Lithuanian": "ėšųžįąčęū",
    "Latvian": "āīēšūļžņģčķ",
    "Estonian": "äõüöšž",
    "Esperanto": "ĉĝŝŭĵĥ",
    "Maltese": "ħġżċàù",
    "Vietnamese": "đ\u0301\u0300ôâêư\u0323ơ\u0309\u0303ăđàáéèíìóòúùý",
}
_OTHER = {
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфёъ№",
    "Ukrainian": "оанивіетрслкдумпязьбгйчхжцшюєїфщґ№",
    "Bulgarian": "аиотенрсвлкдпмзяъубгчщжцхшйфюь№",
    "Serbian": "аоиенрсјтвукмдпљзгбшњчцћжхђфџ",
    "Macedonian": "аоеинтрсвдклпмузјгбцчшжќѓѕџљњхфѐѝ№",
    "Belarusian": "аніроетсыўвклядумпьзбчгйхцюшжэёф№",
    "Greek": "αοιετσνηυρπκμλςωδγάίχθόέφβήξύώζψϊΐϋΰ",
    "Hebrew": "יוהאלרתבשמנדםקעחפכגטצןסזךףץ",
    "Arabic": "اليمونتربةعدسفهكقأحجشصىخإذطءزضآغئثظؤ،؟ـ",
    "Persian": "ایردنهومتبسکشلزفگخقچپحعآجذضصطغثژئظء،\u200c",
    "Thai": (
        "านรกอเ\u0e48งมยลวดท\u0e49ส\u0e35ต\u0e31ปบคห\u0e34แจพช\u0e37ข"
        "\u0e38ใ\u0e4cไ\u0e33\u0e39ะโผณซ\u0e47ศถฐธภษญ\u0e36ฟฉฒฝฎฑฮฬฏๆ"
    ),
}
_CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然"
    "家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把"
    "机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果"
    "加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔"
    "更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展"
    "马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共"
    "确传师观清今切院让识候带导争运"
)
_TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然"
    "家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把"
    "機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果"
    "加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾"
    "更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展"
    "馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共"
    "確傳師觀清今切院讓識候帶導爭運"
)
_KANA = (
    "のいになしとるたてはがをれでかっすもこりさまあらくきんうよどつだせけえわおちそみめやばじろょげぶゃずびひほふべむね"
    "ゆゅへごぎぼづぐぬンールストイアラリクシタログッドプフジサバレコマデメカテオキブダュウムソビョセニィハチゲペパナエ"
)
_KANJI = (
    "日一人年大国会中本出事者生上自分行見言時前後手間方思家子下学今入何地気立長私来目小物男女場心三二金部同的十名山"
    "四五水月市東京合体定実文話社明道高動先度食知所当書取月新聞車使作用意店電作者不"
)
_HANGUL = (
    "이다는의에가을고하지한은로도사기리를서자대시그나어아일인수해있정것들스부라보오전여구게제장주비만마세성조상무공원"
    "았소으안면요경선우신식회과니러었생연동행학전음내계모치거습진미드실방년관분명적국개화물유중말르까집저간된할때트"
    "운노업용문최발없합단포민재산차영인반더위바려와터열라크심데두결"
)
_COMMON_SIGNS = "\u00a0«»°£§€©“”‘’–—…•·®™"
_BOX_SIGNS = "─│┌┐└┘├┤┬┴┼═║╔╗╚╝╠╣╦╩╬█▓▒░■"
_MATH_SIGNS = "½¼²³±×¿¡´µ¶†‡"
_CJK_SIGNS = "，。、：；？！（）「」『』《》“”‘’…—－～・·　％／０１２３４５６７８９〇①②③〜【】"

UNLIKELY = -13.8
"""Log-probability of a character that a language does not use."""
_FOREIGN_LETTER = -9.5


def _ranked(letters: str, mass: float) -> dict[str, float]:
    """character -> log-probability by Zipf's law over the ranks; the probabilities sum to `mass`."""
    unique = list(dict.fromkeys(letters))
    # an offset of 3 flattens the first ranks, as in real counts of letters
    total = sum(1 / (rank + 3) for rank in range(len(unique)))
    return {char: math.log(mass / (total * (rank + 3))) for rank, char in enumerate(unique)}


def _alphabet(letters: str) -> dict[str, float]:
    """Profile of an alphabet: its letters in both cases, and the signs that all languages use."""
    table = dict.fromkeys(_BOX_SIGNS, -7.0) | dict.fromkeys(_MATH_SIGNS, -6.5) | dict.fromkeys(_COMMON_SIGNS, -5.5)
    lower = _ranked(letters, 0.85)
    for char, value in lower.items():
        upper = char.upper()
        if upper != char and len(upper) == 1:
            table[upper] = value - 2.5
    if "ı" in lower:
        table["İ"] = table.pop("I", -6.0)
    return table | lower


def _ideographs(frequent: str, level: Mapping[str, tuple[str, int, int]]) -> "_Ideographs":
    return _Ideographs(_ranked(frequent, 0.6) | dict.fromkeys(_CJK_SIGNS, -4.5), level)


class _Ideographs(dict[str, float]):
    """A profile whose unlisted characters are ranked by the rows of a national character set.

    levels: codec -> (name, first lead byte, last lead byte) of its common characters.
    """

    def __init__(self, table: dict[str, float], levels: Mapping[str, tuple[str, int, int]]) -> None:
        super().__init__(table)
        self._levels = levels

    def __missing__(self, char: str) -> float:
        value = UNLIKELY
        for codec, first, last in self._levels.values():
            try:
                code = char.encode(codec)
            except UnicodeEncodeError:
                continue
            if len(code) == 2:
                value = max(value, -8.8 if first <= code[0] <= last else -11.5)
        self[char] = value
        return value


@functools.cache
def profiles() -> dict[str, dict[str, float]]:
    """Return language -> character -> log-probability. Characters that are missing have `UNLIKELY`."""
    tables = {language: _alphabet(letters) for language, letters in (_LATIN | _OTHER).items()}
    # Western: any of the letters in a text that quotes several languages
    for language in _LATIN:
        for char, value in tables["Western"].items():
            if char.isalpha() and language in _WESTERN:
                tables[language].setdefault(char, min(value, _FOREIGN_LETTER))
    tables["Chinese"] = _ideographs(_CHINESE, {"hanzi": ("gb2312", 0xB0, 0xD7)})
    tables["Traditional Chinese"] = _ideographs(_TRADITIONAL, {"hanzi": ("big5", 0xA4, 0xC6)})
    kana = _ranked(_KANA, 0.55)
    japanese = _ideographs(_KANJI, {"kanji": ("shift_jis", 0x88, 0x97)})
    for char, value in _ranked(_KANJI, 0.25).items():
        japanese[char] = value
    japanese.update(kana)
    # half-width katakana: rare, and every byte above 0xA0 is one
    japanese.update({chr(code): -10.5 for code in range(0xFF61, 0xFFA0)})
    tables["Japanese"] = japanese
    tables["Korean"] = _ideographs(_HANGUL, {"hangul": ("euc_kr", 0xB0, 0xC8)})
    return tables


_WESTERN = {
    "French", "German", "Spanish", "Portuguese", "Italian", "Swedish", "Danish", "Finnish", "Dutch", "Icelandic",
    "Catalan", "Irish", "Albanian",
}  # fmt: skip
