"""The settings that this room honours: the standing caps, by which months' accounts are opened, when a cap
takes two people, and what alerts are raised for.
"""

from django.utils.translation import gettext_lazy as _

from aigov.errors import SecondPersonNeeded
from aigov.registry.keys import Key, register
from aigov.registry.values import Change
from budgets import accounts, approvals, four_eyes, reconciliation


def change_standing_cap(change: Change) -> None:
    try:
        four_eyes.check_raise_of_standing_cap(change)
    except SecondPersonNeeded as needed:
        needed.ask = approvals.asking_for_standing_cap(change)
        raise
    accounts.follow_standing_caps(change)


MONTHLY_CAP = Key(
    name=accounts.MONTHLY_CAP,
    type="money",
    scopes=("global", "tenant", "organization"),
    default=1000,
    description=_("What an organization may spend in a month, in euro. 600 to 1,200 is usual."),
    on_change=change_standing_cap,
)
USER_MONTHLY_CAP = Key(
    name=accounts.USER_MONTHLY_CAP,
    type="money",
    scopes=("global", "tenant", "organization", "user"),
    default=None,
    nullable=True,
    description=_("What a single user may spend in a month, in euro; empty for no cap of their own."),
    on_change=accounts.follow_standing_caps,
)
USE_CASE_MONTHLY_CAPS = Key(
    name=accounts.USE_CASE_MONTHLY_CAPS,
    type="object",
    members="money",
    merge="merge",
    scopes=("global", "tenant", "organization"),
    default={},
    description=_("What single use cases may spend in a month, in euro, by the use case's name."),
    on_change=accounts.follow_standing_caps,
)
ALERT_THRESHOLDS = Key(
    name="ai.budget.alert.thresholds",
    type="array",
    members="integer",
    scopes=("global", "tenant", "organization"),
    default=[50, 80, 95, 100],
    schema={"items": {"minimum": 1, "maximum": 1000}, "maxItems": 20, "uniqueItems": True},
    description=_("At which parts of a month's cap, in per cent, an alert is raised; none: an empty list."),
)
UNUSUAL_DAY_SCORE = Key(
    name="ai.budget.alert.unusual_day.score",
    type="number",
    scopes=("global", "tenant", "organization"),
    default=3.5,
    schema={"minimum": 1, "maximum": 1000},
    description=_("How far a day's cost must lie from the usual one to be unusual; higher is rarer."),
)
UNUSUAL_DAY_AMOUNT = Key(
    name="ai.budget.alert.unusual_day.amount",
    type="money",
    scopes=("global", "tenant", "organization"),
    default=5,
    description=_("How much more than usual an unusual day must cost at least, in euro."),
)
UNUSUAL_DAY_DAYS = Key(
    name="ai.budget.alert.unusual_day.days",
    type="integer",
    scopes=("global", "tenant", "organization"),
    default=14,
    schema={"minimum": 3, "maximum": 56},
    description=_("How many days must be known before one can be unusual."),
)
PROVIDER_DOWN_AFTER = Key(
    name="ai.providers.alert.down.after",
    type="duration",
    scopes=("global",),
    default="PT5M",
    description=_("For how long a provider's model must have failed until an alert is raised."),
)
APPROVAL_ABOVE = Key(
    name=four_eyes.APPROVAL_ABOVE,
    type="money",
    scopes=("global", "tenant", "organization"),
    default=1200,
    description=_(
        "A raise of an organization's cap above this amount, in euro, needs a second person's approval. "
        "Only operators change it."
    ),
    on_change=four_eyes.check_operator,
)
REQUEST_LIFETIME = Key(
    name=approvals.REQUEST_LIFETIME,
    type="duration",
    scopes=("global", "tenant", "organization"),
    default="P14D",
    description=_("For how long a request waits for a second person before it expires."),
)
RECONCILIATION_RATIO = Key(
    name=reconciliation.TOLERANCE_RATIO,
    type="number",
    scopes=("global",),
    default=0.01,
    schema={"minimum": 0, "maximum": 0.5},
    description=_("Up to which part of a provider's bill a difference to the ledger counts as none."),
)
RECONCILIATION_USD = Key(
    name=reconciliation.TOLERANCE_USD,
    type="number",
    scopes=("global",),
    default=0,
    schema={"minimum": 0, "maximum": 1000},
    description=_("Up to how many US dollars a month a difference to a provider's bill counts as none."),
)


def register_keys() -> None:
    for key in (
        *(MONTHLY_CAP, USER_MONTHLY_CAP, USE_CASE_MONTHLY_CAPS, APPROVAL_ABOVE, REQUEST_LIFETIME),
        *(ALERT_THRESHOLDS, PROVIDER_DOWN_AFTER),
        *(UNUSUAL_DAY_SCORE, UNUSUAL_DAY_AMOUNT, UNUSUAL_DAY_DAYS),
        *(RECONCILIATION_RATIO, RECONCILIATION_USD),
    ):
        register(key)
