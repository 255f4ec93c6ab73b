"""The pages of the admin that show how the providers stand, and turn their switches.

Everybody with a role sees their own organizations' models; only operators turn a switch, since it holds for
all organizations.
"""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminRadioSelectWidget

from aigov import clock
from aigov.organizations.tenant_admin import NOTHING, count, form_page, instant, person, reason_field
from providers.breaker import State
from providers.health import Health
from providers.status import Known, ModelStatus, ProviderStatus, ask_store, provider_statuses, turn

SWITCH_WORDS: Mapping[str, Any] = {
    "automatic": gettext_lazy("automatic"),
    "forced_closed": gettext_lazy("kept on"),
    "forced_open": gettext_lazy("kept off"),
}
TIER_WORDS: Mapping[str, Any] = {"small": gettext_lazy("small model"), "large": gettext_lazy("large model")}
#: The kinds of failure (`providers.errors`), after “because”.
REASONS: Mapping[str, Any] = {
    "refused_connection": gettext_lazy("it could not be reached"),
    "dns": gettext_lazy("its address could not be found"),
    "tls": gettext_lazy("its certificate was not accepted"),
    "connect_timeout": gettext_lazy("it could not be reached in time"),
    "connection_lost": gettext_lazy("the connection broke"),
    "timed_out": gettext_lazy("it did not answer in time"),
    "no_first_content": gettext_lazy("its answer did not begin in time"),
    "proxy": gettext_lazy("the way to it is blocked"),
    "bad_url": gettext_lazy("its address is wrong"),
    "malformed": gettext_lazy("its answers could not be read"),
    "bad_credentials": gettext_lazy("it refused our credentials"),
    "spend_limit": gettext_lazy("our account there has reached its limit"),
    "rate_limited": gettext_lazy("it had too many requests"),
    "overloaded": gettext_lazy("it was overloaded"),
    "server_error": gettext_lazy("it answered with errors"),
}


class SwitchForm(forms.Form):
    to = forms.ChoiceField(
        label=gettext_lazy("Switch"),
        choices=[
            ("automatic", gettext_lazy("Automatic: it rests while it fails, and is tried again by itself")),
            ("forced_open", gettext_lazy("Keep off: it is not asked, whether it works or not")),
            ("forced_closed", gettext_lazy("Keep on: it is asked, even while it fails")),
        ],
        widget=UnfoldAdminRadioSelectWidget,
        error_messages={"required": gettext_lazy("Please choose one.")},
    )
    reason = reason_field()


def providers_page(request: HttpRequest) -> HttpResponse:
    """Each provider and model: whether it can be reached, whether it is asked, and its switch."""
    if not person(request).has_perm("providers.view_price"):
        raise PermissionDenied
    known = ask_store()
    context = {
        **admin.site.each_context(request),
        **{"title": _("Providers"), "content_title": _("Providers"), "known": known},
        "providers": [_card(status, known) for status in provider_statuses(known, user=person(request))],
        "may_switch": person(request).is_superuser and known.answers,
        "looked_at": instant(clock.now()),
    }
    return TemplateResponse(request, "admin/providers/status.html", context)


def switch_page(request: HttpRequest, provider: str, model: str) -> HttpResponse:
    """Asks how the switch shall stand, and why."""
    if not person(request).is_superuser:
        raise PermissionDenied
    status = _find(request, provider, model)

    def act(given: Mapping[str, Any]) -> str:
        turn(status, to=given["to"], acting=person(request), reason=given["reason"])
        return _("Turned the switch of %(model)s: %(switch)s.") % {
            "model": status,
            "switch": SWITCH_WORDS[given["to"]],
        }

    follows = _("The model's own switch goes before that of all models; on “automatic” it follows that one.")
    return form_page(
        request,
        SwitchForm,
        title=_("Switch of %(model)s") % {"model": status},
        note=_("The switches of the single models are set to “automatic”.") if status.is_all else follows,
        button=_("Turn the switch"),
        act=act,
        back=reverse("providers-status"),
        place=_("Providers"),
    )


def _find(request: HttpRequest, provider: str, model: str) -> ModelStatus:
    for status in provider_statuses(ask_store(), user=person(request)):
        for found in (status.all_models, *status.models):
            if (found.provider, found.model) == (provider, model):
                return found
    raise Http404


# --- In words


def _card(status: ProviderStatus, known: Known) -> dict[str, Any]:
    return {
        "title": status.title,
        "reachable": health_words(status.health) if known.answers else "",
        "rows": [_row(row, known) for row in (status.all_models, *status.models)],
    }


def _row(status: ModelStatus, known: Known) -> dict[str, Any]:
    variant, standing = standing_words(status) if known.answers else ("", _("not known"))
    switch = status.state.switch if status.state else "automatic"
    return {
        "name": _("All models") if status.is_all else status.model,
        "tiers": ", ".join(str(TIER_WORDS[tier]) for tier in status.tiers),
        **{"variant": variant, "standing": standing, "why": why_words(status.state)},
        "switch": SWITCH_WORDS[switch] if known.answers else NOTHING,
        "address": reverse("providers-switch", args=[status.provider, status.model]),
    }


def health_words(health: Health | None) -> str:
    """Whether the provider could be reached when it was last asked, in a sentence."""
    if health is None:
        return _("Not asked so far whether it can be reached: only a provider whose models fail is asked.")
    facts = {"at": instant(health.checked_at), "ms": count(health.latency_ms)}
    if health.up:
        return _("Reachable on %(at)s: it answered within %(ms)s ms.") % facts
    why = REASONS.get(health.error, health.error)
    return _("Not available on %(at)s: %(why)s (after %(ms)s ms).") % {**facts, "why": why}


def standing_words(status: ModelStatus) -> tuple[str, str]:
    """The colour of a label, and whether the model is asked, in a few words."""
    state = status.state
    if state is not None and state.switch != "automatic":
        return ("danger" if state.switch == "forced_open" else "info"), str(SWITCH_WORDS[state.switch])
    if status.is_all:
        return "", ""
    if state is None or (state.state == "closed" and not state.successes + state.failures):
        return "", _("not called lately")
    if state.state == "half_open":
        return "info", _("being tried")
    if state.state == "open" and state.retry_at is not None:
        until = date_format(localtime(state.retry_at), "H:i:s")
        return "warning", _("resting until %(time)s") % {"time": until}
    return "success", _("answering")


def why_words(state: State | None) -> str:
    """Why the model rests, or is tried; empty where it does not."""
    if state is None or state.state == "closed" or state.switch != "automatic":
        return ""
    return _("because %(reason)s") % {"reason": REASONS.get(state.reason, state.reason)}
