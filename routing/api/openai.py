"""`/v1/chat/completions`: for the official `openai` client, which only changes its base URL and key.

What cannot be honoured is refused by name, never dropped.
"""

from typing import Any

from django.http import JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from aigov.api import ApiView
from aigov.organizations.models import Scope
from aigov.organizations.principals import Principal
from aigov.web.errors import request_id_of
from providers.types import Message, Prompt, Sampling
from routing import gateway
from routing.api import fields
from routing.api.answers import headers_of, sdk_extras
from routing.api.fields import JsonSchema, Strict, Tags, Text
from routing.course import Completion
from routing.requests import CompletionRequest

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
TIERS = ("auto", "small", "large")


class ContentField(serializers.Field[str, Any, Any, Any]):
    """A message's content: a string, or parts of text."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str):
            return data
        if not isinstance(data, list) or not data:
            raise serializers.ValidationError("Must be a string or an array of text parts.")
        for part in data:
            if (
                not isinstance(part, dict)
                or part.get("type") != "text"
                or not isinstance(part.get("text"), str)
            ):
                raise serializers.ValidationError(
                    "Only parts of type text are supported.", code="unsupported_value"
                )
        return "".join(part["text"] for part in data)

    def to_representation(self, value: str) -> str:
        return value


class ChatMessageSerializer(Strict):
    role = serializers.ChoiceField(choices=sorted(ROLES))
    content = ContentField()


class JsonSchemaFormatSerializer(Strict):
    name = Text(max_length=64)
    schema = JsonSchema()
    description = Text(required=False, max_length=1_000)
    strict = serializers.BooleanField(allow_null=True, default=None)


class ResponseFormatSerializer(Strict):
    type = serializers.ChoiceField(choices=["text", "json_schema"])
    json_schema = JsonSchemaFormatSerializer(required=False)

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if (data["type"] == "json_schema") != ("json_schema" in data):
            raise serializers.ValidationError({"json_schema": "Goes with the type json_schema."})
        return data


class ChatCompletionRequestSerializer(Strict):
    """OpenAI's parameters that we honour, and our own, which the client sends as `extra_body`."""

    model = Text(max_length=100)
    messages = ChatMessageSerializer(many=True, allow_empty=False, max_length=fields.MESSAGES_MAX)  # type: ignore[call-arg]
    max_tokens = serializers.IntegerField(
        allow_null=True, default=None, min_value=1, max_value=fields.OUTPUT_TOKENS_MAX
    )
    max_completion_tokens = serializers.IntegerField(
        allow_null=True, default=None, min_value=1, max_value=fields.OUTPUT_TOKENS_MAX
    )
    temperature = serializers.FloatField(allow_null=True, default=None, min_value=0, max_value=2)
    stop = serializers.JSONField(allow_null=True, default=None)
    user = Text(allow_null=True, default="", allow_blank=True, max_length=fields.NAME_CHARACTERS_MAX)
    response_format = ResponseFormatSerializer(allow_null=True, default=None)
    metadata = Tags(allow_null=True, default=dict)
    n = serializers.IntegerField(allow_null=True, default=1, min_value=1, max_value=1)
    stream = serializers.BooleanField(allow_null=True, default=False)
    use_case = Text(default="", allow_blank=True, max_length=fields.NAME_CHARACTERS_MAX)
    labels = serializers.ListField(
        child=Text(max_length=fields.NAME_CHARACTERS_MAX), default=list, max_length=fields.LABELS_MAX
    )
    confidence_threshold = serializers.FloatField(allow_null=True, default=None, min_value=0, max_value=1)

    def validate_stop(self, stop: Any) -> tuple[str, ...]:
        stops = [stop] if isinstance(stop, str) else stop or []
        if (
            not isinstance(stops, list)
            or len(stops) > fields.STOPS_MAX
            or not all(isinstance(s, str) for s in stops)
        ):
            raise serializers.ValidationError(f"Must be a string or at most {fields.STOPS_MAX} strings.")
        return tuple(stops)

    def validate_labels(self, labels: list[str]) -> list[str] | None:
        return fields.check_labels(labels)

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if data["labels"] and (data["response_format"] or {}).get("type") == "json_schema":
            raise serializers.ValidationError({"labels": "Give either labels or a response_format."})
        return data

    def validate_stream(self, stream: bool | None) -> bool:
        if stream:
            raise serializers.ValidationError("Streaming is not supported yet.", code="unsupported_value")
        return False


#: One for all requests: to build a serializer is to copy all its fields, which costs more than the check.
_FORM = ChatCompletionRequestSerializer()


class ChatCompletionsView(ApiView):
    """Answers as OpenAI's endpoint does, with an `aigov` object and `x-ai-*` headers beside it."""

    required_scope = Scope.COMPLETIONS_WRITE

    @extend_schema(
        operation_id="chat_completions",
        summary="For the official openai client: base_url …/v1 and a key of ours",
        request=ChatCompletionRequestSerializer,
        responses={(200, "application/json"): {"type": "object", "additionalProperties": True}},
    )
    async def post(self, request: Request) -> JsonResponse:
        principal: Principal = request.auth  # type: ignore[assignment]
        fields.refuse_idempotency_key(request.headers)
        completion = await gateway.complete(
            principal=principal,
            request=completion_request(_FORM.run_validation(request.data)),
            request_id=request_id_of(request),
        )
        return JsonResponse(chat_completion_body(completion), headers=headers_of(completion))


def completion_request(data: dict[str, Any]) -> CompletionRequest:
    """The request that valid `data` describes."""
    model, metadata = data["model"], data["metadata"] or {}
    schema = (data["response_format"] or {}).get("json_schema")
    return CompletionRequest(
        prompt=Prompt(
            messages=tuple(Message(ROLES[m["role"]], m["content"]) for m in data["messages"]),  # type: ignore[arg-type]
            labels=tuple(data["labels"]),
            response_schema=schema["schema"] if schema else None,
            sampling=Sampling(temperature=data["temperature"]),
            stop=data["stop"],
        ),
        tier=model if model in TIERS else "auto",
        model=None if model in TIERS else model,
        use_case=fields.use_case_of(data),
        user=data["user"] or "",
        max_output_tokens=data["max_completion_tokens"] or data["max_tokens"],
        confidence_threshold=data["confidence_threshold"],
        metadata=metadata,
    )


def chat_completion_body(completion: Completion) -> dict[str, Any]:
    """OpenAI's `chat.completion` object, with our extras."""
    answer, usage = completion.answer, completion.answer.usage
    return {
        "id": completion.course.id,
        "object": "chat.completion",
        "created": int(completion.course.created_at.timestamp()),
        "model": answer.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.content, "refusal": None},
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": usage.input_total,
            "completion_tokens": usage.output_total,
            "total_tokens": usage.input_total + usage.output_total,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        },
        "aigov": sdk_extras(completion),
    }
