"""Webhooks by which a CRM tells us of leads and orders, signed as Standard Webhooks say.

`webhook-signature` holds one or more signatures (`aigov.web.webhook_signature`). A message whose timestamp is
more than `TOLERANCE_S` off is refused, and one whose id has been taken within that time is not taken again.
"""

import hmac
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from cryptography.exceptions import InvalidTag
from django.db import connection, transaction

from aigov import clock
from aigov.errors import AuthenticationFailed
from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import Organization
from aigov.web.sealing import opened_text, sealed_text
from aigov.web.webhook_signature import new_secret, signature
from kpis.models import HookDelivery, OutcomeHook
from kpis.outcomes import Taken, Told, record_outcomes

log = logging.getLogger(__name__)

TOLERANCE_S = 300
MESSAGE_ID_CHARACTERS_MAX = 200
SIGNATURES_MAX = 10
PURPOSE = "outcome hooks"
#: In the same words, whatever is wrong, so that nobody learns which webhooks there are.
REFUSAL = (
    "The webhook's signature is missing, wrong or too old: webhook-id, webhook-timestamp and"
    " webhook-signature are needed, as Standard Webhooks describe them."
)


@transaction.atomic
def make_hook(*, organization: Organization, name: str, acting: Acting) -> tuple[OutcomeHook, str]:
    """A new webhook, and its secret, which cannot be had again."""
    secret = new_secret()
    hook = OutcomeHook(organization=organization, name=name, created_at=clock.now())
    hook.secret_sealed = sealed_text(secret, purpose=PURPOSE, bound_to=str(hook.pk))
    hook.save(force_insert=True)
    write_audit_entry(
        organization=organization,
        acting=acting,
        action="outcome_hook.create",
        target=name,
        after={"name": name},
    )
    return hook, secret


@transaction.atomic
def revoke_hook(*, hook: OutcomeHook, acting: Acting, reason: str) -> bool:
    """Refuses the webhook's messages from now on; False where it was revoked before."""
    now = clock.now()
    if OutcomeHook.objects.filter(pk=hook.pk, revoked_at=None).update(revoked_at=now) != 1:
        return False
    write_audit_entry(
        organization=hook.organization,
        acting=acting,
        action="outcome_hook.revoke",
        target=hook.name,
        after={"revoked_at": now.isoformat()},
        reason=reason,
    )
    return True


def hook_of_message(*, hook_id: UUID, headers: Mapping[str, str], body: bytes) -> OutcomeHook:
    """The webhook that a message came in by, where its signature says so.

    Args:
        headers: looked up by lower-case name.

    Raises:
        AuthenticationFailed: there is no such webhook, or the message is not signed by it, or not lately.
    """
    hook = OutcomeHook.objects.select_related("organization").filter(pk=hook_id, revoked_at=None).first()
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if hook is None or not 0 < len(message_id) <= MESSAGE_ID_CHARACTERS_MAX or not _is_recent(timestamp):
        raise AuthenticationFailed(REFUSAL, code="invalid_signature")
    expected = signature(_secret(hook), message_id, timestamp, body)
    given = headers.get("webhook-signature", "").split(" ")[:SIGNATURES_MAX]
    if not any(hmac.compare_digest(one.encode(), expected.encode()) for one in given):
        raise AuthenticationFailed(REFUSAL, code="invalid_signature")
    return hook


def _secret(hook: OutcomeHook) -> str:
    """What signs the webhook's messages; after a change of `SECRET_KEY` nothing does any more."""
    try:
        return opened_text(bytes(hook.secret_sealed), purpose=PURPOSE, bound_to=str(hook.pk))
    except InvalidTag as error:
        log.warning("SECRET_KEY has changed: the webhook %s has to be made anew", hook.pk)
        raise AuthenticationFailed(REFUSAL, code="invalid_signature") from error


def _is_recent(timestamp: str) -> bool:
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    return abs(clock.now().timestamp() - int(timestamp)) <= TOLERANCE_S


@transaction.atomic
def take_message(*, hook: OutcomeHook, message_id: str, outcomes: Sequence[Told]) -> Taken:
    """Records what a message tells; one that was taken before changes nothing."""
    now = clock.now()
    HookDelivery.objects.filter(hook=hook, received_at__lt=now - timedelta(seconds=3 * TOLERANCE_S)).delete()
    with connection.cursor() as cursor:
        cursor.execute(_DELIVERED, [hook.pk, message_id, now])
        is_new = cursor.rowcount == 1
    if not is_new:
        return Taken(0, 0, len(outcomes))
    return record_outcomes(
        organization=hook.organization, outcomes=outcomes, acting=f"CRM webhook {hook.name}"
    )


# The same message at once waits here for the other's end.
_DELIVERED = """
INSERT INTO kpi_hook_deliveries (hook_id, message_id, received_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
