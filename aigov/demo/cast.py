"""Who plays in the demo: a tenant, an organization, people with each role, and a service with its key.

They are created once for each data folder. What can be shown only once, the key and the passwords, is kept
in a file there that only its owner can read, so that the next start can show it again.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.db import transaction

from aigov import processes
from aigov.organizations.create import OPERATOR, create_organization, create_user
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import ApiKey, Organization, Role, Scope, User

ACTING = "manage.py demo"
TENANT, ORGANIZATION = "Musterwerk", "Musterwerk Vertrieb (Demo)"
FILE = "demo.json"
PEOPLE = {
    "finance@musterwerk.example": Role.FINANCE.value,
    "manager@musterwerk.example": Role.MANAGER.value,
    "auditor@musterwerk.example": Role.AUDITOR.value,
    "admin@musterwerk.example": Role.ADMIN.value,
    "operator@musterwerk.example": OPERATOR,
}


@dataclass(frozen=True, slots=True)
class Login:
    """`stored` is what the database keeps of the password, by which a later change is noticed."""

    email: str
    role: str
    password: str
    stored: str


@dataclass(slots=True)
class Cast:
    """The demo's organization, its key, its people's logins, and how often the demo has run."""

    organization_id: int
    api_key: str
    logins: list[Login] = field(default_factory=list)
    runs: int = 0


def assemble(data_folder: Path) -> Cast:
    """The cast as it was kept, with what is missing in the file or in the database created."""
    kept = _read(data_folder / FILE)
    with transaction.atomic():
        organization = create_organization(name=ORGANIZATION, tenant=TENANT, acting=ACTING)
        if kept and kept.organization_id != organization.pk:
            kept = None
        cast = Cast(
            organization_id=organization.pk,
            api_key=_api_key(organization, kept),
            logins=[_login(organization, email, role, kept) for email, role in PEOPLE.items()],
            runs=kept.runs if kept else 0,
        )
    if cast != kept:
        keep(cast, data_folder)
    return cast


def keep(cast: Cast, data_folder: Path) -> None:
    """Writes `cast` into its file, which only the owner can read."""
    processes.write_private(data_folder / FILE, json.dumps(asdict(cast), indent=1))


def _read(file: Path) -> Cast | None:
    """The kept cast; None where there is none, or the file is not ours."""
    try:
        values = json.loads(processes.read(file) or "")
        return Cast(**{**values, "logins": [Login(**login) for login in values["logins"]]})
    except (ValueError, TypeError, KeyError):
        return None


def _api_key(organization: Organization, kept: Cast | None) -> str:
    if kept:
        key_id = kept.api_key.removeprefix("aig_").partition(".")[0]
        usable = ApiKey.objects.filter(
            organization=organization, key_id=key_id, revoked_at=None, expires_at=None
        )
        if usable.exists():
            return kept.api_key
    _key, token = create_api_key(organization=organization, name="demo", scopes=Scope.values, acting=ACTING)
    return token


def _login(organization: Organization, email: str, role: str, kept: Cast | None) -> Login:
    """The person's login; somebody who is not there, or whose password we do not know, gets a new one."""
    known = next((login for login in kept.logins if login.email == email), None) if kept else None
    stored = User.objects.filter(email=email, is_active=True).values_list("password", flat=True).first()
    if known and stored == known.stored:
        return known
    user, password = create_user(
        email=email,
        role=role,
        organization=None if role == OPERATOR else organization,
        acting=ACTING,
    )
    return Login(email, role, password, user.password)
