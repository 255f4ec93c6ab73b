"""The settings that this room honours: the standing caps, by which months' accounts are opened."""

from django.utils.translation import gettext_lazy as _

from aigov.registry.keys import Key, register
from budgets import accounts

MONTHLY_CAP = Key(
    name=accounts.MONTHLY_CAP,
    type="money",
    scopes=("global", "tenant", "organization"),
    default=1000,
    description=_("What an organization may spend in a month, in euro. 600 to 1,200 is usual."),
    on_change=accounts.follow_standing_caps,
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


def register_keys() -> None:
    for key in (MONTHLY_CAP, USER_MONTHLY_CAP, USE_CASE_MONTHLY_CAPS):
        register(key)
