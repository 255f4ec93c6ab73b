"""The settings over HTTP: what applies to the caller's organization, all keys, and its own values.

An API key writes for its own organization and that organization's users; values for a tenant or for
everybody are the operators', who set them in the admin.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

from asgiref.sync import sync_to_async
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aigov.api import ApiView
from aigov.errors import BadRequest, PermissionDenied
from aigov.organizations.models import ApiKey, Organization
from aigov.organizations.principals import Principal
from aigov.registry.effective import Effective
from aigov.registry.keys import SCOPES, Key, Scope, all_keys, find
from aigov.registry.models import USER_CHARACTERS_MAX
from aigov.registry.snapshot import SETTINGS, settings_for
from aigov.registry.values import REASON_CHARACTERS_MAX, check_user, remove_value, set_value

OWN_SCOPES: tuple[Scope, ...] = ("organization", "user")

_USER = OpenApiParameter("user", str, description="The caller's own id of an end user.")


class EffectiveValue(serializers.Serializer[Any]):
    value = serializers.JSONField()
    source = serializers.ChoiceField(choices=["default", *SCOPES])  # type: ignore[assignment]


class EffectiveValues(serializers.Serializer[Any]):
    values = serializers.DictField(child=EffectiveValue())
    etag = serializers.CharField()


class EffectiveValueOfKey(EffectiveValue):
    key = serializers.CharField()


class KeyDescription(serializers.Serializer[Any]):
    type = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    schema = serializers.JSONField()
    default = serializers.JSONField()
    merge = serializers.ChoiceField(choices=["replace", "merge", "append"])
    description = serializers.CharField()


class KeyDescriptions(serializers.Serializer[Any]):
    keys = serializers.DictField(child=KeyDescription())


class SettingWrite(serializers.Serializer[Any]):
    scope = serializers.ChoiceField(choices=SCOPES)
    user = serializers.CharField(max_length=USER_CHARACTERS_MAX, default="", allow_blank=True)
    value = serializers.JSONField(allow_null=True)
    reason = serializers.CharField(max_length=REASON_CHARACTERS_MAX)


class SettingRemoval(serializers.Serializer[Any]):
    scope = serializers.ChoiceField(choices=SCOPES, default="organization")
    user = serializers.CharField(max_length=USER_CHARACTERS_MAX, default="", allow_blank=True)
    reason = serializers.CharField(max_length=REASON_CHARACTERS_MAX, default="", allow_blank=True)


class EffectiveSettings(ApiView):
    required_scope = "settings:read"

    @extend_schema(
        operation_id="settings_effective",
        summary="The values that apply, each with the scope that it comes from",
        parameters=[
            OpenApiParameter("keys", str, description="Names of settings, comma-separated; all by default."),
            _USER,
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="An earlier ETag."),
        ],
        responses={200: EffectiveValues, 304: None},
    )
    async def get(self, request: Request) -> Response:
        user = request.query_params.get("user", "")
        check_user(user)
        names = _names(request.query_params.get("keys", ""))
        organization_id = _caller(request).organization_id
        settings = await settings_for(organization_id)
        values = {
            name: _shown(settings.effective(name, organization_id=organization_id, user=user))
            for name in names
        }
        etag = _etag(values)
        headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
        if _is_known(etag, request.headers.get("If-None-Match", "")):
            return Response(status=304, headers=headers)
        return Response({"values": values, "etag": etag}, headers=headers)


class SettingKeys(ApiView):
    required_scope = "settings:read"

    @extend_schema(
        operation_id="settings_keys", summary="All settings that exist", responses={200: KeyDescriptions}
    )
    async def get(self, request: Request) -> Response:
        return Response({"keys": {name: _described(key) for name, key in all_keys().items()}})


class SettingOfKey(ApiView):
    required_scope = "settings:write"

    @extend_schema(
        operation_id="setting_set",
        summary="Set a value for the organization, or for one of its users",
        parameters=[OpenApiParameter("key", OpenApiTypes.STR, OpenApiParameter.PATH)],
        request=SettingWrite,
        responses={200: EffectiveValueOfKey},
    )
    async def put(self, request: Request, key: str) -> Response:
        """Answers with what applies now, in this process at once and in every other within a second."""
        find(key)
        given = _valid(SettingWrite(data=request.data))
        await sync_to_async(_write)(_caller(request), key, given)
        return await _applying_now(_caller(request), key, given["user"])

    @extend_schema(
        operation_id="setting_remove",
        summary="Remove a value, to fall back to the next wider scope",
        parameters=[
            OpenApiParameter("key", OpenApiTypes.STR, OpenApiParameter.PATH),
            OpenApiParameter("scope", str, enum=OWN_SCOPES, default="organization"),
            _USER,
            OpenApiParameter("reason", str),
        ],
        responses={200: EffectiveValueOfKey},
    )
    async def delete(self, request: Request, key: str) -> Response:
        """Answers with what applies now; also where nothing was set. Scope, user and reason may stand in the
        query or, as with `PUT`, in a JSON body."""
        find(key)
        body = request.data if isinstance(request.data, dict) else {}
        given = _valid(SettingRemoval(data={**request.query_params.dict(), **body}))
        await sync_to_async(_remove)(_caller(request), key, given)
        return await _applying_now(_caller(request), key, given["user"])


def _caller(request: Request) -> Principal:
    return cast(Principal, request.auth)


def _names(keys: str) -> list[str]:
    """The settings that `keys` lists, or all.

    Raises:
        BadRequest: one of them does not exist.
    """
    known = all_keys()
    names = [name.strip() for name in keys.split(",") if name.strip()] or list(known)
    for name in names:
        if name not in known:
            raise BadRequest(f"There is no setting {name[:100]!r}.", param="keys")
    return names


def _shown(effective: Effective) -> dict[str, Any]:
    return {"value": effective.value_json, "source": effective.source}


def _described(key: Key) -> dict[str, Any]:
    return {
        "type": key.type,
        "scopes": key.scopes,
        "schema": key.json_schema,
        "default": key.default,
        "merge": key.merge,
        "description": str(key.description),
    }


def _etag(values: Mapping[str, Any]) -> str:
    """The same for the same values, whichever process answers."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _is_known(etag: str, if_none_match: str) -> bool:
    """RFC 9110's weak comparison; a tag without its quotes is taken too."""
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def _valid(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    """What was sent, checked, and for a scope that an API key may write.

    Raises:
        ValidationError: a field is missing or wrong.
        PermissionDenied: the scope is wider than the caller's organization.
    """
    serializer.is_valid(raise_exception=True)
    given: dict[str, Any] = serializer.validated_data
    if given["scope"] not in OWN_SCOPES:
        raise PermissionDenied(
            "An API key sets values for its own organization and users alone.", param="scope"
        )
    return given


def _write(principal: Principal, key: str, given: Mapping[str, Any]) -> None:
    set_value(key=key, **_subject(principal, given), value=given["value"])


def _remove(principal: Principal, key: str, given: Mapping[str, Any]) -> None:
    remove_value(key=key, **_subject(principal, given))


def _subject(principal: Principal, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "scope": given["scope"],
        "organization": Organization.objects.get(pk=principal.organization_id),
        "user": given["user"],
        "acting": ApiKey.objects.select_related("created_by").get(key_id=principal.key_id),
        "reason": given["reason"],
    }


async def _applying_now(principal: Principal, key: str, user: str) -> Response:
    settings = await SETTINGS.refresh()
    applying = settings.effective(key, organization_id=principal.organization_id, user=user)
    return Response({"key": key, **_shown(applying)})
