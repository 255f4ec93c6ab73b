"""Which caps take two people: every raise of an organization's cap above a limit, and every raise at all by
whoever is not of finance.

The rule holds wherever a cap is set: for a month, and for the standing cap of the settings, by pages and by
the API. A key can do no more than whoever made it. Commands on the machine (`acting` is text) are the
operator's and take one. The caps of users and use cases only share out what their organization may spend,
so that nobody is asked for them. The limit itself is the operators' to set, or it would be the way round.
"""

from decimal import Decimal

from django.utils.translation import gettext as _

from aigov.errors import BudgetUnavailable, PermissionDenied, SecondPersonNeeded
from aigov.money import ZERO, euro_for_people
from aigov.organizations.audit import Acting
from aigov.organizations.models import ApiKey, Member, Role, User
from aigov.registry.effective import Settings
from aigov.registry.snapshot import load_settings_sync
from aigov.registry.values import Change
from budgets.models import BudgetAccount, Scope

APPROVAL_ABOVE = "ai.budget.cap.approval.above"


def needs_second_person(
    *, before_eur: Decimal | None, after_eur: Decimal, limit_eur: Decimal, is_finance: bool
) -> bool:
    """Whether a cap's change takes two people: after > before and (after > limit or not of finance).

    Args:
        before_eur: the cap in force; None: there is none, so that any cap lowers it.
        limit_eur: up to here, finance raises alone.
        is_finance: whether the one who changes it is of finance, or an operator.
    """
    raises = before_eur is not None and after_eur > before_eur
    return raises and (after_eur > limit_eur or not is_finance)


def is_finance(acting: User | ApiKey, organization_id: int) -> bool:
    """Whether `acting` raises the organization's caps up to the limit: finance, operators, their keys.

    A key that nobody is named for was made on the machine, by an operator.
    """
    if isinstance(acting, ApiKey):
        return acting.created_by is None or is_finance(acting.created_by, organization_id)
    here = Member.objects.filter(user=acting, organization=organization_id, role=Role.FINANCE)
    return acting.is_active and (acting.is_superuser or here.exists())


def approval_limit(organization_id: int, settings: Settings | None = None) -> Decimal:
    """The cap in euro above which a raise takes two people, whoever raises."""
    limit: Decimal = (settings or load_settings_sync()).value(APPROVAL_ABOVE, organization_id=organization_id)
    return limit


def check_raise_of_month(*, account: BudgetAccount, cap_eur: Decimal, acting: Acting) -> None:
    """Makes sure that `acting` may set this cap alone; `account` is as it is in force.

    Raises:
        SecondPersonNeeded: they may not.
    """
    if isinstance(acting, str) or account.scope != Scope.ORGANIZATION:
        return
    if account.cap_eur is not None and cap_eur > account.cap_eur:
        organization_id, settings = account.organization_id, load_settings_sync()
        _check_raise(organization_id, account.cap_eur, cap_eur, acting, settings, param="cap_eur")


def check_raise_of_standing_cap(change: Change) -> None:
    """The same for the standing cap of the settings, for each organization that the change reaches.

    Raises:
        SecondPersonNeeded: they may not.
    """
    if change.approved or isinstance(change.acting, str):
        return
    for organization_id in change.settings.organizations(change.subject):
        before = _standing_cap(change.settings_before, change.key.name, organization_id)
        after = _standing_cap(change.settings, change.key.name, organization_id)
        if after > before:
            _check_raise(organization_id, before, after, change.acting, change.settings, param="value")


def _check_raise(
    organization_id: int,
    before: Decimal,
    after: Decimal,
    acting: User | ApiKey,
    settings: Settings,
    *,
    param: str,
) -> None:
    limit = approval_limit(organization_id, settings)
    finance = is_finance(acting, organization_id)
    if needs_second_person(before_eur=before, after_eur=after, limit_eur=limit, is_finance=finance):
        raise SecondPersonNeeded(f"{_why(limit, finance)} {_how_to_ask(acting)}", param=param)


def _why(limit_eur: Decimal, finance: bool) -> str:
    """Why a raise takes a second person, in a sentence."""
    if finance:
        limit = euro_for_people(limit_eur)
        return _("A raise of a cap above %(limit)s needs a second person.") % {"limit": limit}
    return _("A raise of a cap by anyone but finance needs a second person.")


def _how_to_ask(acting: User | ApiKey) -> str:
    if isinstance(acting, ApiKey):
        return _("Ask for a month's cap by POST /api/v1/budget/cap-requests.")
    return _("Ask for it on the page “Requests”; finance or an administrator decides.")


def _standing_cap(settings: Settings, key: str, organization_id: int) -> Decimal:
    """The standing cap in euro; 0 where what is stored cannot be used, which lets nothing pass."""
    try:
        cap: Decimal = settings.value(key, organization_id=organization_id)
    except BudgetUnavailable:
        return ZERO
    return cap


def check_operator(change: Change) -> None:
    """Makes sure that the limit is changed by operators alone.

    Raises:
        PermissionDenied: it is not.
    """
    acting = change.acting
    if isinstance(acting, ApiKey) or (isinstance(acting, User) and not acting.is_superuser):
        raise PermissionDenied(
            _("Only operators say above which cap a second person is needed."), param="key"
        )
