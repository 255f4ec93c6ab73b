"""The key figures by e-mail, for whoever wants them: last week's on Monday, last month's on its first day."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import transaction
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from aigov import clock
from aigov.money import euro_for_people
from aigov.organizations.audit import write_audit_entry
from aigov.organizations.mail import queue_mail
from aigov.organizations.models import Organization, User
from aigov.organizations.permissions import organizations_of
from kpis import queries
from kpis.models import DigestSubscription, Rhythm
from kpis.periods import Period
from kpis.queries import Figures

#: No earlier on its day than this, in the organization's time.
FROM_HOUR = 7
DIGESTS_MAX = 500
NOTHING = "–"


def last_period(rhythm: str, today: date) -> Period:
    """The last whole week, Monday to Sunday, or the last whole month before `today`."""
    if rhythm == Rhythm.MONTHLY:
        return Period.of_month(today.replace(day=1) - timedelta(days=1))
    monday = today - timedelta(days=today.weekday())
    return Period(monday - timedelta(days=7), monday - timedelta(days=1))


@transaction.atomic
def subscribe(*, organization: Organization, user: User, rhythm: str, language: str) -> DigestSubscription:
    """The person gets the figures of each period that ends from now on; subscribing twice changes nothing."""
    today = clock.day_of(clock.now(), organization.time_zone)
    subscription, is_new = DigestSubscription.objects.get_or_create(
        organization=organization,
        user=user,
        rhythm=rhythm,
        defaults={"language": language, "sent_for": last_period(rhythm, today).last},
    )
    if is_new:
        write_audit_entry(
            organization=organization,
            acting=user,
            action="digest.subscribe",
            target=user.email,
            after={"rhythm": rhythm},
        )
    return subscription


@transaction.atomic
def unsubscribe(*, subscription: DigestSubscription, reason: str = "") -> None:
    subscription.delete()
    write_audit_entry(
        organization=subscription.organization,
        acting=subscription.user,
        action="digest.unsubscribe",
        target=subscription.user.email,
        before={"rhythm": subscription.rhythm},
        reason=reason,
    )


def send_due(now: datetime | None = None) -> int:
    """Queues the digests that are due; how many. A person without a role there any more gets none."""
    now = now or clock.now()
    subscriptions = DigestSubscription.objects.select_related("organization").order_by("sent_for", "pk")
    due = [one for one in subscriptions if _due(one, now) is not None]
    return sum(_queue(one.pk, now) for one in due[:DIGESTS_MAX])


def _due(subscription: DigestSubscription, now: datetime) -> Period | None:
    """The period whose figures are to be sent now, if there is one."""
    local = now.astimezone(ZoneInfo(subscription.organization.time_zone))
    period = last_period(subscription.rhythm, local.date())
    return period if period.last > subscription.sent_for and local.hour >= FROM_HOUR else None


@transaction.atomic
def _queue(pk: int, now: datetime) -> int:
    """Queues one digest, unless another run is at it."""
    rows = DigestSubscription.objects.select_for_update(skip_locked=True, of=("self",))
    subscription = rows.select_related("organization", "user").filter(pk=pk).first()
    period = None if subscription is None else _due(subscription, now)
    if subscription is None or period is None:
        return 0
    DigestSubscription.objects.filter(pk=pk).update(sent_for=period.last)
    if not organizations_of(subscription.user).filter(pk=subscription.organization_id).exists():
        return 0

    def write() -> tuple[str, str]:
        with translation.override(subscription.user.language or subscription.language):
            return digest(subscription.organization, period)

    queue_mail(to=[subscription.user], write=write)
    return 1


def digest(organization: Organization, period: Period) -> tuple[str, str]:
    """The subject and the text of a mail, in the language that is active."""
    now = queries.figures([organization.pk], period)
    before = queries.figures([organization.pk], period.before)
    days = {
        "first": date_format(period.first, "DATE_FORMAT"),
        "last": date_format(period.last, "DATE_FORMAT"),
    }
    subject = _("AI cost of %(organization)s, %(first)s to %(last)s") % {
        "organization": organization.name,
        **days,
    }
    context = {
        "subject": subject,
        "before": date_format(period.before.first, "DATE_FORMAT"),
        "before_last": date_format(period.before.last, "DATE_FORMAT"),
        "lines": [
            (title, value, old)
            for (title, value), (_title, old) in zip(_lines(now), _lines(before), strict=True)
        ],
    }
    return subject, render_to_string("kpis/digest.txt", context)


def _lines(figures: Figures) -> list[tuple[str, str]]:
    business, requests = figures.business, figures.requests
    return [
        (_("Cost"), _euro(business.cost_eur)),
        (_("Leads"), number_format(business.outcomes.leads)),
        (_("Orders"), number_format(business.outcomes.orders)),
        (_("Cost per lead"), _euro(business.cost_per_lead_eur)),
        (_("Cost per order"), _euro(business.cost_per_order_eur)),
        (_("Answered requests"), number_format(requests.answered)),
        (_("Answered by the small model"), number_format(requests.small)),
        (_("Answered by the large model"), number_format(requests.large)),
        (_("Answered from the cache"), _percent(requests.cache_hit_rate)),
        (_("Saved"), _euro(figures.saved_eur)),
        (_("Availability"), _percent(requests.availability)),
    ]


def _euro(amount: Decimal | None) -> str:
    return NOTHING if amount is None else euro_for_people(amount)


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{number_format(share * 100, 1)}\N{NO-BREAK SPACE}%"
