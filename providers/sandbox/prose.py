"""Short, believable free text: a reply, a summary, or a plain answer, in the language of the question."""

import re

GERMAN = re.compile(
    r"\b(?:der|die|das|und|ist|nicht|wir|ich|bitte|für|mit|ein|eine|wie|was|Sie)\b|[äöüß]", re.IGNORECASE
)
ENGLISH = re.compile(r"\b(?:the|and|is|not|we|please|for|with|an?|how|what|you|are|of|to)\b", re.IGNORECASE)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[^\W\d_]{5,}")
SUMMARY = re.compile(r"summar|zusammenfass|fasse? .{0,40}zusammen|key points|kernpunkte", re.IGNORECASE)
REPLY = re.compile(r"\breply\b|\brespond\b|antwortentwurf|beantworte|antworte\b|draft an", re.IGNORECASE)
#: Words that are no topic.
DULL = frozenset(
    [
        "bitte",
        "unsere",
        "unseren",
        "unserer",
        "können",
        "würden",
        "haben",
        "werden",
        "hallo",
        "guten",
        "please",
        "would",
        "could",
        "about",
        "there",
        "hello",
        "their",
        "which",
        "sollte",
        "sehr",
        "geehrte",
        "damen",
        "herren",
        "nicht",
        "einen",
        "einer",
        "diese",
        "dieser",
        "after",
        "before",
    ]
)
TEMPLATES = {
    ("reply", "de"): (
        "Guten Tag,\n\nvielen Dank für Ihre Nachricht. Wir kümmern uns um {topic} und melden uns bis morgen"
        " Mittag mit einem festen Vorschlag bei Ihnen.\n\nFreundliche Grüße\nIhr Kundenservice"
    ),
    ("reply", "en"): (
        "Hello,\n\nthank you for your message. We are looking into {topic} and will come back to you with a"
        " definite answer by noon tomorrow.\n\nKind regards,\nYour customer service"
    ),
    ("summary", "de"): "Kurz gefasst: {first} Wichtig sind außerdem {topic}. Nächster Schritt: {last}",
    ("summary", "en"): "In short: {first} Also important: {topic}. Next step: {last}",
    ("answer", "de"): (
        "Das hängt vor allem von {topic} ab. Als Anhalt: zuerst den Bedarf klären, dann zwei bis drei"
        " Möglichkeiten vergleichen und die günstigste Lösung in kleinem Umfang erproben."
    ),
    ("answer", "en"): (
        "That depends mainly on {topic}. As a rule: settle what is needed first, compare two or three"
        " options, and try the most economical one on a small scale."
    ),
}


def write(instruction: str, text: str) -> str:
    """An answer to `text` as `instruction` (the system prompt) or the text itself asks for it."""
    language = language_of(text)
    asked = f"{instruction}\n{text[:500]}"
    kind = "summary" if SUMMARY.search(asked) else "reply" if REPLY.search(asked) else "answer"
    sentences = SENTENCE_END.split(text.strip())
    first, last = sentences[0][:200], sentences[-1][:200]
    return TEMPLATES[kind, language].format(topic=topic_of(text, language), first=first, last=last)


def language_of(text: str) -> str:
    """`de` or `en`, by the commonest words."""
    return "de" if len(GERMAN.findall(text)) > len(ENGLISH.findall(text)) else "en"


def topic_of(text: str, language: str) -> str:
    """The two longest telling words of `text`, joined for a sentence."""
    words = dict.fromkeys(word for word in WORD.findall(text[:2000]) if word.casefold() not in DULL)
    telling = sorted(words, key=len, reverse=True)[:2]
    if not telling:
        return "Ihr Anliegen" if language == "de" else "your request"
    return (" und " if language == "de" else " and ").join(telling)


def padded(text: str, words: int) -> str:
    """`text` repeated until it surely has `words` pieces, for answers of a wished length."""
    return " ".join([text] * (words // max(1, len(text.split())) + 1))
