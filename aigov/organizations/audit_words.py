"""The audit trail in plain words: what was done, and what the values were before and after."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aigov.money import euro_for_people

NOTHING = "–"

ACTIONS: Mapping[str, Any] = {
    "alert.acknowledge": gettext_lazy("Alert acknowledged"),
    "alert.send_again": gettext_lazy("Alert sent again"),
    "alert_destination.add": gettext_lazy("Destination of alerts added"),
    "alert_destination.change": gettext_lazy("Destination of alerts changed"),
    "alert_destination.remove": gettext_lazy("Destination of alerts removed"),
    "alert_destination.test": gettext_lazy("Test alert sent"),
    "api_key.create": gettext_lazy("API key made"),
    "api_key.revoke": gettext_lazy("API key revoked"),
    "bill.accept": gettext_lazy("Difference to a bill accepted"),
    "bill.change": gettext_lazy("Bill changed by the provider"),
    "bill.import": gettext_lazy("Bill imported"),
    "budget.cap_changed": gettext_lazy("Cap changed"),
    "digest.subscribe": gettext_lazy("E-mail with key figures ordered"),
    "digest.unsubscribe": gettext_lazy("E-mail with key figures cancelled"),
    "budget.request_approved": gettext_lazy("Request approved"),
    "budget.request_asked": gettext_lazy("Request made"),
    "budget.request_expired": gettext_lazy("Request expired"),
    "budget.request_rejected": gettext_lazy("Request rejected"),
    "budget.request_withdrawn": gettext_lazy("Request withdrawn"),
    "budget.cost_corrected": gettext_lazy("Cost corrected"),
    "budget.month_closed": gettext_lazy("Month closed"),
    "budget.month_reopened": gettext_lazy("Month reopened"),
    "fx_rate.append": gettext_lazy("Exchange rates added"),
    "member.add": gettext_lazy("Member added"),
    "member.change": gettext_lazy("Role changed"),
    "member.remove": gettext_lazy("Member removed"),
    "organization.change": gettext_lazy("Organization changed"),
    "organization.create": gettext_lazy("Organization made"),
    "outcome.change": gettext_lazy("Leads or orders told anew"),
    "outcome_hook.create": gettext_lazy("CRM webhook made"),
    "outcome_hook.revoke": gettext_lazy("CRM webhook revoked"),
    "price.append": gettext_lazy("Price added"),
    "provider.switch": gettext_lazy("Provider's switch turned"),
    "setting.remove": gettext_lazy("Setting removed"),
    "setting.set": gettext_lazy("Setting changed"),
    "tenant.create": gettext_lazy("Tenant made"),
    "user.change": gettext_lazy("Person changed"),
    "user.create": gettext_lazy("Person added"),
    "user.new_password": gettext_lazy("New password made"),
    "user.password_link": gettext_lazy("Link to set a password sent"),
    "user.password_set": gettext_lazy("Password set by link"),
    "user.renew": gettext_lazy("Access renewed"),
}
#: Names of values that say too little as they are stored; of the others, the underscores are left out.
NAMES: Mapping[str, Any] = {
    "amount_usd": gettext_lazy("US dollars"),
    "bands": gettext_lazy("rates"),
    "amount_eur": gettext_lazy("amount"),
    "cap_eur": gettext_lazy("cap"),
    "correction_eur": gettext_lazy("correction"),
    "cost_eur": gettext_lazy("cost"),
    "difference_usd": gettext_lazy("difference in US dollars"),
    "eur_per_usd": gettext_lazy("euro for one US dollar"),
    "expires_at": gettext_lazy("expires"),
    "revoked_at": gettext_lazy("revoked"),
    "scopes": gettext_lazy("opens"),
    "spent_eur": gettext_lazy("spent"),
}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*")


def action_words(action: str) -> str:
    """What was done, such as “Cap changed”; of an action without words of its own, its code's words."""
    return str(ACTIONS.get(action) or capfirst(action.replace(".", ": ").replace("_", " ")))


def difference(value: Any, other: Any) -> Any:
    """The part of `value` that `other` does not have: of two objects, the members that differ."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return value
    return {name: member for name, member in value.items() if other.get(name) != member}


def facts_changed(before: Any, after: Any) -> list[tuple[str, str, str]]:
    """A line for each fact of the two values (JSON): its name, and what it was before and after."""
    known = [value for value in (before, after) if value is not None]
    if not all(isinstance(value, dict) for value in known):
        return [("", value_words(before), value_words(after))]
    old, new = before or {}, after or {}
    return [
        (_name(name), value_words(old.get(name), name), value_words(new.get(name), name))
        for name in {**old, **new}
        if (old.get(name), new.get(name)) != (None, None)
    ]


def value_words(value: Any, name: str = "") -> str:
    """A JSON value in words; `name` is that of the member that it is, if it is one."""
    if value is None or value == {} or value == []:
        return NOTHING
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, dict):
        said = (f"{_name(key)}: {value_words(part, key)}" for key, part in value.items() if part is not None)
        return "; ".join(said) or NOTHING
    if isinstance(value, list):
        return ", ".join(value_words(item) for item in value)
    return _text_words(str(value), name)


def _name(name: str) -> str:
    return str(NAMES.get(name) or name.replace("_", " "))


def _text_words(text: str, name: str) -> str:
    if name.endswith("_eur"):
        with suppress(InvalidOperation):
            return euro_for_people(Decimal(text))
    if _INSTANT.fullmatch(text):
        with suppress(ValueError):
            return date_format(localtime(datetime.fromisoformat(text)), "DATETIME_FORMAT")
    return text
