"""Whom alerts go to, changed by people; each change with its line in the audit trail.

A URL may be a secret (Slack's are), and so is what signs a webhook. Both are encrypted, and of a URL only
what is no secret is shown.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import Organization
from aigov.web import outbound
from aigov.web.sealing import opened_text, sealed_text
from aigov.web.webhook_signature import new_secret
from budgets.alerts.outbox import write_delivery
from budgets.models import Alert, AlertDestination, AlertKind, Channel, Severity

SHOWN_CHARACTERS_MAX = 300


class Unsealable(Exception):
    """What is sealed can no longer be opened: `SECRET_KEY` is another one now."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What of a destination nobody may read: where it is, and what signs what goes there."""

    url: str = field(repr=False)
    secret: str = field(default="", repr=False)


@transaction.atomic
def add_destination(
    *,
    organization: Organization | None,
    channel: str,
    name: str,
    address: str,
    kinds: Sequence[str] = (),
    acting: Acting,
    reason: str = "",
) -> tuple[AlertDestination, str | None]:
    """A new destination, and the secret that signs what goes to a webhook, which can't be had again.

    Raises:
        BadRequest: the address is none, or may not be asked; `param` is `address`.
        ValidationError: something else is missing or wrong.
    """
    sealed = _sealed(channel, address, secret=new_secret())
    destination = AlertDestination(
        organization=organization,
        channel=channel,
        name=name.strip(),
        address=_shown(channel, address.strip()),
        sealed=sealed and _seal(sealed, organization),
        kinds=list(kinds),
    )
    destination.full_clean()
    destination.save()
    _audit(destination, "alert_destination.add", acting, after=_facts(destination), reason=reason)
    return destination, sealed.secret if sealed and channel == Channel.WEBHOOK else None


@transaction.atomic
def change_destination(
    *,
    destination: AlertDestination,
    name: str,
    address: str,
    kinds: Sequence[str],
    active: bool,
    acting: Acting,
    reason: str,
) -> AlertDestination:
    """Changes a destination; with an empty `address` it stays what it is.

    Raises:
        BadRequest, ValidationError: as `add_destination`.
    """
    row = AlertDestination.objects.select_for_update().get(pk=destination.pk)
    before = _facts(row)
    if address.strip() and address.strip() != row.address:
        sealed = _sealed(row.channel, address, secret=opened(row).secret if row.sealed else "")
        row.sealed = sealed and _seal(sealed, row.organization)
        row.address = _shown(row.channel, address.strip())
    row.name, row.kinds, row.active = name.strip(), list(kinds), active
    row.full_clean()
    row.save()
    _audit(row, "alert_destination.change", acting, before=before, after=_facts(row), reason=reason)
    return row


@transaction.atomic
def remove_destination(*, destination: AlertDestination, acting: Acting, reason: str) -> None:
    """Takes a destination away; what is on its way there is given up."""
    row = AlertDestination.objects.select_for_update().get(pk=destination.pk)
    before = _facts(row)
    row.deliveries.filter(state="pending").update(state="dead", last_error=_("The destination is removed."))
    _audit(row, "alert_destination.remove", acting, before=before, reason=reason)
    row.delete()


@transaction.atomic
def send_test(*, destination: AlertDestination, acting: Acting) -> Alert:
    """Sends a test alert to one destination; it stands in no list of open alerts."""
    now = clock.now()
    alert = Alert.objects.create(
        organization=destination.organization,
        kind=AlertKind.TEST,
        period=now.date().isoformat(),
        key=f"{destination.pk} {now.isoformat()}",
        severity=Severity.NOTICE,
        raised_at=now,
        resolved_at=now,
    )
    write_delivery(alert, destination)
    _audit(destination, "alert_destination.test", acting)
    return alert


# --- What is sealed


def opened(destination: AlertDestination) -> Sealed:
    """The URL of a webhook or of Slack, and what signs what goes there.

    Raises:
        Unsealable: `SECRET_KEY` has changed.
    """
    assert destination.sealed is not None
    try:
        text = opened_text(
            bytes(destination.sealed), purpose=_PURPOSE, bound_to=_bound_to(destination.organization_id)
        )
    except InvalidTag as error:
        raise Unsealable from error
    return Sealed(**json.loads(text))


_PURPOSE = "alert destinations"


def _seal(sealed: Sealed, organization: Organization | None) -> bytes:
    text = json.dumps({"url": sealed.url, "secret": sealed.secret})
    return sealed_text(text, purpose=_PURPOSE, bound_to=_bound_to(organization.pk if organization else None))


def _bound_to(organization_id: int | None) -> str:
    return f"organization {organization_id}"


def _sealed(channel: str, address: str, *, secret: str) -> Sealed | None:
    address = address.strip()
    if channel == Channel.MAIL:
        try:
            validate_email(address)
        except ValidationError as error:
            raise BadRequest(_("This is no e-mail address."), param="address") from error
        return None
    try:
        outbound.checked(address)
    except outbound.AddressRefused as refusal:
        raise BadRequest(str(refusal), param="address") from refusal
    return Sealed(address, secret if channel == Channel.WEBHOOK else "")


def _shown(channel: str, address: str) -> str:
    """What of the address is no secret: of a Slack URL its host alone, of others no query."""
    if channel == Channel.MAIL:
        return address
    parts = urlsplit(address)
    path = "/…" if channel == Channel.SLACK else parts.path + ("?…" if parts.query else "")
    return f"{parts.scheme}://{parts.netloc}{path}"[:SHOWN_CHARACTERS_MAX]


def _facts(destination: AlertDestination) -> dict[str, Any]:
    return {
        "name": destination.name,
        "channel": destination.channel,
        "address": destination.address,
        "kinds": list(destination.kinds),
        "active": destination.active,
    }


def _audit(destination: AlertDestination, action: str, acting: Acting, **what: Any) -> None:
    write_audit_entry(
        organization=destination.organization,
        acting=acting,
        action=action,
        target=f"{destination.name} ({destination.address})",
        **what,
    )
