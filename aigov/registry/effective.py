"""What applies: the values that are set, from the widest scope to the narrowest, over the key's default.

`Settings` is one state of all settings, immutable and without I/O; the hot path asks it many times a
request. A stored value that its key no longer allows (a release has tightened the key) does not apply,
and is logged. For money there is no such leniency: the next wider value could be a higher cap, so whoever
it concerns is refused until it is mended, and nobody else.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import islice
from typing import Any, Literal

from aigov.errors import BudgetUnavailable
from aigov.registry.json_values import InvalidValue
from aigov.registry.keys import Key, Merge, Scope, UnknownKey, check_value, value_of

logger = logging.getLogger(__name__)

Source = Literal["default", "global", "tenant", "organization", "user"]

#: Computed values that are kept for the next time they are asked for.
MEMO_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a value is set for: everybody, a tenant, an organization, or a user of an organization."""

    scope: Scope
    id: int | None = None
    user: str = ""

    def __str__(self) -> str:
        who = self.scope if self.id is None else f"{self.scope} {self.id}"
        return f"{self.user!r} of organization {self.id}" if self.user else who


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value (JSON) as the database has it."""

    key: str
    subject: Subject
    value: Any


@dataclass(frozen=True, slots=True)
class Effective:
    """A value that applies: as JSON, as Python, and the narrowest scope that had a part in it."""

    value_json: Any
    value: Any
    source: Source


class StaleSettings(BudgetUnavailable):
    """The organization is not known in this state of the settings; load them anew."""


class Settings:
    """One state of all settings.

    Args:
        values: all that are set.
        tenants: each organization's tenant.
        version: the database's count of changes, read before the values: it may be too low, never too high.
        keys: all keys by name.
    """

    def __init__(
        self,
        values: Iterable[StoredValue],
        *,
        tenants: Mapping[int, int],
        version: int,
        keys: Mapping[str, Key],
    ) -> None:
        self.version = version
        self._keys = keys
        self._tenants = tenants
        self._stored = {(stored.key, stored.subject): stored.value for stored in values}
        self._users = {(subject.id, subject.user) for _, subject in self._stored if subject.scope == "user"}
        self._memo: dict[tuple[str, int | None, str], Effective] = {}
        for name, subject in self._stored:
            if name not in keys or subject.scope not in keys[name].scopes:
                _warn_once(f"Setting {name} ({subject}) is stored but not known, and ignored.")

    def value(self, name: str, *, organization_id: int | None, user: str = "") -> Any:
        """The Python value of the setting `name`; see `effective`."""
        return self.effective(name, organization_id=organization_id, user=user).value

    def effective(self, name: str, *, organization_id: int | None, user: str = "") -> Effective:
        """What applies to an organization, or to its user `user` (the caller's own end-user id).

        Without an organization: what applies where no organization says otherwise.

        Raises:
            UnknownKey: there is no such setting.
            StaleSettings: the organization is younger than this state.
            BudgetUnavailable: the setting is money, and its stored value cannot be used.
        """
        if user and (organization_id, user) not in self._users:
            user = ""
        known = self._memo.get((name, organization_id, user))
        if known is None:
            known = self._compute(name, organization_id, user)
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[name, organization_id, user] = known
        return known

    def knows(self, organization_id: int) -> bool:
        """Whether the organization existed when this state was loaded."""
        return organization_id in self._tenants

    def with_value(self, name: str, subject: Subject, value: Any) -> "Settings":
        """This state, but with `value` (JSON) set for `subject`; None: with none set."""
        stored = {**self._stored, (name, subject): value}
        if value is None:
            del stored[name, subject]
        values = (StoredValue(*key, value) for key, value in stored.items())
        return Settings(values, tenants=self._tenants, version=self.version, keys=self._keys)

    def organizations(self, subject: Subject) -> list[int]:
        """The organizations that a value of `subject` reaches."""
        if subject.scope == "global":
            return sorted(self._tenants)
        if subject.scope == "tenant":
            return sorted(id_ for id_, tenant_id in self._tenants.items() if tenant_id == subject.id)
        return [] if subject.id is None else [subject.id]

    def _compute(self, name: str, organization_id: int | None, user: str) -> Effective:
        if name not in self._keys:
            raise UnknownKey(f"There is no setting {name!r}.", param="key")
        key = self._keys[name]
        narrowest_first = self._set_values(key, self._subjects(organization_id, user))
        if key.merge == "replace":
            narrowest_first = islice(narrowest_first, 1)
        layers: list[tuple[Source, Any]] = [("default", key.default), *reversed(list(narrowest_first))]
        value_json, source = combine(key, layers)
        return Effective(value_json, value_of(key, value_json), source)

    def _subjects(self, organization_id: int | None, user: str) -> list[Subject]:
        """Whose values count, from the widest scope to the narrowest."""
        if organization_id is None:
            return [Subject("global")]
        if organization_id not in self._tenants:
            raise StaleSettings(f"Organization {organization_id} is not known here yet.", retry_after_s=1)
        return [
            Subject("global"),
            Subject("tenant", self._tenants[organization_id]),
            Subject("organization", organization_id),
            Subject("user", organization_id, user),
        ]

    def _set_values(self, key: Key, subjects: Sequence[Subject]) -> Iterator[tuple[Source, Any]]:
        """The usable values that are set for the key, from the narrowest scope to the widest."""
        for subject in reversed(subjects):
            if subject.scope in key.scopes and (key.name, subject) in self._stored:
                value = self._stored[key.name, subject]
                if _is_usable(key, value, subject):
                    yield subject.scope, value


def _is_usable(key: Key, value: Any, subject: Subject) -> bool:
    try:
        check_value(key, value)
    except InvalidValue as error:
        fault = f"Setting {key.name} ({subject}): its stored value is not allowed: {error.message}"
        _warn_once(fault)
        if key.is_money:
            raise BudgetUnavailable(fault) from error
        return False
    return True


def combine(key: Key, layers: Sequence[tuple[Source, Any]]) -> tuple[Any, Source]:
    """The JSON value of `layers`, the default first and the narrowest last, and where the last came from."""
    values = [value for _source, value in layers]
    if key.merge == "append":
        values = [[], *values]
    return reduce(_COMBINE[key.merge], values), layers[-1][0]


def merge_objects(wide: Any, narrow: Any) -> Any:
    """`narrow` over `wide`, member by member, at every depth; what is no object is replaced."""
    if not isinstance(wide, dict) or not isinstance(narrow, dict):
        return narrow
    return wide | {
        name: merge_objects(wide[name], member) if name in wide else member for name, member in narrow.items()
    }


def append_arrays(wide: list[Any], narrow: list[Any]) -> list[Any]:
    """The items of `wide`, then those of `narrow`, each once, in the order of their first appearance."""
    unique: dict[str, Any] = {}
    for item in [*wide, *narrow]:
        # By their JSON text: to Python, true equals 1.
        unique.setdefault(json.dumps(item, sort_keys=True), item)
    return list(unique.values())


def _replace(_wide: Any, narrow: Any) -> Any:
    return narrow


_COMBINE: Mapping[Merge, Callable[[Any, Any], Any]] = {
    "replace": _replace,
    "merge": merge_objects,
    "append": append_arrays,
}


@lru_cache(maxsize=1_000)
def _warn_once(fault: str) -> None:
    """Logs a defect once per process, not each time that the settings are loaded."""
    logger.warning(fault)
