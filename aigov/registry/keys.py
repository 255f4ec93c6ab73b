"""The keys that settings can have.

Each room declares its own keys and registers them when Django starts; the code that a key names
honours it. What a key allows is said here once, and holds for the API, the admin and the reader.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import Promise
from jsonschema import Draft202012Validator, SchemaError

from aigov.errors import NotFound
from aigov.registry import json_values
from aigov.registry.json_values import InvalidValue, Type

if TYPE_CHECKING:
    from aigov.registry.values import Change

Scope = Literal["global", "tenant", "organization", "user"]
Merge = Literal["replace", "merge", "append"]

#: From the widest to the narrowest.
SCOPES: tuple[Scope, ...] = ("global", "tenant", "organization", "user")
NAME_CHARACTERS_MAX = 80

_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_TYPE_OF_MERGE: Mapping[Merge, Type] = {"merge": "object", "append": "array"}


class UnknownKey(NotFound):
    """There is no setting of that name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Key:
    """A setting that exists.

    Args:
        name: dotted, such as `ai.cache.ttl`.
        type: of the value; `money` is euro, `duration` ISO 8601.
        scopes: where a value may be set.
        default: the value, as JSON, where none is set.
        description: one sentence for people.
        schema: what JSON Schema adds to the type, such as `{"minimum": 0}`; each stored value keeps to it.
        merge: `replace`: the narrowest value holds; `merge`: objects, member by member, the narrower
            over the wider; `append`: arrays, the wider first, each item once.
        members: the type of an object's members or an array's items, where they are of one type.
        nullable: whether `null` is a value (and what `None` means is the key's own affair).
        on_change: called in the transaction of each write of the key, after its row is written.
    """

    name: str
    type: Type
    scopes: tuple[Scope, ...]
    default: Any
    description: str | Promise
    schema: Mapping[str, Any] = field(default_factory=dict)
    merge: Merge = "replace"
    members: Type | None = None
    nullable: bool = False
    on_change: "Callable[[Change], None] | None" = None

    @property
    def is_money(self) -> bool:
        """Whether the value is money, or made of money."""
        return "money" in (self.type, self.members)

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """The whole JSON Schema of a value."""
        return json_values.full_schema(
            self.type, members=self.members, nullable=self.nullable, schema=self.schema
        )

    @cached_property
    def validator(self) -> Draft202012Validator:
        return json_values.compile_schema(self.json_schema)


def check_value(key: Key, value: Any) -> None:
    """Make sure that `value` (JSON) is one that `key` allows.

    Raises:
        InvalidValue: `param` is the path in the value.
    """
    json_values.check(key.validator, value)


def value_of(key: Key, value: Any) -> Any:
    """The Python value of `value` (JSON that the key allows): `Decimal` euro, `timedelta`, `float`, …"""
    return json_values.read(key.type, value, members=key.members)


_KEYS: dict[str, Key] = {}


def register(key: Key) -> Key:
    """Make `key` known; each room does so for its own keys when Django starts.

    Raises:
        ImproperlyConfigured: the key contradicts itself, or another one has its name.
    """
    if _KEYS.get(key.name, key) is not key:
        raise ImproperlyConfigured(f"Setting {key.name}: registered twice.")
    if fault := _fault(key):
        raise ImproperlyConfigured(f"Setting {key.name}: {fault}.")
    _KEYS[key.name] = key
    return key


def find(name: str) -> Key:
    """The key of that name.

    Raises:
        UnknownKey: there is none.
    """
    try:
        return _KEYS[name]
    except KeyError:
        raise UnknownKey(f"There is no setting {name[:NAME_CHARACTERS_MAX]!r}.", param="key") from None


def all_keys() -> dict[str, Key]:
    """All keys by name, in the order of their names."""
    return dict(sorted(_KEYS.items()))


def _fault(key: Key) -> str | None:
    """What is wrong with the declaration of a key, or None."""
    if not _NAME.fullmatch(key.name) or len(key.name) > NAME_CHARACTERS_MAX:
        return f"a name is dotted lower-case words of {NAME_CHARACTERS_MAX} characters at most"
    if not key.scopes or not set(key.scopes) <= set(SCOPES):
        return f"scopes are some of {', '.join(SCOPES)}"
    if key.type != _TYPE_OF_MERGE.get(key.merge, key.type):
        return f"values of type {key.type} cannot {key.merge}"
    if key.nullable and key.merge != "replace":
        return f"null cannot {key.merge}"
    if key.members and key.type not in ("object", "array"):
        return f"values of type {key.type} have no members"
    return _fault_of_schema(key)


def _fault_of_schema(key: Key) -> str | None:
    if (key.type == "money" and key.schema) or (
        key.members == "money" and json_values.members_keyword(key.type) in key.schema
    ):
        # A bound of JSON Schema would hold for numbers, and pass by amounts that are written as strings.
        return "the schema of money is fixed"
    try:
        check_value(key, key.default)
    except SchemaError as error:
        return f"not a JSON Schema: {error.message}"
    except InvalidValue as error:
        return f"its default is not allowed: {error.message}"
    return None
