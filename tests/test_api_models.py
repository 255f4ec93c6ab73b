"""`/v1/models`, for both clients."""

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from aigov.organizations.models import Organization
from tests.conftest import Server

NAMES = ["auto", "small", "large", "gpt-4o-mini", "gpt-4o", "claude-haiku-4-5", "claude-sonnet-4-6"]
MakeClient = Callable[..., httpx2.Client]


def token_of(api: httpx2.Client) -> str:
    return str(api.headers["authorization"]).removeprefix("Bearer ")


def set_value(api: httpx2.Client, key: str, value: Any) -> None:
    body = {"scope": "organization", "value": value, "reason": "a test"}
    api.put(f"/api/v1/settings/{key}", json=body).raise_for_status()


@pytest.fixture
def openai_client(api: httpx2.Client, server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token_of(api), max_retries=0)


@pytest.fixture
def anthropic_client(api: httpx2.Client, server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=token_of(api), max_retries=0)


def test_openais_client_lists_them(openai_client: openai.OpenAI) -> None:
    with openai_client as client:
        models = list(client.models.list())
        assert [model.id for model in models] == NAMES
        assert {model.owned_by for model in models} == {"aigov", "openai", "anthropic"}
        assert client.models.retrieve("gpt-4o").owned_by == "openai"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("gpt-9")
        assert caught.value.code == "model_not_found"


def test_anthropics_client_lists_them_page_by_page(anthropic_client: anthropic.Anthropic) -> None:
    with anthropic_client as client:
        assert [model.id for model in client.models.list()] == NAMES
        page = client.models.list(limit=3)
        assert (page.has_more, page.first_id, page.last_id) == (True, "auto", "large")
        assert [model.id for model in page] == NAMES
        before = client.models.list(limit=2, before_id="gpt-4o")
        assert [model.id for model in before.data] == ["large", "gpt-4o-mini"]
        assert client.models.list(after_id=NAMES[-1]).data == []
        assert (client.models.retrieve("auto").type, client.models.retrieve("auto").id) == ("model", "auto")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"after_id": "no"}, "after_id"),
        ({"a": "b"}, "a"),
    ],
)
def test_a_wrong_page_is_refused_by_name(
    anthropic_client: anthropic.Anthropic, query: dict[str, object], param: str
) -> None:
    with anthropic_client as client, pytest.raises(anthropic.BadRequestError, match=f"{param}: "):
        client.models.list(extra_query=query)


def test_an_unknown_model_is_404_in_anthropics_envelope(anthropic_client: anthropic.Anthropic) -> None:
    with anthropic_client as client, pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("claude-9")
    assert caught.value.type == "not_found_error"


def test_only_what_the_organization_may_use_and_has_a_price(
    api: httpx2.Client,
    server: Server,
    make_client: MakeClient,
    make_organization: Callable[..., Organization],
) -> None:
    set_value(api, "ai.providers.order", ["anthropic"])
    set_value(api, "ai.providers.anthropic.models", {"small": "claude-of-nobody"})
    server.refresh()
    names = [model["id"] for model in api.get("/v1/models").json()["data"]]
    assert names == ["auto", "small", "large", "claude-sonnet-4-6"]
    other = make_client(make_organization())
    assert [model["id"] for model in other.get("/v1/models").json()["data"]] == NAMES
