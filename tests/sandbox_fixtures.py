"""A pytest plugin: a provider sandbox of the tests' own, and both SDKs' clients for it.

Making a client takes longer than most of the calls, so there is one of each for all tests.
"""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.sandbox_world import TIMEOUT_S, running


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture(scope="session")
def sandbox_client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def openai_client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="session")
def anthropic_client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="k", base_url=url, max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def control(sandbox_client: httpx2.Client) -> Iterator[httpx2.Client]:
    """The sandbox's own endpoints, with every switch back and the counts at zero."""
    sandbox_client.post("/sandbox/reset")
    yield sandbox_client
    sandbox_client.post("/sandbox/reset")


@pytest.fixture
def billed(settings: Any, url: str, control: httpx2.Client) -> httpx2.Client:
    """The sandbox's own endpoints, where the bills are read from it."""
    settings.BILLING = {"openai": ("sk-admin-1", f"{url}/v1"), "anthropic": ("sk-ant-admin01-1", url)}
    return control


@pytest.fixture
def gpt(openai_client: openai.OpenAI, control: httpx2.Client) -> openai.OpenAI:
    return openai_client


@pytest.fixture
def claude(anthropic_client: anthropic.Anthropic, control: httpx2.Client) -> anthropic.Anthropic:
    return anthropic_client
