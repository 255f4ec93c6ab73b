"""`/api/v1/completions`: the gateway's own face."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from drf_spectacular.utils import extend_schema
from pydantic import Field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aigov.api import ApiView
from aigov.errors import BadRequest, GatewayError
from aigov.organizations.models import Scope
from aigov.organizations.principals import Principal
from aigov.web.direct import DirectView, HttpAnswer, JsonRequest
from aigov.web.errors import openai_body
from providers.types import Delta, Message, Prompt, StreamStart, TextDelta
from routing import decisions
from routing.api import fields
from routing.api.answers import native_body
from routing.api.serving import answer, event
from routing.api.shapes import Shape, read
from routing.course import Completion, Course
from routing.requests import CompletionRequest


class NativeMessage(Shape):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(min_length=1)]


class NativeRequest(Shape):
    messages: Annotated[list[NativeMessage], Field(min_length=1, max_length=fields.MESSAGES_MAX)]
    use_case: fields.Name = ""
    tier: Literal["auto", "small", "large"] = "auto"
    user: fields.Name = ""
    labels: fields.Labels | None = None
    response_schema: fields.JsonSchema | None = None
    max_output_tokens: fields.OutputTokens | None = None
    confidence_threshold: fields.Share | None = None
    stream: bool = False
    cache: Literal["use", "refresh", "off"] = "use"
    metadata: fields.Tags = {}


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


class CompletionsView(DirectView):
    """Small model first; the large one where the small is not sure enough and the budget allows."""

    required_scope = Scope.COMPLETIONS_WRITE

    @extend_schema(
        operation_id="complete",
        summary="Answer a request with the cheapest model that is sure enough",
        request=NativeRequest,
        responses={
            (200, "application/json"): CompletionSerializer,
            (200, "text/event-stream"): {"type": "string", "description": "With “stream”: true."},
        },
    )
    async def post(self, request: JsonRequest) -> HttpAnswer:
        asked = read(NativeRequest, request.data)
        return await answer(request, asked=completion_request(asked), face=FACE, streamed=asked.stream)


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


@dataclass(frozen=True)
class NativeFace:
    """The gateway's own format."""

    def body(self, completion: Completion) -> dict[str, Any]:
        return native_body(completion)

    def frames(self, course: Course, start: StreamStart) -> "NativeFrames":
        return NativeFrames()


class NativeFrames:
    """The events `delta`, then `completion` or `error`."""

    def begin(self, first: Delta | None) -> bytes:
        return b""

    def delta(self, delta: Delta) -> bytes:
        return event("delta", {"content": delta.text}) if isinstance(delta, TextDelta) else b""

    def end(self, completion: Completion) -> bytes:
        return event("completion", native_body(completion))

    def error(self, error: GatewayError) -> bytes:
        return event("error", openai_body(error))


FACE = NativeFace()


def completion_request(asked: NativeRequest) -> CompletionRequest:
    """What is asked of the gateway.

    Raises:
        BadRequest: two fields do not go together.
    """
    if asked.labels and asked.response_schema is not None:
        raise BadRequest("Give either labels or a response_schema.", param="response_schema")
    return CompletionRequest(
        prompt=Prompt(
            messages=tuple(Message(message.role, message.content) for message in asked.messages),
            labels=tuple(asked.labels or ()),
            response_schema=asked.response_schema,
        ),
        tier=asked.tier,
        use_case=fields.use_case_of(asked.use_case, asked.metadata),
        user=asked.user,
        max_output_tokens=asked.max_output_tokens,
        confidence_threshold=asked.confidence_threshold,
        cache=asked.cache,
        metadata=asked.metadata,
    )
