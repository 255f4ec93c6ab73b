"""Four eyes: what takes two people is asked for by one and decided by another.

    ask → open → approved, rejected    by a second person
               → withdrawn             by whoever asked
               → expired               by time

A request leaves “open” by one conditional UPDATE whose row count is checked: of two approvers at once, the
second finds nothing to decide. What was asked for, its audit trail, the new state and the mails to both
sides are one transaction. Nobody decides about their own request; the database forbids that, too. An API key
asks for the person who made it, and never decides.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from aigov import clock
from aigov.errors import BadRequest, NotFound, PermissionDenied
from aigov.money import ZERO, cap_text, euro_for_people, exact_euro_for_people
from aigov.organizations.audit import Acting, actor_name, person_behind, write_audit_entry
from aigov.organizations.models import ApiKey, Organization, User
from aigov.organizations.permissions import organizations_where, roles_with
from aigov.registry.json_values import is_storable, parse_money
from aigov.registry.snapshot import load_settings_sync
from aigov.registry.values import REASON_CHARACTERS_MAX, Change, set_value
from budgets import request_mails
from budgets.accounts import MONTHLY_CAP, check_cap, open_month, set_month_cap, standing_cap
from budgets.closing import reopen_month
from budgets.corrections import net_cost, post_correction
from budgets.models import (
    CORRECTION_ASKED_ONCE,
    SAME_ASKED_ONCE,
    ApprovalRequest,
    BudgetAccount,
    CostRecord,
    RequestKind,
    RequestState,
    Scope,
)
from budgets.request_words import change_words, title

REQUEST_LIFETIME = "ai.budget.request.lifetime"
ADD, CHANGE = "budgets.add_approvalrequest", "budgets.change_approvalrequest"
MONTHS_AHEAD_MAX = 12
EXPIRE_BATCH_MAX = 500
EXPIRY = "expiry of requests"
CAPS = (RequestKind.CAP, RequestKind.STANDING_CAP)


class NotOpen(BadRequest):
    """Somebody else was quicker, or it has expired."""

    code = "request_not_open"


# --- What there is


def waiting_for(user: User) -> QuerySet[ApprovalRequest]:
    """The open requests that `user` can decide: not their own."""
    deciding = organizations_where(user, deciding_roles())
    waiting = ApprovalRequest.objects.filter(
        state=RequestState.OPEN, expires_at__gt=clock.now(), organization__in=deciding
    )
    return waiting.exclude(asked_by_user=user)


def deciding_roles() -> list[str]:
    return roles_with("change", ApprovalRequest._meta.label_lower)


def deciders(asked: ApprovalRequest) -> list[User]:
    """Who is told that it waits: finance and administrators but the asker; operators if there are none."""
    others = User.objects.filter(is_active=True).exclude(pk__in=[asked.asked_by_user_id]).order_by("pk")
    members = others.filter(
        memberships__organization=asked.organization_id, memberships__role__in=deciding_roles()
    )
    return list(members) or list(others.filter(is_superuser=True))


# --- To ask


@transaction.atomic
def ask(
    *,
    organization: Organization,
    kind: str,
    month: date,
    amount_eur: Decimal | None = None,
    scope: str = Scope.ORGANIZATION,
    subject: str = "",
    corrects: CostRecord | None = None,
    provider: str = "",
    model: str = "",
    reason: str,
    acting: Acting,
    asked_by_user: User | None = None,
) -> ApprovalRequest:
    """Asks for something that takes a second person, and tells those who can decide.

    Args:
        amount_eur: the cap that is asked for, or the signed amount of a correction.
        asked_by_user: who asks, where `acting` does not say; they cannot decide about it.

    Raises:
        BadRequest: a field is wrong, named in `param`, or the same cap is asked for already.
        PermissionDenied: the person may not ask there.
    """
    if isinstance(acting, User) and not acting.has_perm(ADD, organization):
        raise PermissionDenied(_("Your role does not let you ask for this."))
    _check_reason(reason)
    if kind in CAPS:
        _check_asked_cap(organization, month, amount_eur)
        _check_account(organization, month, scope, subject)
    asked = ApprovalRequest(
        organization=organization,
        kind=kind,
        month=month,
        scope=scope,
        subject=subject,
        amount_eur=amount_eur,
        before_eur=net_cost(corrects)
        if corrects
        else cap_in_force(organization, kind, month, scope, subject)
        if kind in CAPS
        else None,
        corrects=corrects,
        provider=provider,
        model=model,
        reason=reason.strip(),
        asked_by=actor_name(acting)[:254],
        asked_by_user=asked_by_user or person_behind(acting),
        asked_at=clock.now(),
        expires_at=_expiry(organization, kind, month),
    )
    _insert(asked)
    _audit(asked, acting, "asked", reason=asked.reason)
    request_mails.tell_deciders(asked, deciders(asked))
    return asked


def _check_reason(reason: str, *, needed: bool = True) -> None:
    if needed and not reason.strip():
        raise BadRequest(_("Please give a reason."), param="reason")
    if len(reason) > REASON_CHARACTERS_MAX or not is_storable(reason):
        raise BadRequest(
            _("A reason is text of %(max)d characters at most.") % {"max": REASON_CHARACTERS_MAX},
            param="reason",
        )


def _check_asked_cap(organization: Organization, month: date, amount_eur: Decimal | None) -> None:
    if amount_eur is None:
        raise BadRequest(_("Please say which cap you ask for."), param="amount_eur")
    check_cap(amount_eur, param="amount_eur")
    if month not in months_ahead(clock.month_of(clock.now(), organization.time_zone)):
        raise BadRequest(_("A cap can be asked for from this month on, for a year ahead."), param="month")


def _check_account(organization: Organization, month: date, scope: str, subject: str) -> None:
    """A user's or a use case's account is opened by its first call; before, there is no cap to change."""
    accounts = BudgetAccount.objects.filter(organization=organization, month=month)
    if scope != Scope.ORGANIZATION and not accounts.filter(scope=scope, subject=subject).exists():
        raise BadRequest(_("There is no such budget in that month."), param="subject")


def months_ahead(present: date) -> list[date]:
    """The months whose cap can be asked for: the present one and the next twelve."""
    months = [present]
    while len(months) <= MONTHS_AHEAD_MAX:
        months.append(clock.next_month(months[-1]))
    return months


def cap_in_force(
    organization: Organization, kind: str, month: date, scope: str, subject: str
) -> Decimal | None:
    """The cap that a request is about, as it is now; None: there is none."""
    if kind == RequestKind.CAP:
        accounts = BudgetAccount.objects.filter(organization=organization, month=month)
        account = accounts.filter(scope=scope, subject=subject).first()
        if account is not None:
            cap: Decimal | None = account.cap_eur
            return cap
    return standing_cap(load_settings_sync(), organization.pk, scope, subject)


def _expiry(organization: Organization, kind: str, month: date) -> datetime:
    """At the end of its lifetime; a month's cap, no later than the month."""
    lifetime = load_settings_sync().value(REQUEST_LIFETIME, organization_id=organization.pk)
    expires_at: datetime = clock.now() + lifetime
    if kind == RequestKind.CAP:
        return min(expires_at, clock.month_start(clock.next_month(month), organization.time_zone))
    return expires_at


def _insert(asked: ApprovalRequest) -> None:
    try:
        with transaction.atomic():
            asked.save(force_insert=True)
    except IntegrityError as error:
        if CORRECTION_ASKED_ONCE in str(error):
            raise BadRequest(
                _("A correction of this charge has been asked for already, and waits for a decision."),
                code="already_asked",
                param="corrects",
            ) from error
        if SAME_ASKED_ONCE not in str(error):
            raise
        raise BadRequest(
            _("This cap has been asked for already, and waits for a decision."),
            code="already_asked",
            param="amount_eur",
        ) from error


def asking_for_standing_cap(change: Change) -> Callable[[], str] | None:
    """Asks for a standing cap in place of the setting's change; None where a person must say what they want.

    Nobody can ask for all organizations at once, for a second person of each would have to agree.
    """
    if change.subject.scope != "organization" or change.after is None or not isinstance(change.acting, User):
        return None
    organization = Organization.objects.get(pk=change.subject.id or 0)

    def send() -> str:
        asked = ask(
            organization=organization,
            kind=RequestKind.STANDING_CAP,
            month=clock.month_of(clock.now(), organization.time_zone),
            amount_eur=parse_money(change.after),
            reason=change.reason,
            acting=change.acting,
        )
        return said_asked(asked)

    return send


def said_asked(asked: ApprovalRequest) -> str:
    """That it has not been done but asked for, in a sentence for the person who did so."""
    facts = {"request": title(asked), "change": change_words(asked)}
    return (
        _("Sent as a request: %(request)s, %(change)s. It is in force once a second person approves.") % facts
    )


# --- To decide


@transaction.atomic
def approve(*, request_id: int, acting: User, reason: str = "") -> ApprovalRequest:
    """Does what was asked for, as the second person.

    Raises:
        NotFound: there is no such request in the person's organizations.
        PermissionDenied: they may not decide, or it is their own.
        NotOpen: it is decided, withdrawn or expired.
        BadRequest: it cannot be done any more.
    """
    asked = _decidable(request_id, acting)
    _check_reason(reason, needed=False)
    _leave_open(asked, RequestState.APPROVED, by=acting, reason=reason)
    _DO[RequestKind(asked.kind)](asked, acting)
    _conclude(asked, acting)
    return asked


@transaction.atomic
def reject(*, request_id: int, acting: User, reason: str) -> ApprovalRequest:
    """Turns it down, as the second person; raises as `approve`, and `BadRequest` without a reason."""
    asked = _decidable(request_id, acting)
    _check_reason(reason)
    _leave_open(asked, RequestState.REJECTED, by=acting, reason=reason)
    _conclude(asked, acting)
    return asked


@transaction.atomic
def withdraw(*, request_id: int, acting: Acting, reason: str = "") -> ApprovalRequest:
    """Takes it back: the person who asked, or a key of the organization that asked.

    Raises:
        NotFound, NotOpen: as `approve`.
        PermissionDenied: somebody else asked.
    """
    asked = _find(request_id)
    if isinstance(acting, ApiKey) and acting.organization_id != asked.organization_id:
        raise NotFound(_("There is no such request."))
    if isinstance(acting, User) and asked.asked_by_user_id != acting.pk:
        raise PermissionDenied(_("Only whoever asked can withdraw a request."))
    _check_reason(reason, needed=False)
    asker = asked.asked_by_user
    if isinstance(acting, ApiKey) and asker is not None and asked.asked_by == actor_name(asker)[:254]:
        raise PermissionDenied(_("Only whoever asked can withdraw a request."))
    person = acting if isinstance(acting, User) else None
    _leave_open(asked, RequestState.WITHDRAWN, by=person, reason=reason)
    _conclude(asked, acting)
    return asked


def expire_requests() -> int:
    """Ends the requests whose time is over; returns how many. Safe to run twice at once."""
    over = ApprovalRequest.objects.filter(state=RequestState.OPEN, expires_at__lte=clock.now())
    number = 0
    for asked in over.select_related("organization", "asked_by_user")[:EXPIRE_BATCH_MAX]:
        with transaction.atomic():
            if _left_open(asked, RequestState.EXPIRED, by=None, reason=""):
                _conclude(asked, EXPIRY)
                number += 1
    return number


def is_open(asked: ApprovalRequest) -> bool:
    return asked.state == RequestState.OPEN and asked.expires_at > clock.now()


def may_decide(asked: ApprovalRequest, user: User) -> bool:
    """Whether `user` could be its second person."""
    return user.has_perm(CHANGE, asked) and asked.asked_by_user_id != user.pk


def _find(request_id: int) -> ApprovalRequest:
    found = ApprovalRequest.objects.select_related("organization", "asked_by_user").filter(pk=request_id)
    asked = found.first()
    if asked is None:
        raise NotFound(_("There is no such request."))
    return asked


def _decidable(request_id: int, acting: User) -> ApprovalRequest:
    asked = _find(request_id)
    if not acting.has_perm("budgets.view_approvalrequest", asked):
        raise NotFound(_("There is no such request."))
    if not acting.has_perm(CHANGE, asked):
        raise PermissionDenied(_("Your role does not let you decide about requests."))
    if asked.asked_by_user_id == acting.pk:
        raise PermissionDenied(
            _("You asked for this yourself, or by a key that you made: somebody else decides."),
            code="own_request",
        )
    return asked


def _leave_open(asked: ApprovalRequest, state: RequestState, *, by: User | None, reason: str) -> None:
    if not _left_open(asked, state, by=by, reason=reason):
        asked.refresh_from_db(fields=["state"])
        over = asked.state == RequestState.OPEN
        words = RequestState.EXPIRED.label if over else asked.get_state_display()
        raise NotOpen(_("This request is not open any more: %(state)s.") % {"state": words})


def _left_open(asked: ApprovalRequest, state: RequestState, *, by: User | None, reason: str) -> bool:
    """The one way out of “open”; False where it is not open any more, or its time is over."""
    now = clock.now()
    in_time = Q(expires_at__gt=now) if state != RequestState.EXPIRED else Q(expires_at__lte=now)
    decision = {"state": state, "decided_by": by, "decided_at": now, "decision_reason": reason.strip()}
    if ApprovalRequest.objects.filter(in_time, pk=asked.pk, state=RequestState.OPEN).update(**decision) != 1:
        return False
    for name, value in decision.items():
        setattr(asked, name, value)
    return True


def _conclude(asked: ApprovalRequest, acting: Acting) -> None:
    """Writes the audit trail, and tells the asker unless it was their own doing."""
    _audit(asked, acting, asked.state, reason=asked.decision_reason)
    if asked.asked_by_user is not None and asked.asked_by_user != person_behind(acting):
        request_mails.tell_asker(asked)


def _audit(asked: ApprovalRequest, acting: Acting, done: str, *, reason: str) -> None:
    write_audit_entry(
        organization=asked.organization,
        acting=acting,
        action=f"budget.request_{done}",
        target=str(asked),
        before={"state": RequestState.OPEN} if done != "asked" else None,
        after={"state": asked.state, **dict(_facts(asked))},
        reason=reason,
    )


def _facts(asked: ApprovalRequest) -> Iterator[tuple[str, str]]:
    if asked.amount_eur is not None:
        yield "amount_eur", cap_text(asked.amount_eur)
    yield "asked_by", asked.asked_by


# --- What is done when it is approved


def _set_month_cap(asked: ApprovalRequest, acting: User) -> None:
    if asked.month < clock.month_of(clock.now(), asked.organization.time_zone):
        raise BadRequest(_("The month is over."))
    if asked.scope == Scope.ORGANIZATION:
        open_month(organization=asked.organization, month=asked.month)
    accounts = BudgetAccount.objects.select_for_update().select_related(None)
    account = accounts.get(
        organization=asked.organization, month=asked.month, scope=asked.scope, subject=asked.subject
    )
    _check_still_wanted(asked, account.cap_eur)
    set_month_cap(
        account=account,
        cap_eur=asked.amount_eur or ZERO,
        acting=acting,
        reason=asked.reason,
        approved=True,
    )


def _set_standing_cap(asked: ApprovalRequest, acting: User) -> None:
    now = cap_in_force(asked.organization, asked.kind, asked.month, asked.scope, asked.subject)
    _check_still_wanted(asked, now)
    set_value(
        key=MONTHLY_CAP,
        scope="organization",
        organization=asked.organization,
        value=cap_text(asked.amount_eur or ZERO),
        acting=acting,
        reason=asked.reason,
        approved=True,
    )


def _check_still_wanted(asked: ApprovalRequest, cap_eur: Decimal | None) -> None:
    """A raise that has been overtaken would lower the cap, which nobody meant."""
    amount = asked.amount_eur or ZERO
    was_raise = asked.before_eur is not None and amount > asked.before_eur
    if was_raise and (cap_eur is None or cap_eur >= amount):
        shown = _("none") if cap_eur is None else euro_for_people(cap_eur)
        raise BadRequest(_("The cap is %(cap)s by now: there is nothing left to raise.") % {"cap": shown})


def _correct(asked: ApprovalRequest, acting: User) -> None:
    if asked.corrects is not None:
        _check_still_costs(asked.corrects, asked.before_eur)
    post_correction(
        organization=asked.organization,
        month=asked.month,
        amount_eur=asked.amount_eur or ZERO,
        corrects=asked.corrects,
        request=asked,
        provider=asked.provider,
        model=asked.model,
        reason=asked.reason,
        acting=acting,
    )


def _check_still_costs(charge: CostRecord, before_eur: Decimal | None) -> None:
    """What was asked for is a difference, and right only for the cost that it was reckoned from."""
    CostRecord.objects.select_for_update().get(pk=charge.pk)
    now = net_cost(charge)
    if before_eur is not None and now != before_eur:
        raise BadRequest(
            _("This charge costs %(now)s by now, and not %(then)s as when the correction was asked for.")
            % {"now": exact_euro_for_people(now), "then": exact_euro_for_people(before_eur)}
        )


def _reopen(asked: ApprovalRequest, acting: User) -> None:
    reopen_month(organization=asked.organization, month=asked.month, request=asked, acting=acting)


_DO: Mapping[RequestKind, Callable[[ApprovalRequest, User], None]] = {
    RequestKind.CAP: _set_month_cap,
    RequestKind.STANDING_CAP: _set_standing_cap,
    RequestKind.CORRECTION: _correct,
    RequestKind.REOPENING: _reopen,
}
