"""Which language a text is written in, by the pairs of ASCII letters that are more frequent in it than in others.

The pairs were counted in the translated messages of free programs. `_` is the border of a word.
"""

import functools
import re
from collections import Counter

# language -> the 80 pairs that tell it from the others best
_PAIRS = {
    "French": (
        "e_ _d s_ _l de es on t_ re _p le r_ ti nt _c te ur _e io la ou ne pa tr at is _r _u co ut ch ns po "
        "eu it fi as qu un ct ue ec ce ic ss pe au ac nc oi ca nn rt du bl su if rs ex mp ag pl iq rr up pp "
        "ts cu cr ui gn mm ib x_ uc _q ff uv cl ux"
    ),
    "German": (
        "er en n_ e_ t_ ch r_ de te _d ei ge in un be ng ie ic se _f es nd el _w ne sc nt ig _u _g ss he ht "
        "di lt hl we au rt rd _z rs zu ll us ze tz ab nn ke hr fe gr ru vo wi uf ck eh ls zt rg mm eb rn gt "
        "nz nk gs rh rw rf ff hs lb sg wu sw pf nb"
    ),
    "Spanish": (
        "e_ o_ a_ de _d n_ _e ci s_ es en _s _l _c er l_ la ar re ra el co se ac ic do no ca nt on or al ad "
        "ec tr os _r id _u si da lo un ro di to ue pa fi pe cc qu nc ce mb ct pu op ex bl sp mp if pl rm cu "
        "_q rr fu ua ub nv nf uc rc cl xi pc xp sq"
    ),
    "Portuguese": (
        "o_ a_ e_ _d de s_ _p _a _n ar es do _e r_ ra re _c te _o co os ad da nt po or m_ ve ca pa al ri se "
        "_f l_ ma _u ss em qu ic om id fi fo um ec lo io ia ci pe vo ex ui iv oc so oi mp nc ce sp su nh _q "
        "ue ou rq rm ua rr ef lh cr nv nf cu xi ao"
    ),
    "Italian": (
        "e_ a_ o_ on _p _d n_ _s at to ta _i er re i_ l_ _c il _n di no st la _l co se ne le _u es el io al "
        "po it ri nt un si me ss ic ll ch ca pe lo zi os bi fi pi tt ol so ib gi ia pu ec qu iz mp ce ab _q "
        "su if rc ui gg ua zz pp cr cc uo nz pz vv"
    ),
    "Swedish": (
        "r_ n_ er in t_ _f en te de _s _i _a an st ar nt nd ll ta ti ra ng at d_ et l_ tt il me g_ ka ad om "
        "da ns _h ge kt ko ig ut fi sk io ed ck ga rd nv rs av v_ nn so iv pp lt gr gs mm ts rv sl oc fr dr "
        "mn rn ds gg nk kn nf gt fl eh yc rl vs kv"
    ),
    "Danish": (
        "e_ er r_ en t_ de n_ re te nd in _f et st _i le ke el _e ti l_ ge il ng or se ve g_ fo me _o sk kk "
        "ed om ik _h d_ m_ ka ls ll ig af rk rs tt vi ru f_ ns kt iv og rd gl kr ds ld br gs ug mm dr ud dt "
        "lg gn fe dl gt sn fr hv vn dv jl js df jr"
    ),
    "Finnish": (
        "n_ a_ en st tt is _k te in it ta i_ _t _v et li tu si ll ti _o va el se on ko ei al oi to yt ss os "
        "ol aa sa mi ai us ee ki ty im vi ke _j nn kk ik ku ks ii ja jo ot oh lu sk uu uo iv uk rk ky ht _y "
        "mu sy pp rj ym ys lm hd yh yy rh lk yl hk"
    ),
    "Dutch": (
        "n_ er t_ de ee el an ge re _v et st rd me ie eg _b he is _h _o ec f_ of va aa ve ij nd oe pa ns be "
        "ll kk ts vo ht jk sl ls k_ ak ke dt rb ef bi fg wa mt pi pt pl br c_ ap rw gu um op md rg af ds wo "
        "j_ oo ft nv _w rs ct ag b_ sc yx mq qc vx"
    ),
    "Icelandic": (
        "r_ _e a_ i_ in _s t_ er _m nd il ar ki st nn _h _v ta ek ti m_ kk _g le yn _l ri ni my sk gi na ur "
        "ng ir _b _f di f_ kr g_ vi ga ei mi um ll ld tu eg tt af pn rt ja ey ef nu if ns yr br fy nm rk gt "
        "pp hv kn gj dd nl sn hr fl yf hl kj fj bm"
    ),
    "Catalan": (
        "a_ s_ _d de _e es l_ _l er _a t_ _c r_ en el ci la re no nt ca ar ra or co al pe _u ac si un it d_ "
        "ic om da ad tr qu fi ia _h ec ue id ha am ct nc ss mp ns rs ls xe gu sp ex mb _q rr rm ix x_ pl ua "
        "fe cc tx bl b_ nf tz aq eu xi cl pc tg xa"
    ),
    "Irish": (
        "_a n_ ch mh ai h_ ha r_ ea an _n _c _s id th ar _l d_ om in ir il ad bh ac le l_ dh _f na _i _r he "
        "nn _g it am ag co as di io ei im ho ht gh oi oc fh sc hr eo ui ca rr ga ab ig hn hu cr ba gu nm sh "
        "ao ip hb rb ua go cu nr uc hs ms gc hf hc"
    ),
    "Czech": (
        "_p _n _s o_ ov st po _v t_ u_ ne ro na _z at ou pr y_ _k je _o or no _j va od lo ch ko ze m_ ho so "
        "bo tu ce do vy ob dn v_ sk za ot vo av ku az ub zn ez ba uj kl kt sl iv zo tn ep up yb oz ok hy eb "
        "ln ky by vn tl lz yp dp tv yl zd dk zp jm"
    ),
    "Polish": (
        "ie ni a_ _p _n _w na an y_ _z st cz ow po u_ wa za wi _o rz od pr ia wy ze zy _u w_ ci ko ik mo do "
        "ka ny mi go aw eg _j ej ty we ki sz yc ok pi j_ z_ zn cj pl ym ob dz kr yt wo zo zi zw ys dn oz ln "
        "by yw wn ji ry uc tw ew zm iw dc cy ws yj"
    ),
    "Hungarian": (
        "_a a_ el t_ sz le s_ en k_ et _k _e _m z_ me eg te at _h _f ne l_ al em az m_ ez gy ha ke ol ek tt "
        "ny cs be ak so ze je rt va lt ll sa he y_ fe ye oz ly ok ot ss zt ki ho ag ap hi ba fo jl zi zo zn "
        "go lm yo tk lh eh gj tv lv bb pc mk yi yz"
    ),
    "Slovak": (
        "e_ _p a_ _s _n ov pr po _v o_ ie re st na _z u_ ne ni or va je _o to ia y_ v_ ro ko lo ri od bo ad "
        "sa no _j ch zo ak ho ob ci k_ ed tu vo ok uj vy dn az ou za zn av ku up oz ba kt br eb ep sl pl tn "
        "aj ky vn by tl ln yb pn hy ah tv dp vl bn"
    ),
    "Croatian": (
        "a_ e_ je _p i_ _s na _n re an po u_ ni pr ra ka ti _o ij _i nj ta ko ri ne li no _k va _u ja za _z "
        "og mo da od it av em ak lj to ov om os dr _j aj ed ik ek ju sa oj ot iz gu ke az iv gr vr vo dn zn "
        "kl ok j_ oz zi ji tv vn vl zm mj ih pk vj"
    ),
    "Slovenian": (
        "a_ e_ i_ na _n _p o_ ni ra po _v pr st re je no ka ti an ne _z _o lo mo za ko os ik me il ve ri v_ "
        "ed od ev ov nj aj av vi og ja ak do go lj iz ol az _j ke k_ sk vn ot ki ga dn vr zn j_ ob ln kl ih "
        "dr ok ej br zb ji ju jo sn dm dp zl vs zr"
    ),
    "Romanian": (
        "e_ re _d _s _a te de ar i_ _c er ea in nt at ul u_ st un l_ tr fi _f ec ru ri ie se or ne nu al ic "
        "ca pe me il im ac iu co lo lu ut _u ce ui di cu tu ci ur oa ct sp um az oc if ii mp fo op nc iz sc "
        "pu bu ex rm ep iv af pt ip b_ eb cr rc xi"
    ),
    "Albanian": (
        "e_ _p _t _n t_ r_ i_ sh _e et it _m _k si ar _i je ur ti on ri nd me im _g gj ht ve he pa mi ua dh "
        "ku ja tu nj ru fi du nu ll ue rm mb rr mu ap jt kt ga gu ks uh fa aq uk _q go dr vl hu tj hm zg hf "
        "oh ej yr hk dg qe dj jy mr qi hj mj hp pj"
    ),
    "Turkish": (
        "n_ la i_ r_ er le _b in _d ar an en _i de ma ir ya _k _y k_ il _g al ri li me bi nd am si ek ol ay "
        "em _o ak ul da ge as yo di kl ll sa z_ mi do ba ki iz rl ik lm ye ku az sy ml nu gi lu ey iy rm kt "
        "bu rd ld nm nl ok uy tl ah zl tm yi yu oy"
    ),
    "Lithuanian": (
        "s_ i_ ti _p o_ in as ai pa ta ra _k is ei ma ri ik li ar ia nt im la ka us au am ni os _r vi ki tu "
        "av ie io si mo to kl ur je uo ko kt ir ek yt od ty pi oj ks ap nu nk iu ot ga ym su uk dy gr ju ij "
        "yk ep ud yg gt fa rp vy ly jo yr ji bj yb"
    ),
    "Latvian": (
        "s_ a_ ie _p _i u_ ai i_ at _n _a as _v _k st ta iz ne ar es ti va da pa la um ka m_ tu ja no ek et "
        "ks ot ma sa pi ir ts _r to vi ko au ik am ak ei ju ms ku _j ga og rt ap us ba ev dz zv rs sl ij uk "
        "tn uz mu kr bu zi jo zm zd rp gs ln gd tb"
    ),
    "Estonian": (
        "e_ i_ _v se ta _k s_ is mi st te al _t tu it at d_ li le _m us as va ri da _o im si ik ks ne id ol "
        "ka ud ma ja ad am ku di ee ut ki ak ek vi oo em ii su _j ei k_ ga aa uu ld tt av rg lt rj ab b_ du "
        "rv gu tm ev v_ aj ui rk ju lj ah dm lg vu"
    ),
    "Esperanto": (
        "o_ a_ n_ ta la _a _e s_ _l i_ on lo en _k an or as ro st ti al si ne es _m j_ to po ig nt ra oj me "
        "il do os u_ is ma mo ko ka tr no aj iu pa jn gi va ek vi om em bl su ki go ap eb ga gn sp kt if uz "
        "pl zi mp rg gr ld kr uj nk uf kc lp dv kz"
    ),
    "Vietnamese": (
        "_t ng _c g_ n_ i_ _k c_ th ch kh nh _n _l h_ t_ _h _b _m u_ tr _d p_ o_ hi _v y_ _g m_ ph ti ho ha "
        "gi _r _x ro hu ay uy _q qu bi ki ao gh ua x_ xu eo cu ck ff xe fs lp gp tc q_ tp td sg fd xo qw dw "
        "fp dc bf cp cd wm kf cb fm vm wd xr cf vg"
    ),
    "Western": (
        "e_ t_ s_ in d_ _t re er _a _i on r_ _c or te _o _f th at ti le ed he se co no _r to io is ec y_ _b "
        "ng g_ ot ct _w fi ou ca fo pe f_ us ns ut ex h_ of be ea bl ab ul ss op ce hi ld oc ow nc wi up ry "
        "rr ef ck pt pp w_ x_ ly wa wh xp dd wr wn"
    ),
}
_WORD = re.compile(rb"[A-Za-z\x80-\xff]+")
_FEWER_PAIRS = -0.7  # log of the odds for each pair that another language explains and this one does not
_MIN_ODDS = -9.0


def language_odds(data: bytes) -> dict[str, float]:
    """Return language -> log of its odds against the language that fits best, at least -9; 0 for the best.

    data: text in any encoding that contains ASCII; only pairs of its ASCII letters count. Languages that are written
    in other letters are missing.
    """
    pairs: Counter[bytes] = Counter()
    for word in _WORD.findall(data.lower()):
        bordered = b"_" + word + b"_"
        pairs.update(bordered[start : start + 2] for start in range(len(bordered) - 1))
    hits = {language: sum(pairs[pair] for pair in known) for language, known in _known().items()}
    most = max(hits.values())
    return {language: max(_MIN_ODDS, _FEWER_PAIRS * (most - number)) for language, number in hits.items()}


@functools.cache
def _known() -> dict[str, tuple[bytes, ...]]:
    return {language: tuple(pair.encode() for pair in pairs.split()) for language, pairs in _PAIRS.items()}
