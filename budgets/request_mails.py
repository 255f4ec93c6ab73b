"""The mails about a request: to those who can decide, and to whoever asked."""

from collections.abc import Iterable

from django.conf import settings
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from aigov.organizations.mail import queue_mail
from aigov.organizations.models import User
from budgets.models import ApprovalRequest
from budgets.request_words import change_words, title


def tell_deciders(asked: ApprovalRequest, deciders: Iterable[User]) -> None:
    """That a request waits for one of them."""

    def write() -> tuple[str, str]:
        until = date_format(localtime(asked.expires_at), "DATETIME_FORMAT")
        lines = (
            _("%(who)s asks for your approval.") % {"who": asked.asked_by},
            *_what(asked),
            _("Reason: %(reason)s") % {"reason": asked.reason},
            _("Approve or reject it until %(until)s:") % {"until": until},
        )
        return _("Please decide: %(request)s") % {"request": title(asked)}, _text(asked, lines)

    queue_mail(to=deciders, write=write)


def tell_asker(asked: ApprovalRequest) -> None:
    """What has become of it."""

    def write() -> tuple[str, str]:
        state = asked.get_state_display()
        lines = [_("Your request: %(state)s.") % {"state": state}, *_what(asked)]
        if asked.decided_by is not None:
            lines.append(_("Decided by %(who)s.") % {"who": asked.decided_by})
        if asked.decision_reason:
            lines.append(_("Reason: %(reason)s") % {"reason": asked.decision_reason})
        return f"{state.capitalize()}: {title(asked)}", _text(asked, lines)

    queue_mail(to=[asked.asked_by_user] if asked.asked_by_user else [], write=write)


def _what(asked: ApprovalRequest) -> list[str]:
    return [title(asked), *([change] if (change := change_words(asked)) else [])]


def _text(asked: ApprovalRequest, lines: Iterable[str]) -> str:
    page = reverse("admin:budgets_approvalrequest_change", args=[asked.pk])
    return "\n\n".join((*lines, f"{settings.PUBLIC_URL}{page}")) + "\n"
