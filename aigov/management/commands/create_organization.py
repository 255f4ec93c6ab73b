"""Create or find an organization, and issue a key that opens everything of it."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from aigov.errors import GatewayError
from aigov.money import EURO_MAX, NANO_EURO, cap_text
from aigov.organizations.create import create_organization
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from aigov.registry.values import set_value
from budgets.accounts import MONTHLY_CAP, open_month, set_month_cap

ACTING = "manage.py create_organization"


def euro(text: str) -> Decimal:
    """A cap in euro: not negative, with nine places at most; raises `CommandError`."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise CommandError(f"--cap-eur: “{text}” is no amount, such as 1000 or 99.50.") from None
    if not amount.is_finite() or not 0 <= amount <= EURO_MAX:
        raise CommandError(f"--cap-eur: the cap must lie between 0 and {EURO_MAX} euro.")
    if amount != amount.quantize(NANO_EURO):
        raise CommandError("--cap-eur: the cap can have nine decimal places at most.")
    return amount.quantize(NANO_EURO)


class Command(BaseCommand):
    help = "Creates (or finds) an organization and prints its id and a new API key with all scopes, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--tenant", help="the tenant that it belongs to (one of its own name)")
        parser.add_argument("--cap-eur", help="its monthly cap in euro (1000, or what is set already)")
        parser.add_argument("--timezone", help="where its months begin at midnight (Europe/Berlin)")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        cap = None if options["cap_eur"] is None else euro(options["cap_eur"])
        try:
            organization, key = create(
                name=options["name"], tenant=options["tenant"], time_zone=options["timezone"], cap=cap
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except GatewayError as error:
            raise CommandError(error.message) from None
        if options["json"]:
            self.stdout.write(json.dumps({"organization_id": str(organization.pk), "api_key": key}))
            return
        self.stdout.write(f"Organization: {organization.name} ({organization.time_zone})")
        self.stdout.write(f"Id:           {organization.pk}")
        self.stdout.write(f"API key:      {key}")
        self.stdout.write("Keep the key now: it is not shown again.")


def set_cap(organization: Organization, cap: Decimal) -> None:
    """Sets the standing cap, and this month's too where finance has given the month one of its own."""
    reason = "given with --cap-eur"
    set_value(
        key=MONTHLY_CAP,
        scope="organization",
        organization=organization,
        value=cap_text(cap),
        acting=ACTING,
        reason=reason,
    )
    account = open_month(organization=organization)
    if account.cap_is_of_month:
        set_month_cap(account=account, cap_eur=cap, acting=ACTING, reason=reason)


@transaction.atomic
def create(
    *, name: str, tenant: str | None, time_zone: str | None, cap: Decimal | None
) -> tuple[Organization, str]:
    """The organization with its month opened, its cap `cap` euro where one is given, and a new key."""
    organization = create_organization(name=name, tenant=tenant, time_zone=time_zone, acting=ACTING)
    if cap is not None:
        set_cap(organization, cap)
    open_month(organization=organization)
    _api_key, key = create_api_key(
        organization=organization, name="all scopes", scopes=Scope.values, acting=ACTING
    )
    return organization, key
