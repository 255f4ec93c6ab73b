"""What a service may ask about its organization's budget."""

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
from budgets.balances import balance_as_json, balances
from budgets.models import Scope

USER_CHARACTERS_MAX = 200


class BalanceSerializer(serializers.Serializer[Any]):
    limit_eur = serializers.CharField(allow_null=True, help_text="The cap in force; null: none.")
    spent_eur = serializers.CharField()
    held_eur = serializers.CharField(help_text="Held by calls in flight.")
    remaining_eur = serializers.CharField(allow_null=True)
    resets_at = serializers.DateTimeField()


class BudgetSerializer(BalanceSerializer):
    month = serializers.CharField(help_text="The accounting month, as 2026-11.")
    user = BalanceSerializer(required=False, help_text="The named user's figures.")


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
