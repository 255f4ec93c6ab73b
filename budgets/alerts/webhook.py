"""Alerts by HTTP: signed webhooks, and Slack's incoming webhooks.

A webhook is signed as Standard Webhooks say (`aigov.web.webhook_signature`). Its id stays the same however
often a delivery is tried.
"""

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from aigov import clock
from aigov.web import outbound
from aigov.web.webhook_signature import signature
from budgets.alerts import words
from budgets.alerts.destinations import Sealed
from budgets.models import Alert, AlertDelivery

CONTENT = {"content-type": "application/json", "user-agent": "aigov"}
#: The receiver says that it is gone for good (Standard Webhooks).
GONE = 410


class NotTaken(Exception):
    """The receiver has not taken it; its text says why. `is_final`: it is not to be tried again."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


def post_webhook(delivery: AlertDelivery, sealed: Sealed) -> None:
    """Sends the alert, signed; raises `NotTaken`."""
    alert = delivery.alert
    body = _encoded(
        {
            "type": f"alert.{alert.kind}",
            "timestamp": alert.raised_at.isoformat(),
            "data": as_json(alert),
        }
    )
    _post(sealed.url, body, signed_headers(f"msg_{delivery.pk}", body, sealed.secret))


def signed_headers(message_id: str, body: bytes, secret: str) -> dict[str, str]:
    """The three headers of Standard Webhooks, signed now."""
    timestamp = str(int(clock.now().timestamp()))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(secret, message_id, timestamp, body),
    }


def as_json(alert: Alert) -> dict[str, Any]:
    """The alert as a webhook tells it."""
    organization = alert.organization
    return {
        "id": alert.pk,
        "kind": alert.kind,
        "severity": alert.severity,
        "organization": organization and {"id": organization.pk, "name": organization.name},
        "period": alert.period,
        "key": alert.key,
        "title": words.title(alert),
        "text": words.text(alert),
        "figures": alert.figures,
        "url": words.absolute(words.address(alert)),
    }


def post_slack(delivery: AlertDelivery, sealed: Sealed) -> None:
    """Sends the alert as a message; raises `NotTaken`."""
    _post(sealed.url, _encoded(slack_message(delivery.alert)), {})


def slack_message(alert: Alert) -> dict[str, Any]:
    """Slack's shape: `text` for notifications, `blocks` for the channel."""
    title, link = words.title(alert), words.absolute(words.address(alert))
    look = _escaped(_("Look at it"))
    context = [alert.get_severity_display(), str(alert.organization or _("the whole platform"))]
    return {
        "text": _escaped(title),
        "blocks": [
            _section(f"*{_escaped(title)}*\n{_escaped(words.text(alert))}"),
            _section(f"<{link}|{look}>"),
            {
                "type": "context",
                "elements": [{"type": "mrkdwn", "text": _escaped(" · ".join(context))}],
            },
        ],
    }


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _escaped(text: str) -> str:
    """As Slack's formatting of messages asks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    try:
        status = outbound.post(url, body=body, headers={**CONTENT, **headers})
    except outbound.AddressRefused as refusal:
        raise NotTaken(str(refusal), is_final=True) from refusal
    except outbound.NotReached as error:
        raise NotTaken(str(error)) from error
    if not 200 <= status < 300:
        raise NotTaken(_("The answer was %(status)d.") % {"status": status}, is_final=status == GONE)
