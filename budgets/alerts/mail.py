"""Alerts by mail."""

from smtplib import SMTPException

from django.core.mail import send_mail
from django.utils.translation import gettext as _

from budgets.alerts import words
from budgets.alerts.webhook import NotTaken
from budgets.models import AlertDelivery


def send(delivery: AlertDelivery) -> None:
    """Sends the alert; raises `NotTaken`."""
    alert = delivery.alert
    lines = (
        words.text(alert),
        _("Act on it: %(url)s") % {"url": words.absolute(words.address(alert))},
        _("The alert: %(url)s") % {"url": words.absolute(words.page(alert))},
    )
    try:
        send_mail(_one_line(words.title(alert)), "\n\n".join(lines) + "\n", None, [delivery.address])
    except (SMTPException, OSError) as error:
        raise NotTaken(_("The mail server did not take it: %(why)s.") % {"why": error}) from error


def _one_line(title: str) -> str:
    """A name may hold what no header may."""
    return " ".join(title.split())
