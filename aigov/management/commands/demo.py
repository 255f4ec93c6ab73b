"""`manage.py demo`: the service with a demo organization, and a few hundred completions to look at."""

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from aigov import service
from aigov.demo import billed, cast, corpus, figures, reported, season, traffic
from aigov.demo.cast import Cast
from aigov.demo.prices import load_prices
from aigov.organizations.models import Organization

REQUESTS = 300
REQUESTS_MAX = 10_000
#: How often progress is shown where the output is no terminal.
PROGRESS_STEPS = 5
#: Refusals that are the product's work and no failure: the cap is reached, the key may not.
EXPECTED_STATUS = {200, 402}


class Command(BaseCommand):
    help = "Runs the service with a demo organization, sends it completions and shows what they cost."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--exit", action="store_true", help="stop after the table")
        parser.add_argument("--requests", type=int, default=REQUESTS, help=f"how many ({REQUESTS})")

    def handle(self, *args: Any, **options: Any) -> None:
        count = min(max(options["requests"], 1), REQUESTS_MAX)
        show = partial(self.show, count=count, then_exit=options["exit"])
        sys.exit(service.serve(on_ready=show, log_folder=settings.AIGOV_DATA_DIR / "log"))

    def show(self, address: str, *, count: int, then_exit: bool) -> int | None:
        """Plays the demo against the service at `address`; the exit status where it is to stop then."""
        try:
            players = cast.assemble(settings.AIGOV_DATA_DIR)
            players.runs += 1
            cast.keep(players, settings.AIGOV_DATA_DIR)
            self._play_past(players)
        finally:
            connections.close_all()
        answers = asyncio.run(self._play(players, address, count))
        try:
            reported.report_named(
                organization=Organization.objects.get(pk=players.organization_id),
                jobs=[answer.job for answer in answers if answer.answered],
                acting=cast.ACTING,
            )
            billed.read_bills()
        finally:
            connections.close_all()
        failed = any(answer.status not in EXPECTED_STATUS for answer in answers)
        if then_exit:
            return 1 if failed else 0
        self._say("", *directions(players, address), "", "Serving until Ctrl-C.")
        return None

    def _play_past(self, players: Cast) -> None:
        organization = Organization.objects.get(pk=players.organization_id)
        requests = season.play_season(
            organization=organization,
            prices=asyncio.run(load_prices(organization.pk)),
            acting=cast.ACTING,
        )
        if requests:
            billed.bill_season(organization)
            self._say(
                f"Made up {season.DAYS} days of history for the dashboards: {requests} requests,"
                f" each marked as {season.REMARK!r}.",
            )

    async def _play(self, players: Cast, address: str, count: int) -> list[traffic.Answer]:
        """Sends the traffic and prints the table."""
        jobs = corpus.jobs(count, run=players.runs)
        self._say(f"Sending {count} completions to {address}/api/v1/completions", answered_by(), "")
        answers = await traffic.send(
            jobs, address=address, api_key=players.api_key, progress=partial(self._progress, count=count)
        )
        all_large_eur = await figures.all_large_of(answers)
        budget = await traffic.budget(address=address, api_key=players.api_key)
        self._say("", *figures.table(figures.add_up(answers, all_large_eur), budget))
        return answers

    def _progress(self, done: int, *, count: int) -> None:
        if self.stdout.isatty():
            self.stdout.write(f"\r{done:>7} of {count}", ending="\n" if done == count else "")
        elif done % max(1, count // PROGRESS_STEPS) == 0 or done == count:
            self.stdout.write(f"{done:>7} of {count}")
        self.stdout.flush()

    def _say(self, *lines: str) -> None:
        self.stdout.write("\n".join(lines))
        self.stdout.flush()


def answered_by() -> str:
    """Who answers: the providers with a key, or the sandbox."""
    keys = {provider["api_key"] for provider in settings.PROVIDERS.values()}
    if keys == {"sandbox"}:
        return "(no provider key is set: the local provider sandbox answers, and nothing is billed)"
    return f"(answered, and billed, by {' and '.join(sorted(settings.PROVIDERS))})"


def directions(players: Cast, address: str) -> Iterator[str]:
    """Where to look, how to log in, and a line to try."""
    yield f"admin       {address}/admin/"
    yield f"API         {address}/api/docs/"
    yield f"API key     {players.api_key}"
    if "console" in settings.EMAIL_BACKEND:
        yield f"e-mails     {settings.AIGOV_DATA_DIR / 'log' / 'worker.log'}"
    yield ""
    yield f"{'log in as':<32}{'password':<24}role"
    for login in players.logins:
        yield f"{login.email:<32}{login.password:<24}{login.role}"
    yield ""
    yield "Try it:"
    yield f"curl -s {address}/api/v1/completions \\"
    yield f"  -H 'Authorization: Bearer {players.api_key}' \\"
    yield "  -H 'Content-Type: application/json' \\"
    yield """  -d '{"messages": [{"role": "user", "content": "Please quote 60 licences by Friday."}],"""
    yield """       "labels": ["A", "B", "C"], "use_case": "lead_classification"}'"""
