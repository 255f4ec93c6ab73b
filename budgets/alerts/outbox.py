"""Whom a new alert goes to: its deliveries, written in the transaction that raises it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from django.db.models import Q

from aigov import clock
from aigov.organizations.models import Member, Role, User
from budgets.models import Alert, AlertDelivery, AlertDestination, Channel

#: Who gets the mails of an organization that has said nothing else.
TOLD_BY_DEFAULT = Role.FINANCE

Recipient = tuple[int, str]  # a person's id and e-mail address


def write_deliveries(alerts: Sequence[Alert]) -> None:
    """Sends each of the alerts on its way to every destination that wants its kind.

    Where an organization has no active destination, they go by mail to its finance staff, and the platform's
    own to the operators.
    """
    organization_ids = {alert.organization_id for alert in alerts}
    destinations = _destinations(organization_ids)
    defaults = _default_recipients(organization_ids - destinations.keys())
    AlertDelivery.objects.bulk_create(
        delivery
        for alert in alerts
        for delivery in (
            _to_destinations(alert, destinations[alert.organization_id])
            if alert.organization_id in destinations
            else _to_people(alert, defaults[alert.organization_id])
        )
    )


def write_delivery(alert: Alert, destination: AlertDestination) -> None:
    """Sends an alert to one destination alone."""
    delivery_to(alert, destination).save()


def delivery_to(alert: Alert, destination: AlertDestination) -> AlertDelivery:
    return AlertDelivery(
        alert=alert,
        organization_id=alert.organization_id,
        target=f"destination {destination.pk}",
        destination=destination,
        channel=destination.channel,
        address=destination.address,
        next_try_at=clock.now(),
    )


def _destinations(organization_ids: set[int | None]) -> dict[int | None, list[AlertDestination]]:
    wanted = Q(organization__in=organization_ids - {None})
    if None in organization_ids:
        wanted |= Q(organization__isnull=True)
    found: dict[int | None, list[AlertDestination]] = defaultdict(list)
    for destination in AlertDestination.objects.filter(wanted, active=True).order_by("pk"):
        found[destination.organization_id].append(destination)
    return found


def _default_recipients(organization_ids: set[int | None]) -> dict[int | None, list[Recipient]]:
    found: dict[int | None, list[Recipient]] = defaultdict(list)
    members = Member.objects.filter(
        organization__in=organization_ids - {None}, role=TOLD_BY_DEFAULT, user__is_active=True
    ).order_by("pk")
    for organization_id, user_id, email in members.values_list("organization", "user", "user__email"):
        found[organization_id].append((user_id, email))
    if None in organization_ids:
        operators = User.objects.filter(is_superuser=True, is_active=True).order_by("pk")
        found[None] = list(operators.values_list("pk", "email"))
    return found


def _to_destinations(alert: Alert, destinations: Iterable[AlertDestination]) -> Iterator[AlertDelivery]:
    for destination in destinations:
        if not destination.kinds or alert.kind in destination.kinds:
            yield delivery_to(alert, destination)


def _to_people(alert: Alert, recipients: Iterable[Recipient]) -> Iterator[AlertDelivery]:
    for user_id, email in recipients:
        yield AlertDelivery(
            alert=alert,
            organization_id=alert.organization_id,
            target=f"person {user_id}",
            channel=Channel.MAIL,
            address=email,
            next_try_at=clock.now(),
        )
