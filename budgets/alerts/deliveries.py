"""The way of alerts to people: each delivery is tried until it is taken, or `TRIES_MAX` times.

A worker claims one delivery at a time, by a conditional update that skips what another has claimed, and puts
its next try off before it sends; so a worker that dies takes none with it. What was sent in the very moment
in which its worker died is sent again: a webhook's id tells the receiver so.
"""

import random
import time
from datetime import timedelta

from django.db import connection, transaction
from django.utils.translation import gettext as _

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.audit import Acting, write_audit_entry
from budgets.alerts import mail
from budgets.alerts.destinations import Unsealable, opened
from budgets.alerts.webhook import NotTaken, post_slack, post_webhook
from budgets.models import AlertDelivery, Channel, DeliveryState

#: With the waits below, given up after about nine hours.
TRIES_MAX = 8
FIRST_WAIT = timedelta(seconds=30)
WAIT_FACTOR = 3
#: A worker that has not said how a try went has died.
TAKEN_OVER_AFTER = timedelta(minutes=2)
#: For how long a worker sends; the next one goes on.
RUN_S = 45.0
ERROR_CHARACTERS_MAX = 300

_CLAIM = """
UPDATE budget_alert_deliveries SET tries = tries + 1, next_try_at = %(taken_over_at)s
WHERE id = (
    SELECT id FROM budget_alert_deliveries WHERE state = 'pending' AND next_try_at <= %(now)s
    ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id
"""


def deliver_due() -> int:
    """Tries every delivery that is due once; returns how many it has tried."""
    until, tried = time.monotonic() + RUN_S, 0
    while time.monotonic() < until and (delivery := claim()) is not None:
        attempt(delivery)
        tried += 1
    return tried


def claim() -> AlertDelivery | None:
    """The next delivery that is due, for the caller alone; None: there is none."""
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"now": now, "taken_over_at": now + TAKEN_OVER_AFTER})
        row = cursor.fetchone()
    if row is None:
        return None
    rows = AlertDelivery.objects.select_related("alert__organization", "destination")
    return rows.get(pk=row[0])


def attempt(delivery: AlertDelivery) -> None:
    """Sends a claimed delivery, and notes how that went."""
    try:
        _send(delivery)
    except NotTaken as failure:
        is_over = failure.is_final or delivery.tries >= TRIES_MAX
        _note(
            delivery,
            state=DeliveryState.DEAD if is_over else DeliveryState.PENDING,
            last_error=str(failure)[:ERROR_CHARACTERS_MAX],
            next_try_at=clock.now() + wait_after(delivery.tries),
        )
    else:
        _note(delivery, state=DeliveryState.SENT, last_error="", sent_at=clock.now())


def wait_after(tries: int) -> timedelta:
    """Until the next try: three times as long each time, half of it by chance, so that not all come at once
    ("equal jitter", Marc Brooker, Exponential Backoff And Jitter, 2015)."""
    longest: timedelta = FIRST_WAIT * WAIT_FACTOR ** (tries - 1)
    return longest * random.uniform(0.5, 1)


def _send(delivery: AlertDelivery) -> None:
    if delivery.channel == Channel.MAIL:
        mail.send(delivery)
        return
    if delivery.destination is None:
        raise NotTaken(_("The destination is removed."), is_final=True)
    try:
        sealed = opened(delivery.destination)
    except Unsealable as error:
        refusal = _("Its secrets cannot be read any more; please make the destination anew.")
        raise NotTaken(refusal, is_final=True) from error
    (post_webhook if delivery.channel == Channel.WEBHOOK else post_slack)(delivery, sealed)


def _note(delivery: AlertDelivery, **outcome: object) -> None:
    """Only of the try that was claimed: a later one has its own outcome."""
    claimed = AlertDelivery.objects.filter(pk=delivery.pk, tries=delivery.tries, state=DeliveryState.PENDING)
    claimed.update(**outcome)


@transaction.atomic
def send_again(*, delivery: AlertDelivery, acting: Acting) -> None:
    """Has a delivery that was given up tried anew.

    Raises:
        BadRequest: it was not given up, or its destination has gone.
    """
    given_up = AlertDelivery.objects.filter(pk=delivery.pk, state=DeliveryState.DEAD)
    if delivery.channel != Channel.MAIL:
        given_up = given_up.filter(destination__isnull=False)
    if given_up.update(state=DeliveryState.PENDING, tries=0, next_try_at=clock.now()) != 1:
        raise BadRequest(_("Only what was given up is sent again, and only where its destination is left."))
    write_audit_entry(
        organization=delivery.organization,
        acting=acting,
        action="alert.send_again",
        target=str(delivery),
    )
