"""The classification tasks that the sandbox understands, in German and English, by their words.

A task is a set of classes; each class has names (as labels come in many wordings) and telling words
with a weight. `scores` adds up the weights found in a text. That is all the understanding there is,
and it is enough: the models' errors are put on top of it (see `brain`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

LABEL_LINE = re.compile(r"one of these labels and nothing else[^:\n]*:[ \t]*([^\n]+)", re.IGNORECASE)

#: How many letters of a word it is found by; it has as many, or is a single sign.
START = 3


@dataclass(frozen=True, slots=True)
class Class:
    names: tuple[str, ...]
    words: Mapping[str, float]


def _class(names: str, **weighted: str) -> Class:
    """`names` and the words of each weight (`w3="budget,quote"` weighs 3) as a class."""
    words = {word: float(weight[1:]) for weight, line in weighted.items() for word in line.split(",")}
    return Class(tuple(names.split(",")), words)


LEADS = {
    "A": _class(
        "a,hot,heiß,sales ready",
        w3="freigegeben,freigabe,approved,signed-off,signed off,entscheidung fällt,decision maker,"
        "zugestimmt,unterschreiben,to sign,can sign,ausschreibung,tender,binding offer,verbindliches angebot,"
        "sofort bestellen,budget ist vorhanden,set aside,released the funds,board decides,investitionsrahmen,"
        "purchase order,eingeplant,insolvent,stellt den dienst",
        w2="dringend,urgent,ablösen,replacing,replacement,nächste woche,next week,diese woche,this week,"
        "geschäftsführ,managing director,head of purchasing,leiterin einkauf,contract,vertrag,lizenzen,"
        "licences,seats,go live,by friday,bis donnerstag,quote,angebot über,end of the quarter,spätestens,"
        "bis ende,roll out,ausrollen,by end of",
        w1="budget,angebot,offer,termin,bis zum,before june",
    ),
    "B": _class(
        "b,warm",
        w3="vergleichen,comparing,mehr über,more information,preisliste,price list,unverbindlich,demo for,"
        "interesse an,interested in,case studies,whitepaper,testzugang,trial account,brochure,katalog,"
        "überleg,evaluate,exploring,collecting information,erste informationen,learn more,engere auswahl,"
        "building a list,may be interesting,interessant sein,zu informieren",
        w2="informationen,interest,interess,webinar,nächstes jahr,next year,frühestens,later this year,"
        "später,at some point,im frühjahr,des frühjahrs,referenzen,empfohlen,recommended,vorführung,"
        "product tour,richtpreise,rough prices,produktvorstellung,curious,referenz,mittelfristig,"
        "schnittstelle",
        w1="messe,noch nicht,lösung,plan,markt",
    ),
    "C": _class(
        "c,cold,kalt,unqualified",
        w3="bachelorarbeit,thesis,student,schüler,school,referat,praktikum,internship,bewerb,kostenlos,hobby,"
        "free version,unsubscribe,kein bedarf,no need,no purchase,kaufen möchte ich nichts,agentur,agency,"
        "löschen sie,privat,private person,just looking,keine firma,eine firma habe ich nicht,market study,"
        "no commercial,samples and posters",
        w2="es besteht kein,bieten ihnen,aus neugier,nur mal,umfrage,nicht anrufen,lebenslauf,my cv,"
        "do not need,reseller,single,zu hause",
        w1="bloß,gebraucht,design,logo",
    ),
}
EMAILS = {
    "complaint": _class(
        "complaint,complaints,beschwerde,beschwerden,reklamation",
        w3="beschwer,reklamation,enttäuscht,inakzeptabel,complain,disappoint,unacceptable,terrible,unhappy,"
        "money back,geld zurück,verärgert,mangelhaft,beschädigt,broken,wrong item,unfreundlich,schadenersatz",
        w2="kaputt,kratzer,faulty,ruined,leaking,damaged,immer noch,nicht erschienen,zu spät,falsche,refund,"
        "ersatz,nobody calls,stellungnahme,wobble,missing,at once,umgehend",
        w1="zum dritten mal,second time,very,niemand,waiting",
    ),
    "enquiry": _class(
        "enquiry,inquiry,enquiries,anfrage,question,frage,general",
        w3="eine frage,a question,could you tell,können sie uns mitteilen,do you ship,do you offer,"
        "bieten sie,what is the difference,interessieren uns,wondering,would you recommend,"
        "würden sie empfehlen,gibt es einen,öffnungszeiten,welche farbe,is there,recommendation",
        w2="verfügbar,available,lieferzeit,how long,wie lange,which of,welche,suitable,zugelassen,"
        "falls nicht,can we,ist die",
        w1="?,datenblatt,website,termine",
    ),
    "order": _class(
        "order,orders,bestellung,bestellungen,auftrag,purchase",
        w3="bestellen,hiermit,purchase order,nachbestellung,repeat order,auftrag,like to order,and order,"
        "nehmen ihr angebot an,accept your offer,please send us another,schicken sie uns bitte nochmals,"
        "our order,bitte liefern sie",
        w2="lieferadresse,delivery address,stück,item no,artikelnummer,deliver to,confirm the delivery,"
        "paletten,kartons,units,boxes of,bestellnummer lautet,please ship,auftragsbestätigung",
        w1="bestell,order,warehouse,as last time",
    ),
    "invoice": _class(
        "invoice,invoices,billing,rechnung,rechnungen,payment,zahlung",
        w3="rechnung,invoice,zahlungseingang,mahnung,überwiesen,transferred,credit note,gutschrift,"
        "zahlungsfrist,zahlungserinnerung,abgebucht,e-rechnung",
        w2="umsatzsteuer,vat,buchhaltung,accounting,accounts payable,payment,iban,overdue,fällig,tax,billing",
        w1="betrag,amount,konto,account,balance,euro",
    ),
    "spam": _class(
        "spam,werbung,advertising,junk",
        w3="gewonnen,glückwunsch,congratulations,winner,claim your,klicken sie hier,click here,backlinks,seo,"
        "bitcoin,crypto,inheritance,million dollars,ohne rezept,verify your account,zugangsdaten,"
        "guaranteed returns,begrenztes angebot,limited offer",
        w2="klicken,prize,preis von,gratis,diskret,no risk,link,ranking,rabatt nur,dear friend,gesperrt,"
        "nur noch heute,vorkenntnisse",
        w1="jetzt,guarantee,now,nur für kurze zeit,tausende",
    ),
    "cancellation": _class(
        "cancellation,cancel,kündigung,storno,stornierung",
        w3="kündig,cancel,terminate,widerruf",
        w2="storn,zum nächstmöglichen",
    ),
    "support": _class(
        "support,technical,technik,technical support,it",
        w3="passwort,password,fehlermeldung,error message,abstürz,crash,log in,anmelden",
        w2="funktioniert nicht,not working,update,zurücksetzen,reset",
    ),
}
SENTIMENT = {
    "positive": _class("positive,positiv", w3="excellent,great,perfect,begeistert,zufrieden,toll,happy"),
    "negative": _class(
        "negative,negativ",
        w3="enttäuscht,disappoint,schlecht,terrible,inakzeptabel,unacceptable,broken,kaputt",
    ),
    "neutral": _class("neutral", w1="?,information,bitte,please"),
}
TASKS = (LEADS, EMAILS, SENTIMENT)


@lru_cache(maxsize=512)
def labels_in(instruction: str) -> tuple[str, ...]:
    """The labels that an instruction allows, bare or in JSON's quotes; none where it allows anything.

    `… one of these labels and nothing else: A, B, C`
    """
    line = LABEL_LINE.search(instruction)
    if line is None:
        return ()
    try:
        found = json.loads(f"[{line[1]}]")
    except ValueError:
        found = line[1].strip().rstrip(".").split(",")
    labels = (str(label).strip().strip("\"'“”`") for label in found)
    return tuple(dict.fromkeys(label for label in labels if label))


@lru_cache(maxsize=512)
def classes_for(labels: tuple[str, ...]) -> tuple[Class, ...] | None:
    """The class that each label names, where one task knows them all; else None."""
    for task in TASKS:
        found = [_named(label, task) for label in labels]
        classes = tuple(one for one in found if one is not None)
        if len(classes) == len(labels):
            return classes
    return None


def _named(label: str, task: Mapping[str, Class]) -> Class | None:
    name = label.casefold().replace("_", " ")
    return next((one for one in task.values() if name in one.names), None)


def scores(text: str, labels: Sequence[str]) -> list[float]:
    """How much `text` speaks for each of `labels`: 0 upwards, 3 for one telling word.

    Labels of no known task score where they stand in the text themselves.
    """
    text = text.casefold()
    index = _index(tuple(labels))
    if index is None:
        return [3.0 if label.casefold() in text else 0.0 for label in labels]
    # Few of a task's words begin with letters that stand in the text at all; only those are looked for.
    starts = {text[at : at + START] for at in range(len(text))}.union(text)
    points = [0.0] * len(labels)
    for start in index.keys() & starts:
        for word, weight, place in index[start]:
            if word in text:
                points[place] += weight
    return points


@lru_cache(maxsize=512)
def _index(labels: tuple[str, ...]) -> dict[str, list[tuple[str, float, int]]] | None:
    """The words of the labels' classes by their first letters; None for labels of no known task."""
    classes = classes_for(labels)
    if classes is None:
        return None
    index: dict[str, list[tuple[str, float, int]]] = {}
    for place, one in enumerate(classes):
        for word, weight in one.words.items():
            index.setdefault(word[:START], []).append((word, weight, place))
    return index


def truth(text: str, labels: Sequence[str]) -> str:
    """The label that the words of `text` speak for most; the first of equals."""
    points = scores(text, labels)
    return labels[points.index(max(points))]
