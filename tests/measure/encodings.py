"""How often a text without a declared encoding is decoded exactly: 25 encodings; 1 sentence, 3 sentences, all.

    .venv/bin/python tests/measure/encodings.py

The sentences were written for this measurement.
"""

import sys

from sala_core.ingest.parsers.charset import decode_plain

SENTENCES = {
    "French": """Le gardien a oublié la clé près de l'entrée.
La forêt était déjà sombre quand nous sommes arrivés.
Où êtes-vous allés cet été ?
Elle préfère le thé très chaud, même en août.
Le garçon français reçoit un cadeau à Noël.
Après dîner, le maître ferma la fenêtre du grenier.""",
    "German": """Der Wärter wohnt in der Lindenstraße.
Die Schlüssel für das große Tor hängen über der Tür.
Am Samstag ist das Büro geschlossen, außer früh.
Ein Mädchen kaufte fünf Äpfel und süße Trauben.
Übermorgen fährt der Zug erst gegen zwölf Uhr.
Können Sie mir bitte die Höhe des Gebäudes sagen?""",
    "Spanish": """El guardián olvidó la llave en el jardín.
Mañana iremos a la montaña con los niños.
¿Dónde está el camión del señor Muñoz?
La canción más popular sonó también ayer.
El río creció después de la tormenta.
Mi corazón pidió un poco de pan y jamón.""",
    "Swedish": """Vakten bor på Lindgatan bredvid skolan.
Nyckeln till den stora porten hänger över dörren.
På lördag är kontoret stängt, även för gäster.
Flickan köpte fem äpplen och söta körsbär.
Sjön är djup och vattnet känns kallt.
Båten går först när vinden har mojnat på kvällen.""",
    "Czech": """Hlídač bydlí v Lipové ulici.
Klíč od velké brány visí u sousedky.
V pátek je sklad zavřený, přijďte v pondělí.
Kůň běžel přes louku a skočil do řeky.
Dědeček říkal, že zítra bude pršet.
Žádný člověk nemůže být na dvou místech zároveň.""",
    "Polish": """Stróż mieszka przy ulicy Lipowej.
Klucz do bramy wisi u sąsiadki za drzwiami.
W piątek magazyn jest zamknięty, proszę przyjść później.
Koń pobiegł przez łąkę i wskoczył do rzeki.
Dziadek mówił, że jutro będzie padać śnieg.
Żaden człowiek nie może być w dwóch miejscach jednocześnie.""",
    "Hungarian": """Az őr a Hársfa utcában lakik.
A nagy kapu kulcsa a szomszédnál lóg.
Pénteken a raktár zárva van, jöjjön később.
A ló átfutott a réten és beugrott a folyóba.
Nagyapám azt mondta, hogy holnap esős idő lesz.
Senki sem lehet egyszerre két különböző helyen.""",
    "Turkish": """Bekçi Ihlamur Sokağı'nda oturuyor.
Anahtar komşuda duruyor; cuma günü depo kapalı.
Çocuklar bahçede güneş batana kadar oynadı.
Yarın sabah erkenden İzmir'e doğru yola çıkacağız.
Dün akşam yağmur yağdı, şimdi hava açık.
Büyük kapının önünde yaşlı bir ağaç var.""",
    "Russian": """Сторож склада живёт на Липовой улице.
Ключ от ворот хранится у соседки.
В пятницу склад закрыт, приходите позже.
Лошадь пробежала через луг и прыгнула в реку.
Дедушка говорил, что завтра пойдёт снег.
Никто не может быть в двух местах сразу.""",
    "Ukrainian": """Сторож складу живе на Липовій вулиці.
Ключ від воріт висить у сусідки.
У п'ятницю склад зачинено, приходьте пізніше.
Кінь побіг через луку і стрибнув у річку.
Дідусь казав, що завтра піде сніг.
Ніхто не може бути у двох місцях одночасно.""",
    "Greek": """Ο φύλακας μένει στην οδό Φιλύρας.
Το κλειδί της πόρτας είναι στη γειτόνισσα.
Την Παρασκευή η αποθήκη είναι κλειστή.
Άλογα έτρεχαν στο λιβάδι και πήδηξαν στο ποτάμι.
Ο παππούς είπε ότι αύριο θα βρέξει.
Κανείς δεν μπορεί να είναι σε δύο μέρη μαζί.""",
    "Hebrew": """השומר גר ברחוב התרזה שבע.
המפתח של השער נמצא אצל השכנה.
ביום שישי המחסן סגור.
הסוס רץ דרך השדה וקפץ אל הנהר.
סבא אמר שמחר ירד שלג.
אף אחד לא יכול להיות בשני מקומות.""",
    "Arabic": """يسكن الحارس في شارع الزيزفون.
مفتاح البوابة عند الجارة.
المخزن مغلق يوم الجمعة، تعال غدا.
ركض الحصان عبر المرج وقفز إلى النهر.
قال جدي إن الثلج سيسقط غدا.
لا أحد يستطيع أن يكون في مكانين معا.""",
    "Lithuanian": """Sargas gyvena Liepų gatvėje.
Vartų raktas kabo pas kaimynę už durų.
Penktadienį sandėlis uždarytas, ateikite vėliau.
Arklys perbėgo pievą ir įšoko į upę.
Senelis sakė, kad rytoj snigs šlapiu sniegu.
Niekas negali būti dviejose vietose vienu metu, ar ne, žmogau?""",
    "Thai": """ยามอาศัยอยู่ที่ถนนต้นไม้
กุญแจประตูอยู่ที่เพื่อนบ้าน
วันศุกร์โกดังปิด กรุณามาใหม่
ม้าวิ่งข้ามทุ่งหญ้าแล้วกระโดดลงแม่น้ำ
ปู่บอกว่าพรุ่งนี้ฝนจะตก
ไม่มีใครอยู่สองที่ได้พร้อมกัน""",
    "Chinese": """仓库管理员住在椴树街七号。
大门的钥匙在邻居家里。
星期五仓库不开门，请以后再来。
那匹马跑过草地，跳进了河里。
爷爷说明天会下雪。
没有人能同时在两个地方。""",
    "Traditional Chinese": """倉庫管理員住在椴樹街七號。
大門的鑰匙在鄰居家裡。
星期五倉庫不開門，請以後再來。
那匹馬跑過草地，跳進了河裡。
爺爺說明天會下雪。
沒有人能同時在兩個地方。""",
    "Japanese": """倉庫係は菩提樹通り七番地に住んでいます。
門の鍵は隣の家にあります。
金曜日は倉庫が休みです。
馬は草原を走り、川に飛び込んだ。
祖父は明日雪が降ると言った。
誰も同時に二つの場所にはいられない。""",
    "Korean": """창고 관리인은 보리수 거리에 삽니다.
대문 열쇠는 이웃집에 있습니다.
금요일에는 창고가 문을 닫습니다.
말이 풀밭을 지나 강으로 뛰어들었다.
할아버지는 내일 눈이 온다고 하셨다.
아무도 동시에 두 곳에 있을 수 없다.""",
}  # fmt: skip

ENCODINGS = (
    ("cp1252", ("French", "German", "Spanish", "Swedish")),
    ("iso8859_15", ("French", "German", "Spanish", "Swedish")),
    ("mac_roman", ("French", "German", "Spanish", "Swedish")),
    ("cp850", ("French", "German", "Spanish", "Swedish")),
    ("cp1250", ("Czech", "Polish", "Hungarian")),
    ("iso8859_2", ("Czech", "Polish", "Hungarian")),
    ("cp852", ("Czech", "Polish", "Hungarian")),
    ("cp1254", ("Turkish",)),
    ("cp1251", ("Russian", "Ukrainian")),
    ("koi8_r", ("Russian",)),
    ("koi8_u", ("Ukrainian",)),
    ("cp866", ("Russian",)),
    ("iso8859_5", ("Russian",)),
    ("cp1253", ("Greek",)),
    ("iso8859_7", ("Greek",)),
    ("cp1255", ("Hebrew",)),
    ("cp1256", ("Arabic",)),
    ("cp1257", ("Lithuanian",)),
    ("cp874", ("Thai",)),
    ("gb18030", ("Chinese",)),
    ("big5", ("Traditional Chinese",)),
    ("cp932", ("Japanese",)),
    ("euc_jp", ("Japanese",)),
    ("cp949", ("Korean",)),
    ("utf-16-le", ("Chinese", "Russian", "Japanese", "German")),
)


def main() -> None:
    """Print a table: exact texts of all texts, by encoding and by number of sentences."""
    sums = [[0, 0], [0, 0], [0, 0]]
    print("| encoding | 1 sentence | 3 sentences | all 6 |\n|---|---|---|---|")
    for encoding, languages in ENCODINGS:
        row = []
        for column, length in enumerate((1, 3, 6)):
            texts = [text for language in languages for text in _texts(SENTENCES[language].split("\n"), length)]
            wrong = [text for text in texts if decode_plain(text.encode(encoding))[0] != text]
            row.append(f"{len(texts) - len(wrong)} of {len(texts)}")
            sums[column][0] += len(texts) - len(wrong)
            sums[column][1] += len(texts)
            if "-v" in sys.argv:
                for text in wrong:
                    print(f"    {text[:60]!r}: {decode_plain(text.encode(encoding))!r}", file=sys.stderr)
        print(f"| {encoding.replace('_', '-')} | {' | '.join(row)} |")
    print("| sum | " + " | ".join(f"{right} of {total} ({right / total:.0%})" for right, total in sums) + " |")


def _texts(sentences: list[str], length: int) -> list[str]:
    """Runs of `length` sentences; at the end of the list they continue at its start. All of them are one run."""
    num_runs = 1 if length == len(sentences) else len(sentences)
    doubled = sentences + sentences
    return ["\n".join(doubled[start : start + length]) + "\n" for start in range(num_runs)]


if __name__ == "__main__":
    main()
