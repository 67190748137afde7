"""The forms of questions about a text as a whole, in five languages, in lower case and without diacritics."""

from enum import Enum

from sala_core.finder.characters import fold
from sala_core.finder.parts import KINDS


class Overview(Enum):
    """What is asked of a text as a whole."""

    SUMMARY = "summary"
    AUTHOR = "author"
    NUMBER_OF_PARTS = "number of parts"
    PARTS = "parts"
    NAMES = "names"
    OCCURRENCES = "occurrences"
    LENGTH = "length"


_EN = (
    "(?:this|the|it|these|those|that|my|all|everything)(?: (?:whole|entire|uploaded|attached))?"
    "(?: (?:book|novel|story|text|paper|article|document|file|pdf|manual|report|code|codebase|repo|repository|project"
    "|folder|work|play|poem|essay|thing|one|here)s?)?"
)
_EN_OF = f"(?: (?:of|in|from|about) {_EN})?"
_PART = "(?P<what>chapter|part|book|volume|act|scene|letter|section|heading|canto)s?"
_GIVE = "(?:(?:give|show|tell|write|list|name|make)(?: me)? |what(?: i|')s |what are |who are )?"
_ENGLISH = (
    (Overview.SUMMARY, f"what(?: i|')?s {_EN} (?:all )?about|what are {_EN} (?:all )?about"),
    (Overview.SUMMARY, f"what does {_EN} (?:do|say|cover|contain|deal with|describe|tell)(?: me| us)?"),
    (Overview.SUMMARY, "(?:summari[sz]e|sum up|recap)(?: .{1,60})?|tl;?dr"),
    (Overview.SUMMARY, f"(?:explain|describe|introduce) {_EN}"),
    (
        Overview.SUMMARY,
        f"{_GIVE}(?:an? |the )?(?:(?:short|brief|quick|main|key|central|general|overall) )*"
        f"(?:summary|overview|synopsis|abstract|gist|plot|ideas?|points?|themes?|topics?|messages?|takeaways?|findings"
        f"|contents?|conclusions?){_EN_OF}",
    ),
    (Overview.SUMMARY, f"what happens(?: at the (?:end|beginning))?{_EN_OF}|how does {_EN} (?:end|begin|start)"),
    (Overview.AUTHOR, f"who (?:is|was|are) (?:the )?(?:author|writer)s?{_EN_OF}|who (?:wrote|has written) {_EN}"),
    (Overview.AUTHOR, f"(?:author|by whom is {_EN}(?: written)?)"),
    (Overview.NUMBER_OF_PARTS, f"how many {_PART} (?:are(?: there)?|does {_EN} have|has {_EN}|is there){_EN_OF}"),
    (Overview.NUMBER_OF_PARTS, f"how many {_PART}"),
    (
        Overview.PARTS,
        f"{_GIVE}(?:all |the |all the )?(?:(?:titles|names|list) of (?:all |the |all the )?)?{_PART}"
        f"(?: titles| names)?{_EN_OF}",
    ),
    (Overview.PARTS, f"{_GIVE}(?:the |an? )?(?:table of contents|contents|outline|structure|headings){_EN_OF}"),
    (
        Overview.NAMES,
        f"(?:{_GIVE}|who is )(?:all |the |all the )?(?:(?:main|major|important|central|most important) )?"
        f"(?:characters?|people|persons|person[ae]e|protagonists?|names|figures|hero|heroine){_EN_OF}",
    ),
    (
        Overview.OCCURRENCES,
        "how (?:often|many times) (?:is|are|was|were) (?:the (?:word|name|phrase|term) )?(?P<what>.{1,60}?) "
        f"(?:mentioned|named){_EN_OF}",
    ),
    (
        Overview.OCCURRENCES,
        "how (?:often|many times) (?:is|are|was|were|do|does|did) "
        "(?:the (?:word|name|phrase|term) (?P<word>.{1,60}?)|(?P<what>[\"'“`].{1,60}?[\"'”`])) "
        f"(?:mentioned|used|named|written|appear|occur|come up|stand|found){_EN_OF}",
    ),
    (
        Overview.LENGTH,
        f"how (?:long|big|large) (?:is|are) {_EN}"
        f"|how many (?:words|pages|lines) (?:are (?:there|in)|does|has)(?: {_EN})?(?: have)?{_EN_OF}",
    ),
)

_KINDS = f"(?P<what>{'|'.join(sorted(set(map(fold, KINDS)), key=len, reverse=True))})"

_DE = (
    "(?:(?:(?:dies|da|de|di|mein|ein|unser)[a-z]{1,2} )?(?:ganzen? )?"
    "(?:buch(?:e?s)?|roman(?:e?s)?|text(?:e?s)?|geschichte|erzahlung|dokument(?:e?s)?|datei|artikels?|aufsatz(?:es)?"
    "|berichts?|pdfs?|handbuch(?:e?s)?|projekte?s?|codes?|dateien)|das|es|dies|hier)"
)
_DE_OF = f"(?: (?:in|aus|von|zu|uber) {_DE}| darin| drin| {_DE})?"
_GERMAN = (
    (Overview.SUMMARY, f"(?:worum|um was) (?:geht es|geht's|gehts|dreht es sich)(?: hier)?(?: (?:in|bei) {_DE})?"),
    (Overview.SUMMARY, f"(?:wovon|von was) handel[tn] {_DE}|was (?:steht|passiert|geschieht){_DE_OF}"),
    (Overview.SUMMARY, f"wie (?:endet|beginnt) {_DE}"),
    (Overview.SUMMARY, f"(?:fasse?|fassen sie)?(?: mir)?(?: bitte)? ?{_DE}(?: bitte| kurz)* zusammen(?:fassen)?"),
    (
        Overview.SUMMARY,
        "(?:(?:gib|schreib|erstelle|mach)e?(?: mir)? |was (?:ist|sind) )?"
        "(?:(?:eine?|die|das|der|den|kurze|wichtigsten) )*"
        "(?:zusammenfassung|inhaltsangabe|uberblick|inhalt|handlung|thema|themen|(?:haupt|kern)?(?:aussagen?|punkte|themen))"
        f"{_DE_OF}",
    ),
    (Overview.AUTHOR, f"wer (?:ist|war|sind) (?:der |die )?(?:autor|verfasser|schriftsteller)(?:in|en)?{_DE_OF}"),
    (Overview.AUTHOR, f"wer (?:hat {_DE} (?:geschrieben|verfasst)|schrieb {_DE})|autor"),
    (Overview.AUTHOR, f"von wem (?:ist|stammt) {_DE}(?: geschrieben)?"),
    (Overview.NUMBER_OF_PARTS, f"wie ?viele {_KINDS}(?: gibt es| hat {_DE}| sind| enthalt {_DE})?{_DE_OF}"),
    (
        Overview.PARTS,
        f"(?:welche|nenne?|liste|zeige?|was sind|wie heissen|wie heißen)(?: mir)?(?: alle)?(?: die)? {_KINDS}"
        f"(?: gibt es| hat {_DE})?{_DE_OF}(?: auf)?",
    ),
    (Overview.PARTS, f"(?:zeige?(?: mir)? )?(?:das |die )?(?:inhaltsverzeichnis|gliederung|uberschriften){_DE_OF}"),
    (
        Overview.NAMES,
        "(?:wer|welche|nenne?|was)(?: mir)?(?: sind)?(?: alle)?(?: die)?(?: wichtigsten)? "
        f"(?:haupt)?(?:personen|figuren|charaktere|namen)(?: gibt es| kommen vor)?{_DE_OF}(?: vor)?",
    ),
    (
        Overview.OCCURRENCES,
        "wie oft (?:wird|kommt|steht|erscheint) (?:das wort |der name )?(?P<what>.{1,60}?)"
        f"{_DE_OF} (?:erwahnt|genannt|vor|geschrieben)",
    ),
    (Overview.LENGTH, f"wie (?:lang|gross|groß) ist {_DE}|wie ?viele (?:worter|seiten|zeilen) (?:hat|sind in) {_DE}"),
)

_FR = (
    "(?:(?:(?:ce|cet|cette|le|la|mon|ma|ces|les|du|au) |l')?(?:livre|roman|texte|histoire|document|fichier|article"
    "|rapport|pdf|manuel|projet|code|recit|ouvrage|oeuvre)s?|ca|cela|ceci)"
)
_FR_OF = f"(?: (?:de |dans |sur )?{_FR})?"
_FRENCH = (
    (
        Overview.SUMMARY,
        f"(?:de quoi (?:parle|traite|s'agit)(?:-t-il|-il)?(?: {_FR})?|de quoi (?:ca|il) (?:parle|s'agit))",
    ),
    (Overview.SUMMARY, f"de quoi est-ce que {_FR} (?:parle|traite)|comment (?:finit|se termine|commence) {_FR}"),
    (Overview.SUMMARY, "(?:resume[rz]?|resumez)(?:-moi)?(?: .{1,60})?|que (?:dit|raconte|contient) " + _FR),
    (
        Overview.SUMMARY,
        "(?:(?:fais|donne|ecris|faites|donnez)(?:-moi)? |quels? (?:est|sont) |quelles? (?:est|sont) )?"
        "(?:(?:un|une|le|la|les|court|bref) |l')*"
        "(?:resume|synthese|apercu|intrigue|sujet|theme|themes|idee|idees|points)"
        f"(?: principa(?:l|le|les|ux))?{_FR_OF}",
    ),
    (Overview.AUTHOR, f"qui (?:est|etait) (?:l'auteure?|l'ecrivaine?|l'autrice){_FR_OF}|qui a ecrit {_FR}|auteur"),
    (Overview.NUMBER_OF_PARTS, f"combien de {_KINDS}(?: y a-t-il| contient| compte| a| il y a)?(?: dans)?(?: {_FR})?"),
    (Overview.NUMBER_OF_PARTS, f"combien {_FR} a-t-(?:il|elle) de {_KINDS}"),
    (
        Overview.PARTS,
        "(?:quel(?:le)?s sont |liste[rz]? |donne[rz]?(?:-moi)? |montre[rz]?(?:-moi)? )(?:les )?(?:titres des )?"
        f"{_KINDS}{_FR_OF}",
    ),
    (Overview.PARTS, f"(?:montre(?:-moi)? )?(?:la |le )?(?:table des matieres|sommaire|plan){_FR_OF}"),
    (
        Overview.NAMES,
        f"(?:qui|quels) sont (?:tous )?(?:les )?(?:principaux )?(?:personnages|heros|noms)(?: principaux)?{_FR_OF}",
    ),
    (
        Overview.OCCURRENCES,
        "combien de fois (?:le mot |le nom )?(?P<what>.{1,60}?) "
        f"(?:est|apparait)(?:-il|-elle)?(?: (?:mentionne|nomme|cite)e?)?{_FR_OF}",
    ),
    (Overview.LENGTH, f"combien de (?:mots|pages|lignes)(?: (?:a|contient|compte|y a-t-il dans))? {_FR}"),
)

_ES = (
    "(?:(?:(?:el|la|este|esta|mi|los|las|estos|estas|del|al) )?(?:libro|novela|texto|historia|documento|archivo"
    "|articulo|informe|pdf|manual|proyecto|codigo|relato|obra|cuento)s?|esto|eso)"
)
_ES_OF = f"(?: (?:de |en |sobre )?{_ES})?"
_SPANISH = (
    (
        Overview.SUMMARY,
        f"(?:de que (?:trata|va|habla)|sobre que (?:trata|es))(?: {_ES})?|que (?:dice|cuenta|contiene) {_ES}",
    ),
    (Overview.SUMMARY, f"(?:resume|resumir|resumeme|resumen)(?: {_ES})?|como (?:termina|acaba|empieza|comienza) {_ES}"),
    (
        Overview.SUMMARY,
        "(?:(?:haz|dame|hazme|escribe)(?:me)? |cual(?:es)? (?:es|son) )?(?:(?:un|una|el|la|los|las|breve) )*"
        "(?:resumen|sintesis|trama|argumento|tema|temas|idea|ideas|puntos)"
        f"(?: principal(?:es)?| central(?:es)?)?{_ES_OF}",
    ),
    (
        Overview.AUTHOR,
        f"quien (?:es|fue) (?:el autor|la autora|el escritor|la escritora){_ES_OF}"
        f"|quien (?:escribio|ha escrito) {_ES}|autor",
    ),
    (Overview.NUMBER_OF_PARTS, f"cuant[oa]s {_KINDS}(?: hay| tiene| contiene| son)?(?: en)?(?: {_ES})?"),
    (
        Overview.PARTS,
        "(?:cuales son |lista |dame |muestrame |enumera )(?:todos |todas )?(?:los |las )?"
        f"(?:titulos de (?:los |las ))?{_KINDS}{_ES_OF}",
    ),
    (Overview.PARTS, f"(?:muestrame )?(?:el |la )?(?:indice|tabla de contenidos?){_ES_OF}"),
    (
        Overview.NAMES,
        "(?:quienes|cuales) son (?:todos )?(?:los )?(?:principales )?"
        f"(?:personajes|protagonistas|nombres)(?: principales)?{_ES_OF}",
    ),
    (
        Overview.OCCURRENCES,
        "cuantas veces (?:se (?:menciona|nombra|cita)|aparece) (?:a )?(?:la palabra |el nombre )?"
        f"(?P<what>.{{1,60}}?){_ES_OF}",
    ),
    (Overview.LENGTH, f"cuantas (?:palabras|paginas|lineas)(?: (?:tiene|hay en|son))? {_ES}"),
)

_IT = (
    "(?:(?:(?:il|lo|la|questo|questa|mio|mia|i|le|questi|queste|del|della|nel|nella|sul) |quest'|l'|dell'|nell')?"
    "(?:libro|romanzo|testo|storia|documento|file|articolo|rapporto|pdf|manuale|progetto|codice|racconto|opera)"
    "|questo|cio)"
)
_IT_OF = f"(?: (?:di |in |su )?{_IT})?"
_ITALIAN = (
    (Overview.SUMMARY, f"(?:di (?:che )?cosa|di che) (?:parla|tratta|si tratta)(?: (?:in )?{_IT})?"),
    (Overview.SUMMARY, f"(?:riassumi|riassumere|riassunto)(?: {_IT})?|come (?:finisce|inizia|comincia) {_IT}"),
    (Overview.SUMMARY, f"(?:che )?cosa (?:dice|racconta|contiene) {_IT}"),
    (
        Overview.SUMMARY,
        "(?:(?:fammi|dammi|scrivi) |qual e |quali sono )?(?:(?:un|una|il|lo|la|i|gli|le|breve) |l')*"
        f"(?:riassunto|sintesi|trama|argomento|tema|temi|idea|idee|punti)(?: principal[ei]| central[ei])?{_IT_OF}",
    ),
    (
        Overview.AUTHOR,
        f"chi (?:e|era) (?:l'autore|l'autrice|lo scrittore|la scrittrice){_IT_OF}|chi ha scritto {_IT}|autore",
    ),
    (Overview.NUMBER_OF_PARTS, f"quant[ie] {_KINDS}(?: ci sono| ha| contiene| sono)?(?: in)?(?: {_IT})?"),
    (
        Overview.PARTS,
        f"(?:quali sono |elenca |dammi |mostrami )(?:tutti )?(?:i |gli |le )?(?:titoli dei )?{_KINDS}{_IT_OF}",
    ),
    (Overview.PARTS, f"(?:mostrami )?(?:l'|il )?(?:indice|sommario){_IT_OF}"),
    (
        Overview.NAMES,
        "(?:chi|quali) sono (?:tutti )?(?:i )?(?:principali )?"
        f"(?:personaggi|protagonisti|nomi)(?: principali)?{_IT_OF}",
    ),
    (
        Overview.OCCURRENCES,
        "quante volte (?:viene (?:menzionat|nominat|citat)[oa]|compare|appare) (?:la parola |il nome )?"
        f"(?P<what>.{{1,60}}?){_IT_OF}",
    ),
    (Overview.LENGTH, f"quante (?:parole|pagine|righe)(?: (?:ha|ci sono in|sono))? {_IT}"),
)

FORMS = (*_ENGLISH, *_GERMAN, *_FRENCH, *_SPANISH, *_ITALIAN)
"""What is asked, and the whole question as a regular expression, without its last question mark. Groups: `what` or
`word` is a kind of part, or the words that are counted."""
