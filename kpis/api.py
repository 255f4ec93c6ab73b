"""The key figures over HTTP: leads and orders in, figures out."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aigov import clock
from aigov.api import ApiView
from aigov.errors import BadRequest
from aigov.money import euro_text
from aigov.organizations.models import Organization
from aigov.organizations.models import Scope as KeyScope
from aigov.organizations.principals import Principal
from aigov.web.parsers import UNSTORABLE, parse_json
from kpis import hooks, queries
from kpis.filters import FIRST_YEAR, LAST_YEAR
from kpis.models import OutcomeKind
from kpis.outcomes import EXTERNAL_ID_CHARACTERS_MAX, OUTCOMES_MAX, Taken, Told, record_outcomes
from kpis.periods import DAYS_MAX, Period

USE_CASE_CHARACTERS_MAX = 200


class Instant(serializers.DateTimeField):
    """A time with its offset from UTC: without one, nobody knows which day it is."""

    default_error_messages = {
        "naive": "The time needs an offset from UTC, such as 2026-11-22T10:00:00+01:00."
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("naive")
        return value


class OutcomeSerializer(serializers.Serializer[Any]):
    default_error_messages = {"unknown": "There is no such field."}

    kind = serializers.ChoiceField(choices=OutcomeKind.values)
    external_id = serializers.CharField(max_length=EXTERNAL_ID_CHARACTERS_MAX, help_text="Your own id of it.")
    occurred_at = Instant()
    value_eur = serializers.DecimalField(
        max_digits=18,
        decimal_places=9,
        min_value=Decimal(0),
        default=Decimal(0),
        help_text="What it is worth.",
    )

    def to_internal_value(self, data: Any) -> Any:
        """A field that is not known is a mistake: a misspelled value would be 0, and nobody would notice."""
        unknown = set(data) - set(self.fields) if isinstance(data, Mapping) else set()
        if unknown:
            raise serializers.ValidationError(dict.fromkeys(sorted(unknown), self.error_messages["unknown"]))
        return super().to_internal_value(data)


class OutcomesSerializer(serializers.Serializer[Any]):
    outcomes = serializers.ListField(child=OutcomeSerializer(), min_length=1, max_length=OUTCOMES_MAX)


class TakenSerializer(serializers.Serializer[Any]):
    created = serializers.IntegerField(help_text="New ones.")
    changed = serializers.IntegerField(
        help_text="Known ones with another time or value, which count from now on."
    )
    unchanged = serializers.IntegerField(help_text="Known ones, told again.")


def outcomes_of(data: Any) -> list[Told]:
    """The leads and orders of a request's body.

    Raises:
        ValidationError: something is wrong; every mistake is named by its place.
    """
    serializer = OutcomesSerializer(data=data)
    serializer.is_valid(raise_exception=True)
    return [Told(**outcome) for outcome in serializer.validated_data["outcomes"]]


def taken_as_json(taken: Taken) -> dict[str, int]:
    return {"created": taken.created, "changed": taken.changed, "unchanged": taken.unchanged}


class OutcomesView(ApiView):
    """Leads and orders, told by a service; all of a request's are taken, or none."""

    required_scope = KeyScope.OUTCOMES_WRITE

    @extend_schema(
        operation_id="outcomes",
        summary="Report leads and orders",
        request=OutcomesSerializer,
        responses=TakenSerializer,
    )
    async def post(self, request: Request) -> Response:
        principal = cast(Principal, request.auth)
        outcomes = outcomes_of(request.data)
        return Response(taken_as_json(await sync_to_async(_record)(principal, outcomes)))


def _record(principal: Principal, outcomes: list[Told]) -> Taken:
    return record_outcomes(
        organization=Organization.objects.get(pk=principal.organization_id),
        outcomes=outcomes,
        acting=f"API key aig_{principal.key_id}",
    )


class OutcomeHookView(ApiView):
    """Leads and orders, sent by a CRM; let in by their signature, not by a key."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="outcomes_webhook",
        summary="Report leads and orders from a CRM, signed as Standard Webhooks describe",
        auth=[],
        parameters=[
            OpenApiParameter(name, str, OpenApiParameter.HEADER, required=True)
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        ],
        request=OutcomesSerializer,
        responses=TakenSerializer,
    )
    async def post(self, request: Request, hook_id: UUID) -> Response:
        taken = await sync_to_async(_take)(hook_id, request.headers, request._request.body)
        return Response(taken_as_json(taken))


def _take(hook_id: UUID, headers: Any, body: bytes) -> Taken:
    """The signature first: of what is not signed, nothing is read."""
    hook = hooks.hook_of_message(hook_id=hook_id, headers=headers, body=body)
    outcomes = outcomes_of(parse_json(body))
    return hooks.take_message(hook=hook, message_id=headers["webhook-id"], outcomes=outcomes)


# --- Figures


def _euro(help_text: str, *, nullable: bool = False) -> serializers.CharField:
    return serializers.CharField(help_text=help_text, allow_null=nullable)


def _share(help_text: str) -> serializers.FloatField:
    return serializers.FloatField(help_text=help_text, allow_null=True)


class SummarySerializer(serializers.Serializer[Any]):
    to = serializers.DateField(help_text="The last local day, inclusive.")
    as_of = serializers.DateTimeField()
    cost_eur = _euro("All AI cost of the period.")
    leads = serializers.IntegerField()
    orders = serializers.IntegerField()
    value_eur = _euro("What the leads and orders are worth.")
    cost_per_lead_eur = _euro("All AI cost by the leads of the period.", nullable=True)
    cost_per_order_eur = _euro("All AI cost by the orders of the period.", nullable=True)
    direct_cost_per_lead_eur = _euro("Cost of the calls that name a lead, by those named.", nullable=True)
    direct_cost_per_order_eur = _euro("Cost of the calls that name an order, by those named.", nullable=True)
    return_on_spend = _share("Value by cost.")
    calls_small = serializers.IntegerField(help_text="Answered by the small model.")
    calls_large = serializers.IntegerField(help_text="Answered by the large model.")
    calls_degraded = serializers.IntegerField(help_text="Answered by the small model, not sure enough.")
    calls_cache = serializers.IntegerField(help_text="Answered from the cache.")
    cache_hit_rate = _share("Answers from the cache, of all answers.")
    escalation_rate = _share("Escalated, of what the small model answered first.")
    all_large_eur = _euro("What the large model alone would have cost.")
    savings_factor = _share("What the large model alone would have cost, by cost.")
    availability = _share("Answered, of answered and failed.")
    availability_without_fallback = _share("Answered at the first try, of answered and failed.")

    def get_fields(self) -> dict[str, Any]:
        """`from` is no name in Python."""
        return {"from": serializers.DateField(help_text="The first local day."), **super().get_fields()}


class SummaryView(ApiView):
    """The key figures of the key's organization in a period; today is live."""

    required_scope = KeyScope.KPIS_READ

    @extend_schema(
        operation_id="kpis_summary",
        summary="Key figures of a period",
        parameters=[
            OpenApiParameter("from", date, description="First local day; by default this month's first."),
            OpenApiParameter("to", date, description="Last local day, inclusive; by default today."),
            OpenApiParameter("use_case", str, description="Costs and calls of this use case alone."),
        ],
        responses=SummarySerializer,
    )
    async def get(self, request: Request) -> Response:
        principal = cast(Principal, request.auth)
        period = _period(request.query_params, principal)
        use_case = request.query_params.get("use_case")
        if use_case is not None and (len(use_case) > USE_CASE_CHARACTERS_MAX or UNSTORABLE.search(use_case)):
            raise BadRequest("There can be no such use case.", param="use_case")
        figures = await sync_to_async(queries.figures)([principal.organization_id], period, use_case)
        return Response(_summary(figures, period))


def _period(given: Any, principal: Principal) -> Period:
    """The days that were asked for.

    Raises:
        BadRequest: one is no date, or both are no period; the parameter is named.
    """
    today = clock.day_of(clock.now(), principal.time_zone)
    last = _day(given, "to", today)
    first = _day(given, "from", last.replace(day=1))
    try:
        return Period(first, last)
    except ValueError:
        message = f"The first day is after the last, or more than {DAYS_MAX} days before it."
        raise BadRequest(message, param="from") from None


def _day(given: Any, name: str, default: date) -> date:
    text = given.get(name)
    if text is None:
        return default
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text or not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise BadRequest(f"This is no date of {FIRST_YEAR} to {LAST_YEAR} such as 2026-11-01.", param=name)
    return found


def _summary(figures: queries.Figures, period: Period) -> dict[str, Any]:
    business, requests = figures.business, figures.requests
    return {
        "from": period.first,
        "to": period.last,
        "as_of": clock.now().isoformat(timespec="seconds"),
        "cost_eur": euro_text(business.cost_eur),
        "leads": business.outcomes.leads,
        "orders": business.outcomes.orders,
        "value_eur": euro_text(business.outcomes.value_eur),
        "cost_per_lead_eur": _euro_or_null(business.cost_per_lead_eur),
        "cost_per_order_eur": _euro_or_null(business.cost_per_order_eur),
        "direct_cost_per_lead_eur": _euro_or_null(business.direct.cost_per_lead_eur),
        "direct_cost_per_order_eur": _euro_or_null(business.direct.cost_per_order_eur),
        "return_on_spend": business.return_on_spend,
        "calls_small": requests.small,
        "calls_large": requests.large,
        "calls_degraded": requests.degraded,
        "calls_cache": requests.cache,
        "cache_hit_rate": requests.cache_hit_rate,
        "escalation_rate": requests.escalation_rate,
        "all_large_eur": euro_text(requests.all_large_eur),
        "savings_factor": figures.savings_factor,
        "availability": requests.availability,
        "availability_without_fallback": requests.availability_without_fallback,
    }


def _euro_or_null(amount: Decimal | None) -> str | None:
    return None if amount is None else euro_text(amount)
