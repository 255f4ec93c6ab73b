"""People set their own passwords, by a link that goes to their own address and to nobody else.

Whoever adds a person, or helps one who has forgotten theirs, learns no password: with it they could approve
their own requests as that person. The link is Django's token, bound to the present password, the last login
and the address: it ends with its use, with a login, or with its time.
"""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.db import transaction
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.formats import date_format
from django.utils.http import urlsafe_base64_encode
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from aigov import clock
from aigov.organizations.audit import Acting, actor_name, write_audit_entry
from aigov.organizations.mail import queue_mail
from aigov.organizations.models import Organization, User


@transaction.atomic
def send_password_link(
    *, user: User, acting: Acting, organization: Organization | None = None, reason: str = ""
) -> None:
    """Mails the person a link to set their password; until they use it, the present one holds.

    Raises `ValidationError` where the person is shut out.
    """
    if not user.is_active:
        raise ValidationError(_("%(person)s is shut out.") % {"person": user})
    queue_mail(to=[user], write=lambda: _letter(user, acting))
    write_audit_entry(
        organization=organization,
        acting=acting,
        action="user.password_link",
        target=user.email,
        reason=reason,
    )


@transaction.atomic
def set_password(*, user: User, token: str, password: str) -> None:
    """Sets the person's password by the token of a link, which ends with it.

    Raises `ValidationError` for a bad password, or where the link does not hold any more.
    """
    row = User.objects.select_for_update().get(pk=user.pk)
    if not row.is_active or not default_token_generator.check_token(row, token):
        raise ValidationError(_("This link does not work any more."))
    validate_password(password, row)
    row.set_password(password)
    row.save(update_fields=["password"])
    write_audit_entry(organization=None, acting=row, action="user.password_set", target=row.email)


def said_sent(user: User) -> str:
    """That the link is on its way, in a sentence for whoever sent it."""
    said = _("A link to set a password goes to %(email)s.") % {"email": user.email}
    if "console" in settings.EMAIL_BACKEND:
        said += " " + _("No mail server is set up (EMAIL_URL): the mail is written into the worker's log.")
    return said


def _letter(user: User, acting: Acting) -> tuple[str, str]:
    """Subject and text."""
    until = clock.now() + timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)
    facts = {
        "who": actor_name(acting),
        "email": user.email,
        "until": date_format(localtime(until), "DATETIME_FORMAT"),
    }
    why = (
        _("%(who)s has sent you this link, so that you can set a new password. You log in as %(email)s.")
        if user.has_usable_password()
        else _("%(who)s has given you access to the AI cost governance. You log in as %(email)s.")
    )
    lines = (
        why % facts,
        _("Set your password here. The link works once, until %(until)s:") % facts,
        f"{settings.PUBLIC_URL}{_address(user)}",
        _("After that, an administrator can send you a new one. Nobody but you needs your password."),
    )
    return _("Set your password"), "\n\n".join(lines) + "\n"


def _address(user: User) -> str:
    who = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("set-password", args=[who, default_token_generator.make_token(user)])
