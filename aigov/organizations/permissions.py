"""What each role may do in the admin, and in which organizations.

The table below is the whole truth: Django's own groups and per-person permissions are not asked. It says
what a role may do with a kind of thing; with which of these things, `organizations_of` and
`organizations_where` say, and every list in the admin is filtered by them. What belongs to no organization
(prices, exchange rates, people) is changed by operators alone, who may do everything.

The providers' bills are sums over all organizations, and would tell of the others to whoever knows their own.
So they are for operators, and for those who hold such a role in every organization there is (`PLATFORM`).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser
from django.db.models import Count, Model, QuerySet, Subquery, Value

from aigov.organizations.models import Organization, Role, User

AnyUser = User | AnonymousUser

_MONEY = (
    *("budgets.budgetaccount", "budgets.accountingmonth", "budgets.hold", "budgets.costrecord"),
    *("budgets.fxrate", "providers.price"),
)
_ALERTS = ("budgets.alert", "budgets.alertdestination", "budgets.alertdelivery")
#: To add one is to ask, to change one is to decide.
_REQUEST = "budgets.approvalrequest"
_WORK = ("organizations.organization", "routing.decision", _REQUEST, *_MONEY, *_ALERTS)
#: Of those who see to money.
_SEES_TO_ALERTS = {
    "budgets.alert": ("view", "acknowledge"),
    "budgets.alertdestination": ("view", "add", "change", "delete"),
    "budgets.alertdelivery": ("view", "resend"),
}
_OUTCOMES = ("kpis.outcome", "kpis.outcomehook")
#: Everybody orders and cancels their own.
_OWN = {"kpis.digestsubscription": ("view", "add", "delete")}
_PEOPLE = ("organizations.member", "organizations.user", "organizations.apikey")
_RULES = ("registry.settingvalue", "organizations.auditentry")
_EVERYTHING = (*_WORK, *_OUTCOMES, *_PEOPLE, *_RULES)

#: role → model → what it may do there.
TABLE: Mapping[Role, Mapping[str, tuple[str, ...]]] = {
    Role.MANAGER: {
        **dict.fromkeys(_WORK, ("view",)),
        _REQUEST: ("view", "add"),
        "kpis.outcome": ("view", "add"),
        **_OWN,
    },
    Role.AUDITOR: {**dict.fromkeys(_EVERYTHING, ("view",)), **_OWN},
    Role.FINANCE: {
        **dict.fromkeys((*_WORK, *_RULES), ("view",)),
        _REQUEST: ("view", "add", "change"),
        "kpis.outcome": ("view", "add"),
        **_OWN,
        "budgets.budgetaccount": ("view", "change"),
        "budgets.accountingmonth": ("view", "close", "reopen"),
        "budgets.costrecord": ("view", "correct"),
        **_SEES_TO_ALERTS,
    },
    Role.ADMIN: {
        **dict.fromkeys(_EVERYTHING, ("view",)),
        "kpis.outcome": ("view", "add"),
        "kpis.outcomehook": ("view", "add", "change"),
        **_OWN,
        _REQUEST: ("view", "add", "change"),
        "budgets.budgetaccount": ("view", "change"),
        "budgets.accountingmonth": ("view", "close", "reopen"),
        "budgets.costrecord": ("view", "correct"),
        **_SEES_TO_ALERTS,
        "organizations.organization": ("view", "change"),
        "organizations.member": ("view", "add", "change", "delete"),
        "organizations.apikey": ("view", "add", "change"),
        "registry.settingvalue": ("view", "add", "change", "delete"),
    },
}

#: What may be done with the whole platform's figures → the roles that, held everywhere, allow it.
PLATFORM: Mapping[str, frozenset[str]] = {
    "budgets.view_billday": frozenset({Role.AUDITOR, Role.FINANCE, Role.ADMIN}),
    "budgets.change_billday": frozenset({Role.FINANCE, Role.ADMIN}),
}


def permissions_of(role: str) -> frozenset[str]:
    """Django's names of what `role` may do, such as `budgets.change_budgetaccount`."""
    names: set[str] = set()
    for model, verbs in TABLE[Role(role)].items():
        room, _dot, thing = model.partition(".")
        names.update(f"{room}.{verb}_{thing}" for verb in verbs)
    return frozenset(names)


def roles_with(verb: str, model: str) -> list[str]:
    """The roles that may do `verb` with the rows of `model`, such as `budgets.hold`."""
    return [role.value for role in Role if verb in TABLE[role].get(model, ())]


_PERMISSIONS: Mapping[str, frozenset[str]] = {role.value: permissions_of(role) for role in Role}


def organizations_of(user: AnyUser) -> QuerySet[Organization]:
    """The organizations that `user` has any role in; all of them for an operator."""
    return organizations_where(user, Role.values)


def organizations_where(user: AnyUser, roles: Iterable[str]) -> QuerySet[Organization]:
    """The organizations in which `user` has one of `roles`; all of them for an operator."""
    if not isinstance(user, User) or not user.is_active:
        return Organization.objects.none()
    if user.is_superuser:
        return Organization.objects.all()
    return Organization.objects.filter(members__user=user, members__role__in=list(roles))


#: How many there are, asked in the query for a person's roles.
_ALL_ORGANIZATIONS = Subquery(
    Organization.objects.order_by()
    .annotate(one=Value(1))
    .values("one")
    .annotate(count=Count("pk"))
    .values("count")
)


class RoleBackend(ModelBackend):
    """Logs people in by e-mail and password, and lets them do what their roles allow.

    Asked about one thing (`obj`), only the role in that thing's organization counts.
    """

    def has_perm(self, user_obj: AnyUser, perm: str, obj: Any = None) -> bool:
        if perm in PLATFORM:
            return isinstance(user_obj, User) and user_obj.is_active and _holds_everywhere(user_obj, perm)
        return super().has_perm(user_obj, perm, obj)

    def get_user_permissions(self, user_obj: Any, obj: Model | None = None) -> set[str]:
        roles = _roles_of(user_obj)
        if obj is not None:
            roles = [(organization, role) for organization, role in roles if organization == _home_of(obj)]
        return set().union(*(_PERMISSIONS[role] for _organization, role in roles))

    def get_group_permissions(self, user_obj: Any, obj: Model | None = None) -> set[str]:
        return set()

    def get_all_permissions(self, user_obj: Any, obj: Model | None = None) -> set[str]:
        return self.get_user_permissions(user_obj, obj)


def _roles_of(user: AnyUser) -> Collection[tuple[int, str]]:
    if not isinstance(user, User) or not user.is_active:
        return []
    known: list[tuple[int, str]] | None = getattr(user, "_roles", None)
    if known is None:
        # Kept on the person as long as the request lives: the admin asks dozens of times for a page.
        rows = list(user.memberships.values_list("organization_id", "role", _ALL_ORGANIZATIONS))
        known = [(organization, role) for organization, role, _all in rows]
        user._roles = known  # type: ignore[attr-defined]
        user._organizations_count = rows[0][2] if rows else None  # type: ignore[attr-defined]
    return known


def _holds_everywhere(user: User, permission: str) -> bool:
    """Whether the person has a role for it in every organization."""
    roles = PLATFORM[permission]
    held = {organization for organization, role in _roles_of(user) if role in roles}
    count: int | None = user._organizations_count  # type: ignore[attr-defined]
    return len(held) == count


def _home_of(thing: Model) -> Any:
    if isinstance(thing, Organization):
        return thing.pk
    return getattr(thing, "organization_id", None)
