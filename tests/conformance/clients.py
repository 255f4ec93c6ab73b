"""The official clients, as each side of a comparison is asked with: sync and async, of one loop."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai

from tests.conformance.case import Client

TIMEOUT_S = 60.0


class Clients:
    """The two official clients of one address.

    Args:
        address: without `/v1`.
    """

    def __init__(self, address: str, key: str) -> None:
        self.address = address
        common: dict[str, Any] = {"api_key": key, "max_retries": 0, "timeout": TIMEOUT_S}
        ours: dict[str, Any] = {**common, "base_url": f"{address}/v1"}
        self._clients: dict[tuple[Client, bool], Any] = {
            ("openai", False): openai.OpenAI(**ours),
            ("openai", True): openai.AsyncOpenAI(**ours),
            ("anthropic", False): anthropic.Anthropic(base_url=address, **common),
            ("anthropic", True): anthropic.AsyncAnthropic(base_url=address, **common),
        }

    def of(self, client: Client, *, asynchronous: bool = False) -> Any:
        return self._clients[client, asynchronous]

    async def close(self) -> None:
        for (_, asynchronous), client in self._clients.items():
            if asynchronous:
                await client.close()
            else:
                client.close()


class Loop:
    """One event loop for all calls, so that the async clients keep their connections."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._opened: list[Clients] = []

    def clients(self, address: str, key: str) -> Clients:
        self._opened.append(Clients(address, key))
        return self._opened[-1]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def close(self) -> None:
        for clients in self._opened:
            self.run(clients.close())
        self._runner.close()


@contextmanager
def opened() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()
