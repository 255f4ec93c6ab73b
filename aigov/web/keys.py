"""The settings that this room honours: how many requests are let in."""

from django.utils.translation import gettext_lazy as _

from aigov.registry.keys import Key, register

IN_FLIGHT = Key(
    name="ai.limits.in_flight",
    type="integer",
    scopes=("global", "tenant", "organization"),
    default=1_000,
    schema={"minimum": 1, "maximum": 100_000},
    description=_(
        "How many of an organization's requests one web process works on at once, open streams included; "
        "more are refused for the moment."
    ),
)
REQUESTS_PER_MINUTE = Key(
    name="ai.limits.requests_per_minute",
    type="integer",
    scopes=("global", "tenant", "organization"),
    default=None,
    nullable=True,
    schema={"minimum": 1, "maximum": 100_000},
    description=_(
        "How many requests a minute each API key may send: so many at once, and then each as soon as its "
        "share of a minute has passed; empty for no limit."
    ),
)


def register_keys() -> None:
    for key in (IN_FLIGHT, REQUESTS_PER_MINUTE):
        register(key)
