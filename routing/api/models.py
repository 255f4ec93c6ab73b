"""`/v1/models`: what may be asked for, in the format of whichever SDK asks."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.http import JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from aigov import clock
from aigov.api import ApiView
from aigov.errors import BadRequest, NotFound
from aigov.organizations.models import Scope
from aigov.organizations.principals import Principal
from aigov.registry.snapshot import settings_for
from aigov.web.errors import speaks_anthropic
from providers.price_book import PRICE_BOOK
from providers.pricing import Unpriced
from routing import policy
from routing.api.fields import TIERS, refuse

OWNER = "aigov"
#: When a model came out is not known here; Anthropic's own word for that is the epoch.
EPOCH_S, EPOCH = 0, "1970-01-01T00:00:00Z"
PAGE_DEFAULT, PAGE_MAX = 20, 1_000

ANY_OBJECT = {(200, "application/json"): {"type": "object", "additionalProperties": True}}


class ModelsView(ApiView):
    """`auto`, `small` and `large`, and the concrete models that the organization may use."""

    required_scope = Scope.COMPLETIONS_WRITE

    @extend_schema(
        operation_id="models",
        summary="Models that may be asked for",
        parameters=[
            OpenApiParameter("limit", int, description="For Anthropic's client: the length of a page."),
            OpenApiParameter("after_id", str, description="For Anthropic's client: the page after it."),
            OpenApiParameter("before_id", str, description="For Anthropic's client: the page before it."),
        ],
        responses=ANY_OBJECT,
    )
    async def get(self, request: Request) -> JsonResponse:
        owners = await _owners(request)
        if not speaks_anthropic(request.path_info, request.headers):
            return JsonResponse({"object": "list", "data": [_openai(*each) for each in owners.items()]})
        return JsonResponse(_page([_anthropic(name) for name in owners], request.query_params))


class ModelView(ApiView):
    """One of them."""

    required_scope = Scope.COMPLETIONS_WRITE

    @extend_schema(operation_id="model", summary="A model that may be asked for", responses=ANY_OBJECT)
    async def get(self, request: Request, model: str) -> JsonResponse:
        owner = (await _owners(request)).get(model)
        if owner is None:
            message = f"This organization does not use the model {model[:100]!r}."
            raise NotFound(message, param="model", code="model_not_found")
        anthropic = speaks_anthropic(request.path_info, request.headers)
        return JsonResponse(_anthropic(model) if anthropic else _openai(model, owner))


async def _owners(request: Request) -> dict[str, str]:
    """Every model that the key may ask for, with who offers it."""
    principal: Principal = request.auth  # type: ignore[assignment]
    registry = await settings_for(principal.organization_id)
    rules = policy.policy_of(registry, organization_id=principal.organization_id, user="")
    return dict.fromkeys(TIERS, OWNER) | dict(_concrete(rules))


def _concrete(rules: policy.Policy) -> Iterator[tuple[str, str]]:
    now, book = clock.now(), PRICE_BOOK.current
    for provider in rules.provider_order:
        if provider not in settings.PROVIDERS:
            continue
        for tier in policy.TIERS:
            model = rules.models.get(provider, {}).get(tier)
            try:
                book.at(provider, model or "", "standard", now)
            except Unpriced:
                continue
            if model:
                yield model, provider


def _openai(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": EPOCH_S, "owned_by": owner}


def _anthropic(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": EPOCH,
        "lifecycle": "active",
    }


def _page(models: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """The part of `models` that Anthropic's client asks for."""
    for name in query:
        if name not in ("limit", "after_id", "before_id"):
            raise refuse(name, "This parameter is not supported.")
    names = [model["id"] for model in models]
    limit = _limit(query.get("limit"))
    start, end = 0, len(names)
    if "after_id" in query:
        start = _place(names, "after_id", query["after_id"]) + 1
    if "before_id" in query:
        end = _place(names, "before_id", query["before_id"])
        shown = models[max(start, end - limit) : end]
    else:
        shown = models[start : min(end, start + limit)]
    return {
        "data": shown,
        "has_more": len(shown) < end - start,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE_DEFAULT
    if not text.isdecimal() or not 1 <= int(text[:6]) <= PAGE_MAX:
        raise BadRequest(f"Must be a whole number from 1 to {PAGE_MAX}.", param="limit")
    return int(text)


def _place(names: list[str], param: str, name: str) -> int:
    if name not in names:
        raise BadRequest("There is no such model here.", param=param)
    return names.index(name)
