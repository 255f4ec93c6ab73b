"""`make test-live`: the cases of the real providers, through the gateway, for €1.00 a month at most.

The service starts with the operator's `OPENAI_API_KEY` and `ANTHROPIC_API_KEY` (also from `.env`) and with
data of its own, under `live` in the data folder. All calls belong to one organization, and its cap is the
spend limit. The models are the settings' defaults, the small one of each provider, or what
`LIVE_OPENAI_MODEL` and `LIVE_ANTHROPIC_MODEL` name.

What a real model says nobody can know before, so each answer has to keep to what holds of any: the tool is
called, the label is one of the labels, the end is the right one, tokens were counted, its cost was charged.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from aigov.environment import Environment
from tests.conformance import anthropic_cases, asking, openai_cases
from tests.conformance.asking import Result, client_errors
from tests.conformance.case import CLIENTS, Case, Client, Refusal, Way
from tests.conformance.clients import Clients, Loop, opened
from tests.conformance.said import first_wrong, said
from tests.conformance.service import PROVIDERS, SOURCE_FOLDER, NoService, Service, serving, wait_until

CAP_EUR = "1.00"
ORGANIZATION = "Live conformance"
NO_KEYS = (
    "Neither OPENAI_API_KEY nor ANTHROPIC_API_KEY is set, so there is no real provider to ask: nothing was"
    " tested."
)
CASES = (*openai_cases.CASES, *anthropic_cases.CASES)
REFUSALS = (*openai_cases.REFUSALS, *anthropic_cases.REFUSALS)


@dataclass(frozen=True)
class Call:
    """A case, asked of one model in one way."""

    case: Case
    way: Way
    model: str
    asynchronous: bool = False

    def __str__(self) -> str:
        how = f"{self.way}, async" if self.asynchronous else self.way
        return f"{self.case} ({how}) → {self.model}"


class CapReached(Exception):
    """The organization has spent what it may."""


@dataclass
class Tally:
    """What has come of the calls; each is told as it ends."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)

    def note(self, what: object, wrong: str | None) -> None:
        if wrong is None:
            self.passed += 1
            print(f"ok      {what}", flush=True)
        else:
            self.failed.append(str(what))
            print(f"FAILED  {what}: {wrong}", flush=True)


def main(*features: str) -> int:
    """The exit status: 0 where all is well, or there is nobody to ask.

    Args:
        features: of the cases to ask; without any, all are asked.
    """
    environment = Environment(SOURCE_FOLDER / ".env")
    if not environment.providers():
        print(NO_KEYS)
        return 0
    variables = {name: environment.given(name) or "" for name in PROVIDERS}
    data = Path(environment.text("AIGOV_DATA_DIR", default=str(SOURCE_FOLDER / ".data"))).resolve()
    try:
        with (
            serving(
                data / "live", organization=ORGANIZATION, cap_eur=CAP_EUR, providers=variables
            ) as service,
            opened() as loop,
        ):
            return run(service, loop, features)
    except NoService as error:
        print(error, file=sys.stderr)
        return 1


def run(service: Service, loop: Loop, features: Sequence[str] = ()) -> int:
    """Asks everything, and tells what came of it."""
    models = models_of(service)
    print(
        f"Asking {' and '.join(models.values())} through {service.address}, for €{CAP_EUR} a month at most."
    )
    clients, tally = loop.clients(service.address, service.key), Tally()
    spent_before = spent(service)
    for call in calls_of(models):
        if features and call.case.feature not in features:
            continue
        try:
            tally.note(call, outcome(loop, clients, service, call))
        except CapReached:
            tally.note(call, f"the cap of €{CAP_EUR} a month is used up, and the rest is left out")
            break
    for refusal in REFUSALS:
        if refusal.client in models:
            asked = clients if refusal.key is None else loop.clients(service.address, refusal.key)
            tally.note(refusal, wrong_refusal(loop, asked, refusal, models[refusal.client]))
    tally.note("The books", wrong_books(service))
    print(f"{tally.passed} passed, {len(tally.failed)} failed, for €{spent(service) - spent_before}.")
    return 1 if tally.failed else 0


# --- What is asked


def models_of(service: Service) -> dict[Client, str]:
    """The model to ask of each provider that has a key."""
    named = {client: os.environ.get(f"LIVE_{client.upper()}_MODEL") for client in CLIENTS}
    for client, model in named.items():
        if model:
            use(service, client, model)
    listed = [model for model in service.get("/v1/models").json()["data"] if model["owned_by"] in CLIENTS]
    # The small one comes first.
    return {model["owned_by"]: model["id"] for model in reversed(listed)}


def use(service: Service, client: Client, model: str) -> None:
    """Makes `model` the organization's small one. Raises NoService where it cannot be used."""
    body = {"scope": "organization", "value": {"small": model}, "reason": "make test-live"}
    answer = service.put(f"/api/v1/settings/ai.providers.{client}.models", body)
    if answer.status_code >= 400:
        raise NoService(f"LIVE_{client.upper()}_MODEL: {answer.text}")
    wait_until(
        lambda: service.get(f"/v1/models/{model}").status_code == 200,
        f"LIVE_{client.upper()}_MODEL: {model} is not to be had; perhaps it has no price.",
    )


def calls_of(models: Mapping[Client, str]) -> Iterator[Call]:
    """Each case of its own provider's model in all ways, of the other's in one, and a few of the tiers."""
    for case in CASES:
        if not case.live:
            continue
        if case.client in models and not case.ours:
            for way in case.ways:
                yield Call(case, way, models[case.client])
        if case.other in models and not (case.ours or case.refused):
            yield Call(case, case.ways[-1], models[case.other])
        if case.ours:
            yield Call(case, "plain", "auto")
    for client in models:
        first = next(case for case in CASES if case.client == client)
        for tier in ("auto", "small", "large"):
            yield Call(first, "stream", tier)
        for way in first.ways:
            yield Call(first, way, models[client], asynchronous=True)


# --- What must hold


def outcome(loop: Loop, clients: Clients, service: Service, call: Call) -> str | None:
    """What is wrong with the answer to `call`; None: nothing."""
    client = clients.of(call.case.client, asynchronous=call.asynchronous)
    try:
        result = loop.run(asking.ask(client, call.case, call.way, call.model, cached=False))
    except (client_errors(call.case.client), ValueError) as error:  # or the client cannot read the answer
        if getattr(error, "status_code", None) == 402:
            raise CapReached from error
        return f"{type(error).__name__}: {error}"
    wrong = first_wrong(call.case.holds, said(result))
    return wrong or next(filter(None, (wrong_charge(service, id) for id in ids_of(result))), None)


def ids_of(result: Result) -> list[str]:
    if "answers" in result:
        return [answer["id"] for answer in result["answers"]]
    chunks = result["chunks"]
    return [chunks["id"] if "id" in chunks else chunks["events"][0]["message"]["id"]]


def wrong_charge(service: Service, id: str) -> str | None:
    """An answer's tokens were counted, and it was paid at its true cost."""
    decision = service.get(f"/api/v1/completions/{id}")
    if decision.status_code != 200:
        return f"{id} is not to be looked up: {decision.text}"
    attempt: dict[str, Any] = decision.json()["attempts"][-1]
    if not (attempt["usage"]["input_total"] > 0 and attempt["usage"]["output_total"] > 0):
        return f"{id} has no usage"
    if not Decimal(attempt["cost_eur"]) > 0 or attempt.get("estimated"):
        return f"{id} was not charged at its true cost: {attempt}"
    return None


def wrong_refusal(loop: Loop, clients: Clients, refusal: Refusal, model: str) -> str | None:
    client = clients.of(refusal.client)
    asked = asking.refused(client, refusal.client, refusal.call, refusal.model or model, stream=False)
    error = loop.run(asked)
    if type(error).__name__ != refusal.error or error.status_code != refusal.status:
        return f"{refusal.error} is expected, and {error!r} has come"
    return None


def spent(service: Service) -> Decimal:
    return Decimal(service.get("/api/v1/budget").json()["spent_eur"])


def wrong_books(service: Service) -> str | None:
    """Nothing is held any more, the cap is kept, and the ledger balances."""
    budget = service.get("/api/v1/budget").json()
    if Decimal(budget["held_eur"]) != 0:
        return f"€{budget['held_eur']} is still held"
    if not 0 < Decimal(budget["spent_eur"]) <= Decimal(CAP_EUR):
        return f"€{budget['spent_eur']} was spent"
    checked = service.command("check_ledger")
    return None if checked.returncode == 0 else f"check_ledger: {checked.stdout}{checked.stderr}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
