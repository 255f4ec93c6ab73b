"""The official clients' calls, through the gateway and directly: equal, but for what the docs name.

The cases, and what each shows, are in `tests/conformance`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from aigov.organizations.create import create_organization
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from aigov.registry.values import set_value
from tests.conformance import anthropic_cases, asking, clients, live, openai_cases, table
from tests.conformance.case import CLIENTS, Case, Client, Refusal, Way
from tests.conformance.clients import Clients, Loop
from tests.conformance.comparison import DOCUMENTED, all_differences, undocumented
from tests.conformance.said import Said, first_wrong, said
from tests.conformance.service import PROVIDERS, SOURCE_FOLDER, Service
from tests.conftest import Sandbox, Server
from tests.web_processes import url_of_the_database

CASES = (*openai_cases.CASES, *anthropic_cases.CASES)
REFUSALS = (*openai_cases.REFUSALS, *anthropic_cases.REFUSALS)
LIVE_WAIT_S = 600.0
#: Neither is on the clients' lists of models that end.
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
WAYS = [(case, way) for case in CASES for way in case.ways if not case.ours]


def key_of(server: Server, organization: Organization, *scopes: str) -> str:
    _, key = create_api_key(
        organization=organization, name="test", scopes=scopes or Scope.values, acting="the tests"
    )
    server.refresh()
    return key


def set_for(organization: Organization, **values: Any) -> None:
    for name, value in values.items():
        set_value(
            key=name.replace("__", "."),
            scope="organization",
            organization=organization,
            value=value,
            acting="the tests",
            reason="a test",
        )


class World:
    """Both sides: the sandbox itself, and the gateway in front of it."""

    def __init__(self, loop: Loop, direct: Clients, gateway: Clients) -> None:
        self.loop, self.direct, self.gateway = loop, direct, gateway
        self.control = Sandbox(direct.address)

    def ask(self, side: Clients, case: Case, way: Way, model: str, *, asynchronous: bool = False) -> Any:
        self.control.reset()  # the provider's prompt cache, too
        client = side.of(case.client, asynchronous=asynchronous)
        return self.loop.run(asking.ask(client, case, way, model, marked=True))

    def refusal(self, side: Clients, of: Client, call: Any, model: str, *, stream: bool) -> Any:
        return self.loop.run(asking.refused(side.of(of), of, call, model, stream=stream))


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with clients.opened() as loop:
        yield loop


@pytest.fixture(scope="module")
def world(loop: Loop, server: Server) -> Iterator[World]:
    # Without the cache, so that each call meets the provider.
    organization = create_organization(name="Conformance", time_zone="Europe/Berlin", acting="the tests")
    set_for(organization, ai__cache__ttl="PT0S")
    sandbox = str(django_settings.PROVIDERS["anthropic"]["base_url"])
    world = World(
        loop,
        direct=loop.clients(sandbox, "sandbox"),
        gateway=loop.clients(server.url, key_of(server, organization)),
    )
    yield world
    world.control.reset()
    world.control.close()


@pytest.fixture(autouse=True)
def well(closed_circuits: None) -> None:
    """Whatever failed before, the providers begin anew."""


# --- Equal, field by field


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("case", "way"), WAYS, ids=str)
def test_the_gateway_answers_as_the_provider_does(
    world: World, case: Case, way: Way, asynchronous: bool
) -> None:
    model = MODELS[case.client]
    direct = world.ask(world.direct, case, way, model, asynchronous=asynchronous)
    gateway = world.ask(world.gateway, case, way, model, asynchronous=asynchronous)
    assert undocumented(case.client, direct, gateway) == []
    # That both are equal would mean nothing if both were empty.
    assert first_wrong(case.holds, said(gateway)) is None
    assert models_of(gateway) == {model}


def models_of(result: Any) -> set[str]:
    if "answers" in result:
        return {answer["model"] for answer in result["answers"]}
    chunks = result["chunks"]
    return {chunks["model"] if "model" in chunks else chunks["events"][0]["message"]["model"]}


# --- The other provider's models


@pytest.mark.parametrize("case", [case for case in CASES if not (case.ours or case.refused)], ids=str)
def test_a_translated_answer_says_what_the_other_provider_says(world: World, case: Case) -> None:
    twin, model = case.twin_among(CASES), MODELS[case.other]
    direct = said(world.ask(world.direct, twin, "plain", model))
    for way in case.ways:
        translated = said(world.ask(world.gateway, case, way, model))
        assert as_far_as_told(direct, translated) == translated, way


def as_far_as_told(whole: list[Said], told: list[Said]) -> list[Said]:
    """`whole` without its usage where `told` has none: of a stream, OpenAI's clients have to ask for it."""
    untold = {"input_tokens": None, "output_tokens": None}
    return [replace(one, **untold) for one in whole] if told[-1].input_tokens is None else whole


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", [case for case in CASES if case.refused], ids=str)
def test_what_the_other_provider_lacks_is_refused_by_name(world: World, case: Case, stream: bool) -> None:
    error = world.refusal(world.gateway, case.client, case.call, MODELS[case.other], stream=stream)
    assert (type(error).__name__, param_of(error)) == ("BadRequestError", case.refused)


def param_of(error: Any) -> str | None:
    """OpenAI's errors have a member for it; Anthropic's say it at the beginning of the message."""
    if "param" in error.body.get("error", error.body):
        return str(error.body["param"])
    name, colon, _ = error.body["error"]["message"].partition(": ")
    return name if colon else None


# --- auto, small and large


@pytest.mark.parametrize("tier", ["small", "large"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.client == "openai" and not case.ours], ids=str
)
def test_a_tier_answers_as_its_model_does(world: World, case: Case, tier: str) -> None:
    """OpenAI's models come first, so that its client gets what they say, field by field."""
    model = {"small": "gpt-4o-mini", "large": "gpt-4o"}[tier]
    for way in case.ways:
        direct = world.ask(world.direct, case, way, model)
        assert undocumented("openai", direct, world.ask(world.gateway, case, way, tier)) == [], way


@pytest.mark.parametrize("case", [case for case in CASES if not case.ours], ids=str)
def test_auto_answers_whatever_it_is_asked(world: World, case: Case) -> None:
    for way in case.ways:
        result = world.ask(world.gateway, case, way, "auto")
        assert first_wrong(case.holds, said(result)) is None, way


@pytest.mark.parametrize("model", ["auto", "small", "large", *MODELS.values()])
@pytest.mark.parametrize("case", [case for case in CASES if case.ours], ids=str)
def test_what_is_ours_is_given_too(world: World, case: Case, model: str) -> None:
    for way in case.ways:
        result = world.ask(world.gateway, case, way, model)
        assert first_wrong(case.holds, said(result)) is None, way


# --- Refusals


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", REFUSALS, ids=str)
def test_what_is_refused_raises_the_clients_own_error(world: World, case: Refusal, stream: bool) -> None:
    gateway = world.gateway if case.key is None else world.loop.clients(world.gateway.address, case.key)
    model = case.model or MODELS[case.client]
    error = world.refusal(gateway, case.client, case.call, model, stream=stream)
    assert (type(error).__name__, error.status_code) == (case.error, case.status)
    if case.param is not None:
        assert param_of(error) == case.param
    if case.alike:
        direct = world.direct if case.key is None else world.loop.clients(world.direct.address, case.key)
        expected = world.refusal(direct, case.client, case.call, model, stream=stream)
        assert (type(expected).__name__, expected.status_code) == (case.error, case.status)


HELLO: dict[Client, Any] = {
    "openai": {"messages": [{"role": "user", "content": "Good morning."}]},
    "anthropic": {"messages": [{"role": "user", "content": "Good morning."}], "max_tokens": 100},
}
#: What only the gateway says, by the clients' own classes.
ERRORS: dict[tuple[Client, int], str] = {
    ("openai", 402): "APIStatusError",
    ("openai", 429): "RateLimitError",
    ("openai", 503): "InternalServerError",
    ("anthropic", 402): "PaymentRequiredError",
    ("anthropic", 429): "RateLimitError",
    ("anthropic", 503): "ServiceUnavailableError",
}
EACH_CLIENT = [(client, stream) for client in CLIENTS for stream in (False, True)]


@pytest.mark.parametrize(("client", "stream"), EACH_CLIENT)
def test_a_cap_that_is_reached_raises_402(
    world: World,
    server: Server,
    make_organization: Callable[..., Organization],
    client: Client,
    stream: bool,
) -> None:
    poor = world.loop.clients(server.url, key_of(server, make_organization(cap_eur="0")))
    error = world.refusal(poor, client, HELLO[client], "large", stream=stream)
    assert (type(error).__name__, error.status_code) == (ERRORS[client, 402], 402)
    assert error.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("client", "stream"), EACH_CLIENT)
def test_too_many_requests_raise_429(
    world: World, server: Server, organization: Organization, client: Client, stream: bool
) -> None:
    set_for(organization, ai__limits__requests_per_minute=1)
    hasty = world.loop.clients(server.url, key_of(server, organization))
    assert world.refusal(hasty, client, HELLO[client], "small", stream=stream) is None
    error = world.refusal(hasty, client, HELLO[client], "small", stream=stream)
    assert (type(error).__name__, error.status_code) == (ERRORS[client, 429], 429)
    assert int(error.response.headers["retry-after"]) > 0


@pytest.mark.parametrize(("client", "stream"), EACH_CLIENT)
def test_no_provider_raises_503(world: World, client: Client, stream: bool) -> None:
    world.control.configure(faults=[{"mode": "500"}])
    error = world.refusal(world.gateway, client, HELLO[client], "large", stream=stream)
    world.control.reset()
    assert (type(error).__name__, error.status_code) == (ERRORS[client, 503], 503)
    assert error.response.headers["x-should-retry"] == "true"


# --- Models


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_models_are_listed_and_retrieved(world: World, client: Client, asynchronous: bool) -> None:
    """They are the organization's, and carry the provider's own fields."""
    direct = world.loop.run(asking.models(world.direct.of(client, asynchronous=asynchronous)))
    listed = world.loop.run(asking.models(world.gateway.of(client, asynchronous=asynchronous)))
    assert {"auto", "small", "large", *MODELS.values()} <= {model["id"] for model in listed}
    fields = {name for model in direct for name in model}
    assert all(set(model) <= fields for model in listed)
    for name in ("auto", MODELS[client]):
        one = asking.model(world.gateway.of(client, asynchronous=asynchronous), name)
        assert world.loop.run(one) in listed


# --- Live, and from the cache


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("provider", CLIENTS)
def test_a_stream_comes_while_the_model_still_writes(world: World, client: Client, provider: Client) -> None:
    """The model would write for a minute; nobody waits for that."""
    world.control.reset()
    text = "[[tokens:300]] [[slow:200]] a long story"
    call = {**HELLO[client], "messages": [{"role": "user", "content": text}]}
    first, writing = world.loop.run(
        asking.first_words(world.gateway.of(client), client, call, MODELS[provider], world.control.stats)
    )
    assert first.strip()
    assert writing["streams_open"] >= 1 and writing["answered"] == []


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_from_the_cache_equals_the_providers(
    world: World, server: Server, organization: Organization, client: Client
) -> None:
    thrifty = world.loop.clients(server.url, key_of(server, organization))
    case, model = next(case for case in CASES if case.client == client), MODELS[client]
    direct = world.ask(world.direct, case, "plain", model)
    anew, again = (world.ask(thrifty, case, "plain", model) for _ in range(2))
    assert [route_of(result) for result in (anew, again)] == [route_of(anew), "cache"] != ["cache", "cache"]
    assert undocumented(client, direct, again) == []
    streamed = world.ask(thrifty, case, "helper", model)
    assert said(streamed) == said(direct)


def route_of(result: Any) -> str:
    return str(result["answers"][0]["aigov"]["route"])


# --- The suite itself


@pytest.mark.parametrize(
    ("direct", "gateway", "paths"),
    [
        ({"answers": [{"id": "a", "x": 1}]}, {"answers": [{"id": "b", "x": 1, "aigov": {}}]}, []),
        ({"answers": [{"x": 1}]}, {"answers": [{"x": 2}]}, ["x"]),
        ({"answers": [{"x": None}]}, {"answers": [{}]}, ["x"]),
        ({"answers": [{}]}, {"answers": [{"x": None}]}, ["x"]),
        ({"answers": [{"x": 1}]}, {"answers": [{"x": True}]}, ["x"]),
        ({"answers": [{"usage": {"id": 1}}]}, {"answers": [{"usage": {"id": 2}}]}, ["usage.id"]),
        (
            {"chunks": {"pieces": [["content", "a"], ["content", "b"]]}},
            {"chunks": {"pieces": [["content", "ab"]]}},
            ["pieces"],
        ),
        (
            {"chunks": {"pieces": [["content", "a"], ["content", "b"]]}},
            {"chunks": {"pieces": [["content", "b"], ["content", "a"]]}},
            ["pieces[][]", "pieces[][]"],
        ),
    ],
)
def test_the_comparison_misses_nothing(direct: Any, gateway: Any, paths: list[str]) -> None:
    assert [each.path for each in undocumented("openai", direct, gateway)] == paths


def test_what_is_said_to_differ_does(world: World) -> None:
    """Nothing stays on the list that is equal by now."""
    found: set[tuple[str, str]] = {("openai", "created")}  # by the second
    telling = ("Plain text", "Tools: several calls at once", "A model that refuses")
    for case, way in WAYS:
        if case.feature in telling:
            sides = (
                world.ask(side, case, way, MODELS[case.client]) for side in (world.direct, world.gateway)
            )
            found |= {(case.client, each.path) for each in all_differences(*sides)}
    assert found == {(each.client, each.field) for each in DOCUMENTED}


def test_every_feature_stands_once() -> None:
    names = [str(case) for case in (*CASES, *REFUSALS)]
    assert len(set(names)) == len(names)
    assert {case.feature for case in CASES if not case.live} == {"A model that refuses"}


def test_the_docs_have_the_cases_as_they_are() -> None:
    """Where this fails: `python -m tests.conformance.table`."""
    text = table.DOCS.read_text(encoding="utf-8")
    assert table.with_tables(text) == text
    for (client, status), error in ERRORS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {status},"))
        assert f"`{error}`" in row.split("|")[2 + CLIENTS.index(client)]


# --- make test-live, with the sandbox in the place of the providers


def test_without_keys_nothing_is_asked() -> None:
    done = run_live(dict.fromkeys(PROVIDERS, ""))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Neither OPENAI_API_KEY nor ANTHROPIC_API_KEY is set, so there is no real provider to ask:"
        " nothing was tested.\n"
    )


@pytest.mark.slow
def test_the_live_run_from_its_start_to_its_end(world: World, tmp_path: Path) -> None:
    """With one provider alone; the service starts as it does for an operator."""
    world.control.reset()
    keys = {"OPENAI_API_KEY": "sandbox", "OPENAI_BASE_URL": f"{world.direct.address}/v1"}
    unset = dict.fromkeys(PROVIDERS, "")
    own = {"AIGOV_DATA_DIR": str(tmp_path), "LIVE_OPENAI_MODEL": "gpt-4.1-mini"}
    done = run_live({**unset, **keys, **own}, "Plain text", "Tools: a call")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Asking gpt-4.1-mini through http://127.0.0.1:")
    assert "FAILED" not in done.stdout and "claude" not in done.stdout
    assert re.search(r"^\d\d+ passed, 0 failed, for €0\.\d+\.$", done.stdout, re.MULTILINE)
    assert (tmp_path / "live").is_dir()


def run_live(variables: dict[str, str], *features: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.conformance.live", *features],
        env={**os.environ, **variables},
        cwd=SOURCE_FOLDER,
        capture_output=True,
        text=True,
        timeout=LIVE_WAIT_S,
    )


@pytest.fixture
def make_service(
    server: Server, make_organization: Callable[..., Organization]
) -> Iterator[Callable[..., Service]]:
    """The tests' own server, as the live run sees one."""
    with ExitStack() as stack:

        def make(cap_eur: str) -> Service:
            key = key_of(server, make_organization(cap_eur=cap_eur))
            environment = {**os.environ, "DATABASE_URL": url_of_the_database()}
            return stack.enter_context(closing(Service(server.url, key, environment)))

        yield make


def test_the_live_run_asks_both_providers(
    world: World, make_service: Callable[..., Service], capsys: pytest.CaptureFixture[str]
) -> None:
    assert live.run(make_service("1.00"), world.loop) == 0
    told = capsys.readouterr().out
    assert "FAILED" not in told
    for line in (
        "ok      openai: Plain text (plain) → gpt-4o-mini",
        "ok      anthropic: Plain text (stream) → claude-haiku-4-5",
        "ok      openai: Image as data (helper) → claude-haiku-4-5",
        "ok      anthropic: Agent loop: the model calls, the caller answers (helper) → gpt-4o-mini",
        "ok      anthropic: Plain text (helper, async) → claude-haiku-4-5",
        "ok      openai: Wrong key",
        "ok      The books",
    ):
        assert line in told.splitlines()


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("Plain text", "Longest answer", "JSON by a schema", "JSON into a class")
    monkeypatch.setattr(live, "CASES", [case for case in CASES if case.feature in names])


def test_the_live_run_sees_what_is_wrong(
    world: World, make_service: Callable[..., Service], few_cases: None, capsys: pytest.CaptureFixture[str]
) -> None:
    world.control.configure(content="No.")
    assert live.run(make_service("1.00"), world.loop) == 1
    told = capsys.readouterr().out
    assert "FAILED  openai: Longest answer (plain) → gpt-4o-mini: ended with stop" in told
    assert "FAILED  anthropic: JSON by a schema (plain) → claude-haiku-4-5: is no JSON: 'No.'" in told
    assert "FAILED  openai: JSON into a class (plain) → gpt-4o-mini: ValidationError:" in told


def test_the_live_run_ends_where_the_cap_is_reached(
    world: World, make_service: Callable[..., Service], few_cases: None, capsys: pytest.CaptureFixture[str]
) -> None:
    poor = make_service("0.002")
    assert live.run(poor, world.loop) == 1
    assert "the cap of €1.00 a month is used up, and the rest is left out" in capsys.readouterr().out
    assert live.spent(poor) <= Decimal("0.002")
