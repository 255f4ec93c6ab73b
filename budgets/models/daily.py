"""Roll-ups of the cost records, which a page adds up instead. Written by `budgets.daily` alone."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from aigov.organizations.models import Organization
from budgets.models.books import EuroField, Purpose


class RollUp(models.Model):
    """How far a roll-up has come: every row that was written before `upto` is in it, and none after."""

    name = models.CharField(_("roll-up"), max_length=32, primary_key=True)
    upto = models.DateTimeField(_("up to"))

    class Meta:
        db_table = "roll_ups"
        verbose_name = _("roll-up")
        verbose_name_plural = _("roll-ups")

    def __str__(self) -> str:
        return f"{self.name} {self.upto:%Y-%m-%d %H:%M}"


class CostDay(models.Model):
    """What an organization's calls of one kind cost on one day of an accounting month."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    day = models.DateField(_("day"))
    month = models.DateField(_("month"))
    use_case = models.CharField(_("use case"), max_length=200, blank=True)
    provider = models.CharField(_("provider"), max_length=32, blank=True)
    model = models.CharField(_("model"), max_length=100, blank=True)
    tier = models.CharField(_("tier"), max_length=8, blank=True)
    purpose = models.CharField(_("purpose"), max_length=8, choices=Purpose.choices)
    cost_eur = EuroField(_("cost"))
    cost_usd = models.DecimalField(_("cost in USD"), max_digits=22, decimal_places=12)
    calls = models.PositiveBigIntegerField(_("calls"))
    input_total = models.BigIntegerField(_("input tokens"))
    output_total = models.BigIntegerField(_("output tokens"))

    class Meta:
        db_table = "cost_days"
        verbose_name = _("day's cost")
        verbose_name_plural = _("days' costs")
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "day", "month", "use_case", "provider", "model", "tier", "purpose"],
                name="cost_day_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.use_case} {self.model}"


class CostSum(models.Model):
    """Sums of days' costs by fewer columns, or by month, whose `day` is its first; kept by triggers.

    A column that its level does not keep is empty, and the sums of all organizations together are those of
    organization 0, which there is none of: see `budgets/sql/sums.sql`.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    level = models.CharField(max_length=16)
    day = models.DateField()
    use_case = models.CharField(max_length=200, blank=True, db_default="")
    provider = models.CharField(max_length=32, blank=True, db_default="")
    model = models.CharField(max_length=100, blank=True, db_default="")
    tier = models.CharField(max_length=8, blank=True, db_default="")
    parts = models.BigIntegerField()
    cost_eur = EuroField()
    cost_usd = models.DecimalField(max_digits=22, decimal_places=12)
    calls = models.BigIntegerField()
    input_total = models.BigIntegerField()
    output_total = models.BigIntegerField()

    class Meta:
        db_table = "cost_sums"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "level", "day", "use_case", "provider", "model", "tier"],
                name="cost_sums_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.level} {self.day} {self.use_case} {self.model}"


class CostUserDay(models.Model):
    """What an organization's user spent on one day; whose id is replaced in the records is replaced here."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    day = models.DateField(_("day"))
    user = models.CharField(_("user"), max_length=200)
    cost_eur = EuroField(_("cost"))
    calls = models.BigIntegerField(_("calls"))

    class Meta:
        db_table = "cost_user_days"
        verbose_name = _("user's day")
        verbose_name_plural = _("users' days")
        constraints = [
            models.UniqueConstraint(fields=["organization", "day", "user"], name="cost_user_day_once"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.user}"


class CostUserSum(models.Model):
    """Sums of users' days by month, as `CostSum`."""

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    level = models.CharField(max_length=16)
    day = models.DateField()
    user = models.CharField(max_length=200)
    parts = models.BigIntegerField()
    cost_eur = EuroField()
    calls = models.BigIntegerField()

    class Meta:
        db_table = "cost_user_sums"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "level", "day", "user"], name="cost_user_sums_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.user}"
