"""Create a person who can log in, or give one who exists a role and a new password."""

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from aigov.organizations.create import OPERATOR, create_user
from aigov.organizations.models import Organization, Role

ACTING = "manage.py create_user"


def organization_named(name: str | None) -> Organization | None:
    """The organization called `name`; raises `CommandError` where there is none."""
    if name is None:
        return None
    organization = Organization.objects.filter(name=name.strip()).first()
    if organization is None:
        raise CommandError(f"There is no organization “{name}”; manage.py create_organization makes one.")
    return organization


class Command(BaseCommand):
    help = "Creates a person who can log in, and prints a password once; one who exists gets a new one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--role", required=True, choices=[*Role.values, OPERATOR])
        parser.add_argument("--organization", help="its name; every role but operator needs one")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = organization_named(options["organization"])
        try:
            user, password = create_user(
                email=options["email"], role=options["role"], organization=organization, acting=ACTING
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        if options["json"]:
            self.stdout.write(json.dumps({"email": user.email, "password": password}))
            return
        self.stdout.write(f"Log in as: {user.email} ({options['role']})")
        self.stdout.write(f"Password:  {password}")
        self.stdout.write("Keep the password now: it is not shown again.")
