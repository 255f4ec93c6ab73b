"""What the demo sends: leads, e-mails and documents of made-up companies, in German and English.

`corpus.jsonl` has a text a line with its kind, its language and, for leads and e-mails, the right label.
A run of the demo sends most texts once, some again under another company's name, and some a second time
word for word, as forms that are sent twice and mails that are forwarded are.
"""

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["lead", "email", "reply", "summary", "contract"]

LEAD_LABELS = ("A", "B", "C")
EMAIL_LABELS = {
    "de": ("Beschwerde", "Anfrage", "Bestellung", "Rechnung", "Spam"),
    "en": ("complaint", "enquiry", "order", "invoice", "spam"),
}
INSTRUCTIONS: dict[tuple[Kind, str], str] = {
    ("lead", "de"): "Ordne die Anfrage ein: A kaufbereit, B interessiert, C kein Geschäft.",
    ("lead", "en"): "Classify the lead: A ready to buy, B interested, C no business.",
    ("email", "de"): "Ordne die E-Mail für den Posteingang einer Kategorie zu.",
    ("email", "en"): "Sort this e-mail of our inbox into a category.",
    ("reply", "de"): "Schreibe einen kurzen, freundlichen Antwortentwurf.",
    ("reply", "en"): "Draft a short, friendly reply.",
    ("summary", "de"): "Fasse die Notiz in zwei Sätzen zusammen.",
    ("summary", "en"): "Summarise the note in two sentences.",
    ("contract", "de"): "Welche Pflichten und Fristen ergeben sich für uns?",
    ("contract", "en"): "Which duties and deadlines follow for us?",
}
USE_CASES: dict[Kind, str] = {
    "lead": "lead_classification",
    "email": "email_triage",
    "reply": "reply_draft",
    "summary": "meeting_summary",
    "contract": "contract_review",
}
#: Contracts need the large model; everything else is tried with the small one first.
LARGE_ONLY: frozenset[Kind] = frozenset({"contract"})
COST_CENTRES: dict[Kind, str] = {
    "lead": "4100",
    "email": "4200",
    "reply": "4200",
    "summary": "4300",
    "contract": "4400",
}
#: So many orders are written about, each in several e-mails: as many as a good day brings.
ORDERS = 6
COMPANIES = {
    "de": (
        "Musterwerk Nord GmbH",
        "Beispielbau AG",
        "Probe & Partner KG",
        "Testhof Handels GmbH",
        "Modellwerke Süd GmbH",
    ),
    "en": (
        "Sample Works Ltd",
        "Example Foods plc",
        "Placeholder & Sons",
        "Specimen Trading Ltd",
        "Pattern Homes Ltd",
    ),
}
CLOSINGS = {"de": "Mit freundlichen Grüßen", "en": "Kind regards"}
USERS = ("u-anna", "u-ben", "u-chiara", "u-deniz", "u-eva", "u-finn")
OUTPUT_TOKENS_MAX = {"lead": 64, "email": 64, "reply": 200, "summary": 200, "contract": 300}
#: The shares of a run that are other companies' texts of the same wording, and plain repeats.
VARIED_SHARE, REPEATED_SHARE = 0.25, 0.30


@dataclass(frozen=True, slots=True)
class Text:
    """One text; `truth` is the class of its right label (a lead's A, B or C, an e-mail's English word)."""

    kind: Kind
    language: str
    truth: str | None
    text: str

    @property
    def labels(self) -> tuple[str, ...]:
        if self.kind == "lead":
            return LEAD_LABELS
        return EMAIL_LABELS[self.language] if self.kind == "email" else ()

    @property
    def right_label(self) -> str | None:
        """The truth in the words of `labels`; None where there are none."""
        if self.truth is None:
            return None
        names = LEAD_LABELS if self.kind == "lead" else EMAIL_LABELS["en"]
        return self.labels[names.index(self.truth)]


@dataclass(frozen=True, slots=True)
class Job:
    """A completion to be asked for: the body of the request, and the right answer where there is one."""

    body: dict[str, Any]
    right_label: str | None


@cache
def texts() -> tuple[Text, ...]:
    """Every text of the corpus."""
    lines = (Path(__file__).parent / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(Text(**json.loads(line)) for line in lines)


def jobs(count: int, *, run: int) -> list[Job]:
    """`count` completions to ask for; the same for the same `run`, and others in the next.

    Each text carries a ticket number that only this run gives out, so repeats are repeats within a run.
    """
    chances = random.Random(run)
    repeated = int(count * REPEATED_SHARE)
    varied = int(count * VARIED_SHARE)
    chosen = chances.choices(texts(), k=varied)
    while len(chosen) < count - repeated:
        rest = list(texts())
        chances.shuffle(rest)
        chosen += rest[: count - repeated - len(chosen)]
    first = [_job(text, 1001 + at, run, varied=at < varied) for at, text in enumerate(chosen)]
    chances.shuffle(first)
    return first + chances.choices(first, k=repeated)


def _job(text: Text, number: int, run: int, *, varied: bool) -> Job:
    """The request for `text`; `number` makes it this run's own and chooses its sender."""
    words = f"Ticket {run}-{number}\n\n{text.text}"
    if varied:
        company = COMPANIES[text.language][number % len(COMPANIES[text.language])]
        words = f"{words}\n\n{CLOSINGS[text.language]}\n{company}"
    body: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": INSTRUCTIONS[text.kind, text.language]},
            {"role": "user", "content": words},
        ],
        "use_case": USE_CASES[text.kind],
        "tier": "large" if text.kind in LARGE_ONLY else "auto",
        "user": USERS[number % len(USERS)],
        "max_output_tokens": OUTPUT_TOKENS_MAX[text.kind],
        "metadata": _metadata(text, number, run),
    }
    if text.labels:
        body["labels"] = list(text.labels)
    return Job(body, text.right_label)


def _metadata(text: Text, number: int, run: int) -> dict[str, str]:
    metadata = {"cost_centre": COST_CENTRES[text.kind]}
    if text.kind == "lead":
        metadata["lead_id"] = f"L-{run}-{number}"
    if text.truth in ("order", "invoice"):
        metadata["order_id"] = f"O-{run}-{number % ORDERS}"
    return metadata
