"""`/api/v1/completions`: the gateway's own face."""

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aigov.api import ApiView
from aigov.organizations.models import Scope
from aigov.organizations.principals import Principal
from aigov.web.errors import request_id_of
from providers.types import Message, Prompt
from routing import decisions, gateway
from routing.api import fields
from routing.api.answers import headers_of, native_body
from routing.api.fields import JsonSchema, Strict, Tags, Text
from routing.requests import CompletionRequest


class MessageSerializer(Strict):
    role = serializers.ChoiceField(choices=["system", "user", "assistant"])
    content = Text()


class CompletionRequestSerializer(Strict):
    messages = MessageSerializer(many=True, allow_empty=False, max_length=fields.MESSAGES_MAX)  # type: ignore[call-arg]
    use_case = Text(default="", allow_blank=True, max_length=fields.NAME_CHARACTERS_MAX)
    tier = serializers.ChoiceField(choices=["auto", "small", "large"], default="auto")
    user = Text(default="", allow_blank=True, max_length=fields.NAME_CHARACTERS_MAX)
    labels = serializers.ListField(
        child=Text(max_length=fields.NAME_CHARACTERS_MAX),
        allow_null=True,
        default=None,
        allow_empty=False,
        max_length=fields.LABELS_MAX,
    )
    response_schema = JsonSchema(allow_null=True, default=None)
    max_output_tokens = serializers.IntegerField(
        allow_null=True, default=None, min_value=1, max_value=fields.OUTPUT_TOKENS_MAX
    )
    confidence_threshold = serializers.FloatField(allow_null=True, default=None, min_value=0, max_value=1)
    stream = serializers.BooleanField(default=False)
    cache = serializers.ChoiceField(choices=["use", "refresh", "off"], default="use")
    metadata = Tags(default=dict)

    def validate_labels(self, labels: list[str] | None) -> list[str] | None:
        return fields.check_labels(labels)

    def validate_stream(self, stream: bool) -> bool:
        if stream:
            raise serializers.ValidationError("Streaming is not supported yet.", code="unsupported_value")
        return stream

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if data["labels"] and data["response_schema"] is not None:
            raise serializers.ValidationError({"response_schema": "Give either labels or a response_schema."})
        return data


#: One for all requests: to build a serializer is to copy all its fields, which costs more than the check.
_FORM = CompletionRequestSerializer()


class AttemptSerializer(serializers.Serializer[Any]):
    tier = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    outcome = serializers.ChoiceField(
        choices=["accepted", "low_confidence", "failed", "refused_budget", "skipped_circuit_open"]
    )
    confidence = serializers.FloatField(allow_null=True)
    latency_ms = serializers.IntegerField()
    cost_eur = serializers.CharField()


class UsageSerializer(serializers.Serializer[Any]):
    input_total = serializers.IntegerField()
    cache_read = serializers.IntegerField()
    cache_write = serializers.IntegerField()
    output_total = serializers.IntegerField()
    reasoning = serializers.IntegerField()


class CompletionBudgetSerializer(serializers.Serializer[Any]):
    limit_eur = serializers.CharField()
    spent_eur = serializers.CharField()
    held_eur = serializers.CharField()
    remaining_eur = serializers.CharField()
    resets_at = serializers.DateTimeField()


class CompletionSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    created_at = serializers.DateTimeField()
    content = serializers.CharField()
    parsed = serializers.JSONField(allow_null=True)
    route = serializers.ChoiceField(choices=["small", "large", "cache", "degraded"])
    tier = serializers.ChoiceField(choices=["small", "large"])
    provider = serializers.CharField()
    model = serializers.CharField()
    confidence = serializers.FloatField(allow_null=True)
    confidence_method = serializers.CharField()
    threshold = serializers.FloatField()
    attempts = AttemptSerializer(many=True)
    usage = UsageSerializer()
    cost_eur = serializers.CharField()
    budget = CompletionBudgetSerializer()
    cached = serializers.BooleanField()
    finish_reason = serializers.CharField()
    request_id = serializers.CharField()


class CompletionsView(ApiView):
    """Small model first; the large one where the small is not sure enough and the budget allows."""

    required_scope = Scope.COMPLETIONS_WRITE

    @extend_schema(
        operation_id="complete",
        summary="Answer a request with the cheapest model that is sure enough",
        request=CompletionRequestSerializer,
        responses=CompletionSerializer,
    )
    async def post(self, request: Request) -> JsonResponse:
        principal: Principal = request.auth  # type: ignore[assignment]
        fields.refuse_idempotency_key(request.headers)
        asked = _FORM.run_validation(request.data)
        completion = await gateway.complete(
            principal=principal,
            request=completion_request(asked),
            request_id=request_id_of(request),
        )
        # No DRF `Response`: Django would render it in a thread.
        return JsonResponse(native_body(completion), headers=headers_of(completion))


class CompletionView(ApiView):
    """Its metadata, and each attempt with its usage, price row and exchange rate. No text is kept."""

    required_scope = Scope.COMPLETIONS_READ

    @extend_schema(
        operation_id="completion",
        summary="How a completion was answered, and what each attempt cost",
        responses={(200, "application/json"): {"type": "object", "additionalProperties": True}},
    )
    async def get(self, request: Request, completion_id: str) -> Response:
        principal: Principal = request.auth  # type: ignore[assignment]
        return Response(
            await decisions.find(completion_id=completion_id, organization_id=principal.organization_id)
        )


def completion_request(data: dict[str, Any]) -> CompletionRequest:
    """The request that valid `data` describes."""
    return CompletionRequest(
        prompt=Prompt(
            messages=tuple(Message(**message) for message in data["messages"]),
            labels=tuple(data["labels"] or ()),
            response_schema=data["response_schema"],
        ),
        tier=data["tier"],
        use_case=fields.use_case_of(data),
        user=data["user"],
        max_output_tokens=data["max_output_tokens"],
        confidence_threshold=data["confidence_threshold"],
        cache=data["cache"],
        metadata=data["metadata"],
    )
