"""What a service may ask about its organization's budgets."""

import re
from datetime import date
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aigov import clock
from aigov.api import ApiView
from aigov.errors import BadRequest
from aigov.organizations.models import Scope as KeyScope
from aigov.organizations.principals import Principal
from budgets.balances import Month, balance_as_json, balances, months
from budgets.models import Scope

USER_CHARACTERS_MAX = 200
MONTHS = 24
ROWS_MAX = 100
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)


class BalanceSerializer(serializers.Serializer[Any]):
    limit_eur = serializers.CharField(allow_null=True, help_text="The cap in force; null: none.")
    spent_eur = serializers.CharField()
    held_eur = serializers.CharField(help_text="Held by calls in flight.")
    remaining_eur = serializers.CharField(allow_null=True)
    resets_at = serializers.DateTimeField()


class BudgetSerializer(BalanceSerializer):
    month = serializers.CharField(help_text="The accounting month, as 2026-11.")
    user = BalanceSerializer(required=False, help_text="The named user's figures.")


class MonthSerializer(BalanceSerializer):
    month = serializers.CharField(help_text="The accounting month, as 2026-11.")
    closed = serializers.BooleanField(help_text="Whether its figures are final.")


class MonthsSerializer(serializers.Serializer[Any]):
    months = MonthSerializer(many=True)
    next = serializers.CharField(
        allow_null=True, help_text="The month to ask for as `to` to get the rest; null: there is none."
    )


class BudgetView(ApiView):
    """What the organization may spend this month, has spent, and holds for calls in flight."""

    required_scope = KeyScope.BUDGET_READ

    @extend_schema(
        operation_id="budget",
        summary="This month's budget of the key's organization",
        parameters=[OpenApiParameter("user", str, description="Adds the figures of this user.")],
        responses=BudgetSerializer,
    )
    async def get(self, request: Request) -> Response:
        principal: Principal = request.auth  # type: ignore[assignment]
        user = request.query_params.get("user", "")
        if len(user) > USER_CHARACTERS_MAX or "\0" in user:
            raise BadRequest(f"A user has at most {USER_CHARACTERS_MAX} characters.", param="user")
        month = clock.month_of(clock.now(), principal.time_zone)
        resets_at = clock.month_start(clock.next_month(month), principal.time_zone)
        found = await balances(organization_id=principal.organization_id, month=month, user=user)
        shown = {"month": f"{month:%Y-%m}", **balance_as_json(found[Scope.ORGANIZATION], resets_at)}
        if user:
            shown["user"] = balance_as_json(found[Scope.USER], resets_at)
        return Response(shown)


class MonthsView(ApiView):
    """What the organization could spend in each month, has spent, and holds; the newest month first."""

    required_scope = KeyScope.BUDGET_READ

    @extend_schema(
        operation_id="budget_months",
        summary="The budgets of the key's organization by month",
        parameters=[
            OpenApiParameter("from", str, description="The earliest month, as 2026-01; default: the first."),
            OpenApiParameter("to", str, description="The latest month; default: the last that is open."),
            OpenApiParameter("limit", int, description=f"Months in the answer; {MONTHS} by default."),
        ],
        responses=MonthsSerializer,
    )
    async def get(self, request: Request) -> Response:
        principal: Principal = request.auth  # type: ignore[assignment]
        limit = limit_asked(request, default=MONTHS)
        found = await months(
            organization_id=principal.organization_id,
            time_zone=principal.time_zone,
            first=month_asked(request, "from"),
            last=month_asked(request, "to") or date.max,
            limit=limit + 1,
        )
        rest = found[limit:]
        return Response(
            {
                "months": [_month_as_json(principal, row) for row in found[:limit]],
                "next": f"{rest[0].month:%Y-%m}" if rest else None,
            }
        )


def _month_as_json(principal: Principal, row: Month) -> dict[str, Any]:
    resets_at = clock.month_start(clock.next_month(row.month), principal.time_zone)
    shown = {"month": f"{row.month:%Y-%m}", "closed": row.closed}
    return {**shown, **balance_as_json(row.balance, resets_at)}


def month_asked(request: Request, name: str) -> date | None:
    """The month (its first day) that the query names.

    Raises:
        BadRequest: it is none.
    """
    text = request.query_params.get(name)
    return None if text is None else parse_month(text, param=name)


def limit_asked(request: Request, *, default: int) -> int:
    """How many rows the answer may have.

    Raises:
        BadRequest: not from 1 to 100.
    """
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= ROWS_MAX):
        raise BadRequest(f"A limit is a number from 1 to {ROWS_MAX}.", param="limit")
    return int(text)


def parse_month(text: str, *, param: str) -> date:
    """The first day of the month that `text` names, as 2026-11.

    Raises:
        BadRequest: it names none.
    """
    if _MONTH.fullmatch(text) is None:
        raise BadRequest("A month is written as 2026-11.", param=param)
    return date.fromisoformat(f"{text}-01")
