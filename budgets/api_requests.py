"""A service asks for a cap for a month, and sees what became of it.

It cannot approve or reject: a key is nobody's second person. Whoever made the key counts as the one who
asks, and cannot approve either.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from aigov.api import ApiView
from aigov.errors import BadRequest, NotFound
from aigov.money import ZERO, cap_text
from aigov.organizations.models import ApiKey
from aigov.organizations.models import Scope as KeyScope
from aigov.organizations.principals import Principal
from aigov.registry.json_values import parse_money
from aigov.registry.values import REASON_CHARACTERS_MAX
from budgets.api import limit_asked, parse_month
from budgets.approvals import ask, withdraw
from budgets.models import ApprovalRequest, RequestKind, RequestState, Scope

ROWS = 50


class MonthField(serializers.CharField):
    def to_internal_value(self, data: Any) -> Any:
        try:
            return parse_month(super().to_internal_value(data), param="month")
        except BadRequest as refusal:
            raise serializers.ValidationError(refusal.message) from None


class AmountField(serializers.CharField):
    """A decimal string: a JSON number would have been a binary float on its way."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise serializers.ValidationError('An amount is a decimal string, such as "1200.00".')
        try:
            return parse_money(data)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None


class CapAsked(serializers.Serializer[Any]):
    month = MonthField(
        help_text="The accounting month, as 2026-11: the present one or one of the next twelve."
    )
    amount_eur = AmountField(help_text="The cap that is asked for, as a decimal string.")
    reason = serializers.CharField(max_length=REASON_CHARACTERS_MAX)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError({str(name): "There is no such field." for name in unknown})
        return super().to_internal_value(data)


class Withdrawal(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=REASON_CHARACTERS_MAX, default="", allow_blank=True)


class CapRequestSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=RequestState.values)
    month = serializers.CharField(help_text="As 2026-11.")
    scope = serializers.ChoiceField(choices=Scope.values)
    subject = serializers.CharField(help_text="The user or use case whose cap it is, if it is one's.")
    amount_eur = serializers.CharField(help_text="The cap that is asked for.")
    before_eur = serializers.CharField(allow_null=True, help_text="The cap in force when it was asked for.")
    reason = serializers.CharField()
    asked_by = serializers.CharField()
    asked_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    decided_by = serializers.CharField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    decision_reason = serializers.CharField()


class CapRequestsSerializer(serializers.Serializer[Any]):
    requests = CapRequestSerializer(many=True)
    next = serializers.IntegerField(
        allow_null=True, help_text="The id to ask for as `before` to get the rest; null: there is none."
    )


class CapRequestsView(ApiView):
    required_scope = {"GET": KeyScope.BUDGET_READ, "POST": KeyScope.BUDGET_WRITE}

    @extend_schema(
        operation_id="cap_requests",
        summary="The organization's requests for caps, the newest first",
        parameters=[
            OpenApiParameter("state", str, enum=RequestState.values),
            OpenApiParameter("before", int, description="Only requests older than that of this id."),
            OpenApiParameter("limit", int, description=f"Requests in the answer; {ROWS} by default."),
        ],
        responses=CapRequestsSerializer,
    )
    async def get(self, request: Request) -> Response:
        limit = limit_asked(request, default=ROWS)
        rows = _asked_for(request)[: limit + 1]
        found = [asked async for asked in rows]
        return Response(
            {
                "requests": [_as_json(asked) for asked in found[:limit]],
                "next": found[limit - 1].pk if len(found) > limit else None,
            }
        )

    @extend_schema(
        operation_id="cap_request_make",
        summary="Ask for a cap for a month; a second person decides",
        request=CapAsked,
        responses={201: CapRequestSerializer},
    )
    async def post(self, request: Request) -> Response:
        asked = CapAsked(data=request.data)
        asked.is_valid(raise_exception=True)
        made = await sync_to_async(_make)(_caller(request), **asked.validated_data)
        address = reverse("cap-request", args=[made.pk])
        return Response(_as_json(made), status=201, headers={"Location": address})


class CapRequestView(ApiView):
    required_scope = KeyScope.BUDGET_READ

    @extend_schema(
        operation_id="cap_request", summary="One request for a cap", responses=CapRequestSerializer
    )
    async def get(self, request: Request, request_id: int) -> Response:
        return Response(_as_json(await _find(_caller(request), request_id)))


class WithdrawCapRequestView(ApiView):
    required_scope = KeyScope.BUDGET_WRITE

    @extend_schema(
        operation_id="cap_request_withdraw",
        summary="Withdraw a request for a cap",
        request=Withdrawal,
        responses=CapRequestSerializer,
    )
    async def post(self, request: Request, request_id: int) -> Response:
        asked = await _find(_caller(request), request_id)
        given = Withdrawal(data=request.data)
        given.is_valid(raise_exception=True)
        await sync_to_async(_withdraw)(_caller(request), asked.pk, given.validated_data["reason"])
        return Response(_as_json(await _find(_caller(request), request_id)))


def _caller(request: Request) -> Principal:
    return cast(Principal, request.auth)


def _of_organization(principal: Principal) -> QuerySet[ApprovalRequest]:
    mine = ApprovalRequest.objects.filter(organization=principal.organization_id, kind=RequestKind.CAP)
    return mine.select_related("decided_by").order_by("-pk")


def _asked_for(request: Request) -> QuerySet[ApprovalRequest]:
    """The requests that the query names.

    Raises:
        BadRequest: a member of the query is none.
    """
    rows = _of_organization(_caller(request))
    state, before = request.query_params.get("state"), request.query_params.get("before")
    if state is not None:
        if state not in RequestState.values:
            raise BadRequest(f"A state is one of {', '.join(RequestState.values)}.", param="state")
        rows = rows.filter(state=state)
    if before is not None:
        if not (before.isascii() and before.isdecimal() and len(before) <= 18):
            raise BadRequest("The id of a request is a number.", param="before")
        rows = rows.filter(pk__lt=int(before))
    return rows


async def _find(principal: Principal, request_id: int) -> ApprovalRequest:
    asked = await _of_organization(principal).filter(pk=request_id).afirst()
    if asked is None:
        raise NotFound("There is no such request.")
    return asked


def _key(principal: Principal) -> ApiKey:
    return ApiKey.objects.select_related("created_by", "organization").get(key_id=principal.key_id)


def _make(principal: Principal, month: date, amount_eur: Decimal, reason: str) -> ApprovalRequest:
    key = _key(principal)
    return ask(
        organization=key.organization,
        kind=RequestKind.CAP,
        month=month,
        amount_eur=amount_eur,
        reason=reason,
        acting=key,
    )


def _withdraw(principal: Principal, request_id: int, reason: str) -> None:
    withdraw(request_id=request_id, acting=_key(principal), reason=reason)


def _as_json(asked: ApprovalRequest) -> dict[str, Any]:
    return {
        **{"id": asked.pk, "state": asked.state, "month": f"{asked.month:%Y-%m}"},
        **{"scope": asked.scope, "subject": asked.subject},
        "amount_eur": cap_text(asked.amount_eur or ZERO),
        "before_eur": None if asked.before_eur is None else cap_text(asked.before_eur),
        **{"reason": asked.reason, "asked_by": asked.asked_by},
        **{"asked_at": _instant(asked.asked_at), "expires_at": _instant(asked.expires_at)},
        "decided_by": asked.decided_by and asked.decided_by.email,
        "decided_at": _instant(asked.decided_at),
        "decision_reason": asked.decision_reason,
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
