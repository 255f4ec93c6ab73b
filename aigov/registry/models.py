"""The values that are set, and the count of their changes."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aigov.organizations.models import Organization, Tenant

USER_CHARACTERS_MAX = 200

_GLOBAL = Q(scope="global", tenant__isnull=True, organization__isnull=True, user="")
_TENANT = Q(scope="tenant", tenant__isnull=False, organization__isnull=True, user="")
_ORGANIZATION = Q(scope="organization", tenant__isnull=True, organization__isnull=False, user="")
_USER = Q(scope="user", tenant__isnull=True, organization__isnull=False) & ~Q(user="")


class ScopeChoice(models.TextChoices):
    GLOBAL = "global", _("everybody")
    TENANT = "tenant", _("tenant")
    ORGANIZATION = "organization", _("organization")
    USER = "user", _("user of an organization")


class SettingValue(models.Model):
    """A value that is set in a scope. Written through `aigov.registry.values` alone.

    Triggers of the table count its changes (`RegistryVersion`) and announce them to every process.
    """

    key = models.CharField(_("setting"), max_length=80)
    scope = models.CharField(_("holds for"), max_length=12, choices=ScopeChoice.choices)
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, blank=True, verbose_name=_("tenant"))
    organization = models.ForeignKey(
        Organization, models.CASCADE, null=True, blank=True, verbose_name=_("organization")
    )
    user = models.CharField(_("user"), max_length=USER_CHARACTERS_MAX, blank=True, default="")
    value = models.JSONField(_("value"))
    updated_at = models.DateTimeField(_("changed"), auto_now=True)
    updated_by = models.CharField(_("changed by"), max_length=254)

    class Meta:
        verbose_name = _("setting")
        verbose_name_plural = _("settings")
        constraints = [
            models.CheckConstraint(
                condition=_GLOBAL | _TENANT | _ORGANIZATION | _USER, name="setting_scope_fits_subject"
            ),
            models.UniqueConstraint(
                fields=["key", "scope", "tenant", "organization", "user"],
                nulls_distinct=False,
                name="setting_once_per_subject",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} ({self.get_scope_display()})"


class RegistryVersion(models.Model):
    """How often the settings have changed: one row, which the triggers lock and count up.

    A transaction that relies on a setting reads it `FOR SHARE` before it takes any other lock: while it
    lasts, no setting can change.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="registry_version_single_row")]
