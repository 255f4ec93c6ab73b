"""Who is there: tenants with their organizations, people with roles, and API keys."""

from typing import Any
from uuid import uuid4
from zoneinfo import available_timezones

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aigov.organizations.audit_words import action_words


def validate_time_zone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(_("“%(name)s” is no time zone, such as Europe/Berlin."), params={"name": name})


class Tenant(models.Model):
    """A company, or a group of organizations that share settings."""

    name = models.CharField(_("name"), max_length=200, unique=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")

    def __str__(self) -> str:
        return self.name


class Organization(models.Model):
    """A unit with a monthly cap of its own; its accounting month begins at its local midnight."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="organizations", verbose_name=_("tenant"))
    name = models.CharField(_("name"), max_length=200, unique=True)
    time_zone = models.CharField(
        _("time zone"), max_length=64, default="Europe/Berlin", validators=[validate_time_zone]
    )
    currency = models.CharField(_("currency"), max_length=3, default="EUR", editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("organization")
        verbose_name_plural = _("organizations")
        constraints = [
            models.CheckConstraint(condition=Q(currency="EUR"), name="organization_currency_eur"),
            # The sums of all organizations together are kept under number 0 (`budgets.roll_ups.ALL`).
            models.CheckConstraint(condition=Q(id__gt=0), name="organization_number_positive"),
        ]

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person who can log in. An operator (`is_superuser`) stands over all organizations."""

    email = models.EmailField(_("e-mail"), unique=True)
    name = models.CharField(_("name"), max_length=200, blank=True)
    language = models.CharField(
        _("language of mails"), max_length=8, choices=settings.LANGUAGES, default="", blank=True
    )
    is_staff = models.BooleanField(_("may log in to the admin"), default=True)
    is_active = models.BooleanField(_("active"), default=True)
    date_joined = models.DateTimeField(_("joined"), auto_now_add=True)

    objects = UserManager()

    USERNAME_FIELD = "email"

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")

    def __str__(self) -> str:
        return self.name or self.email


class Role(models.TextChoices):
    ADMIN = "admin", _("administrator")
    FINANCE = "finance", _("finance")
    MANAGER = "manager", _("manager")
    AUDITOR = "auditor", _("auditor")


class Member(models.Model):
    """What a person may do in an organization."""

    organization = models.ForeignKey(
        Organization, models.CASCADE, related_name="members", verbose_name=_("organization")
    )
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships", verbose_name=_("person"))
    role = models.CharField(_("role"), max_length=16, choices=Role.choices)

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="member_once_per_organization"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="member_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()}, {self.organization})"


class Scope(models.TextChoices):
    """What an API key opens."""

    COMPLETIONS_WRITE = "completions:write", _("ask for completions and give feedback")
    COMPLETIONS_READ = "completions:read", _("read completions and their costs")
    BUDGET_READ = "budget:read", _("read budgets")
    BUDGET_WRITE = "budget:write", _("ask for a higher cap")
    SETTINGS_READ = "settings:read", _("read settings")
    SETTINGS_WRITE = "settings:write", _("change settings")
    OUTCOMES_WRITE = "outcomes:write", _("report leads and orders")
    NUDGES_WRITE = "nudges:write", _("ask for nudges and give feedback")
    KPIS_READ = "kpis:read", _("read key figures")


class ApiKey(models.Model):
    """A service's key `aig_<key_id>.<secret>`. Only an HMAC of the secret is kept."""

    organization = models.ForeignKey(
        Organization, models.CASCADE, related_name="api_keys", verbose_name=_("organization")
    )
    name = models.CharField(_("name"), max_length=200)
    key_id = models.CharField(_("key id"), max_length=16, unique=True, editable=False)
    secret_hmac = models.BinaryField(editable=False, max_length=32)
    scopes = models.JSONField(_("scopes"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    # Protected: nobody decides about what a key of theirs has asked for, also later.
    created_by = models.ForeignKey(
        User, models.PROTECT, null=True, blank=True, editable=False, verbose_name=_("created by")
    )
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        constraints = [
            models.CheckConstraint(
                condition=Q(scopes__contained_by=Scope.values), name="api_key_scopes_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (aig_{self.key_id}…)"


class AuditEntry(models.Model):
    """Who changed what, from, to, and why. Written in the transaction of the change; never altered."""

    at = models.DateTimeField(_("at"), auto_now_add=True)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, verbose_name=_("organization")
    )
    actor = models.CharField(_("who"), max_length=254)
    action = models.CharField(_("action"), max_length=64)
    target = models.CharField(_("what"), max_length=300)
    before = models.JSONField(_("from"), null=True)
    after = models.JSONField(_("to"), null=True)
    reason = models.TextField(_("reason"), blank=True)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit trail")
        indexes = [models.Index(fields=["organization", "-at"], name="audit_by_organization")]

    def __str__(self) -> str:
        return f"{action_words(self.action)}: {self.target}"


class ExportState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    RUNNING = "running", _("being made")
    DONE = "done", _("ready")
    FAILED = "failed", _("failed")


class Export(models.Model):
    """A long list as a file, made in the background for one person, and kept for a day.

    Written by `aigov.organizations.exports` alone. `list_name` is the list's model and `query` its address's
    filters and order; whose rows it shows is asked again when the file is made.
    """

    id = models.UUIDField(primary_key=True, default=uuid4)
    user = models.ForeignKey(User, models.CASCADE, related_name="exports", verbose_name=_("person"))
    list_name = models.CharField(_("list"), max_length=100)
    query = models.TextField(_("filters"), blank=True)
    file_format = models.CharField(_("format"), max_length=4)
    language = models.CharField(_("language"), max_length=16)
    filename = models.CharField(_("file"), max_length=200, blank=True)
    state = models.CharField(
        _("state"), max_length=8, choices=ExportState.choices, default=ExportState.WAITING
    )
    rows_total = models.PositiveBigIntegerField(_("rows"))
    rows_done = models.PositiveBigIntegerField(_("rows done"), default=0)
    created_at = models.DateTimeField(_("asked"))
    changed_at = models.DateTimeField(_("changed"))

    class Meta:
        verbose_name = _("export")
        verbose_name_plural = _("exports")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=ExportState.values), name="export_state_known"),
            # One at a time, so that the other work of the background goes on.
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="running"), name="export_one_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return self.filename or self.list_name


class ExportChunk(models.Model):
    """A part of an export's file: in the database, which web and worker share wherever they run."""

    export = models.ForeignKey(Export, models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["export", "number"], name="export_chunk_once")]

    def __str__(self) -> str:
        return f"{self.export_id} {self.number}"


class Mail(models.Model):
    """A mail to one person. Written and sent by `aigov.organizations.mail` alone; next tried at `due_at`."""

    recipient = models.EmailField(_("to"))
    subject = models.CharField(_("subject"), max_length=300)
    body = models.TextField(_("text"))
    queued_at = models.DateTimeField(_("queued"))
    due_at = models.DateTimeField(_("due"))
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    sent_at = models.DateTimeField(_("sent"), null=True)

    class Meta:
        db_table = "mails"
        verbose_name = _("mail")
        verbose_name_plural = _("mails")
        indexes = [models.Index(fields=["due_at"], condition=Q(sent_at__isnull=True), name="mail_to_send")]

    def __str__(self) -> str:
        return f"{self.recipient}: {self.subject}"
