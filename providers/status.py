"""How the providers stand, for people, and the switch that operators turn.

All of it is in Valkey. Where that does not answer, each process goes by what it has seen itself, nothing of
it can be shown, and no switch can be turned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import User
from aigov.organizations.permissions import organizations_of
from aigov.registry.snapshot import load_settings_sync
from providers import health
from providers.breaker import State, shared_states, turn_switch
from providers.circuit import ALL_MODELS, Key, Switch
from providers.circuit_store import StoreUnavailable
from providers.health import Health
from providers.models import ProviderName
from providers.types import Tier

TIERS: tuple[str, ...] = get_args(Tier)
#: As the audit trail has them.
SWITCHES: Mapping[Switch, str] = {
    "automatic": "automatic",
    "forced_closed": "kept on",
    "forced_open": "kept off",
}


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model of a provider, or all of them (`*`).

    Args:
        tiers: what the settings use it as; empty where only a caller has named it.
        state: None where it was not called lately.
    """

    provider: str
    model: str
    tiers: tuple[str, ...] = ()
    state: State | None = None

    def __str__(self) -> str:
        name = str(ProviderName(self.provider).label)
        return _("all models of %(provider)s") % {"provider": name} if self.is_all else f"{name} {self.model}"

    @property
    def is_all(self) -> bool:
        return self.model == ALL_MODELS


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """A provider that takes part; the switch of `all_models` holds for each that has none of its own."""

    all_models: ModelStatus
    models: tuple[ModelStatus, ...]
    health: Health | None

    @property
    def title(self) -> str:
        return str(ProviderName(self.all_models.provider).label)


@dataclass(frozen=True, slots=True)
class Known:
    """What Valkey says; empty where it does not answer."""

    answers: bool = False
    states: Mapping[Key, State] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)


def ask_store() -> Known:
    """What is known of the providers now, within a few seconds at most."""
    try:
        return Known(True, shared_states(), health.health())
    except StoreUnavailable:
        return Known()


def provider_statuses(known: Known, *, user: User) -> list[ProviderStatus]:
    """The configured providers with the models of the organizations of `user`.

    Operators see, too, what a caller has named if it is in trouble or has a switch.
    """
    models = _models_of_settings(user)
    if user.is_superuser:
        for provider, model in _noticeable(known.states):
            models.get(provider, {}).setdefault(model, ())
    return [
        ProviderStatus(
            all_models=_status(known, provider, ALL_MODELS, ()),
            models=tuple(_status(known, provider, model, tiers) for model, tiers in of_provider.items()),
            health=known.health.get(provider),
        )
        for provider, of_provider in models.items()
    ]


def _models_of_settings(user: User) -> dict[str, dict[str, tuple[str, ...]]]:
    """By provider, and by model: the tiers that it is used as, by default or in an organization of `user`."""
    organizations = [None, *organizations_of(user).values_list("pk", flat=True)]
    registry = load_settings_sync()
    return {
        provider: _tiers_of(
            registry.value(f"ai.providers.{provider}.models", organization_id=organization)
            for organization in organizations
        )
        for provider in sorted(settings.PROVIDERS)
    }


def _tiers_of(choices: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """The models of `choices`, those of the first tier first, with all their tiers."""
    used = {(tier, model) for chosen in choices for tier, model in chosen.items()}
    ordered = sorted(used, key=lambda pair: (TIERS.index(pair[0]), pair[1]))
    return {name: tuple(tier for tier, model in ordered if model == name) for _, name in ordered}


def _noticeable(states: Mapping[Key, State]) -> list[Key]:
    return sorted(
        key
        for key, state in states.items()
        if key[1] != ALL_MODELS and (state.state, state.switch) != ("closed", "automatic")
    )


def _status(known: Known, provider: str, model: str, tiers: tuple[str, ...]) -> ModelStatus:
    # A model that nobody has called yet has only the switch of all models.
    state = known.states.get((provider, model)) or known.states.get((provider, ALL_MODELS))
    return ModelStatus(provider, model, tiers, state)


def turn(status: ModelStatus, *, to: Switch, acting: Acting, reason: str) -> None:
    """Turns the switch of a model, or of all the provider's, whose own ones are reset.

    Every process goes by it within a second.

    Raises:
        ValidationError: Valkey does not answer, and nothing has changed.
    """
    try:
        with transaction.atomic():
            now = _status(Known(True, shared_states()), status.provider, status.model, ()).state
            write_audit_entry(
                organization=None,
                acting=acting,
                action="provider.switch",
                target=str(status),
                before={"switch": SWITCHES[now.switch if now else "automatic"]},
                after={"switch": SWITCHES[to]},
                reason=reason,
            )
            # Last: where it fails, nothing is noted.
            turn_switch(provider=status.provider, model=status.model, to=to)
    except StoreUnavailable as error:
        raise ValidationError(
            _(
                "The switch cannot be turned now: Valkey, by which all processes learn of it, does not "
                "answer. Nothing has changed. Please try again when it is back."
            )
        ) from error
