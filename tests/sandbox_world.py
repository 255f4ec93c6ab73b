"""A provider sandbox of the tests' own, its switches and counts, and plain HTTP to it."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

TIMEOUT_S = 20.0
#: Headers that each provider demands.
HEADERS = {
    "openai": {"authorization": "Bearer k"},
    "anthropic": {"x-api-key": "k", "anthropic-version": "2023-06-01"},
}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The address of a sandbox of our own, which has to end well when it is told to."""
    command = [sys.executable, "-m", "providers.sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield found[0]
        process.terminate()
        assert process.wait(timeout=TIMEOUT_S) == 0


def configure(control: httpx2.Client, **switches: Any) -> None:
    response = control.post("/sandbox/config", json=switches)
    assert response.status_code == 200, response.text


def stats(control: httpx2.Client) -> dict[str, Any]:
    found: dict[str, Any] = control.get("/sandbox/stats").json()
    return found


def asked(url: str, text: str, *, stream: bool = False) -> http.client.HTTPConnection:
    """A connection on which a completion was asked for, and nothing read yet."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "stream": stream}
    headers = {"Authorization": "Bearer k"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
    return connection


def wait_for(condition: Callable[[], Any]) -> None:
    """Waits until `condition` holds; it is about a process that we do not step through."""
    for _ in range(200):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen within ten seconds")


def said_to(url: str, request: bytes) -> bytes:
    """Everything that is answered to the bytes of `request`, until the server closes the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def body_of(provider: str, text: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """A completion's body in the provider's wire format."""
    limit = "max_tokens" if provider == "anthropic" else "max_completion_tokens"
    messages = [{"role": "user", "content": text}]
    return {"model": MODELS[provider], "messages": messages, "stream": stream, limit: 200, **more}


def asked_of(url: str, provider: str, text: str, *, stream: bool = False) -> http.client.HTTPConnection:
    """A connection on which a completion was asked for, and nothing read yet."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
    body = json.dumps(body_of(provider, text, stream=stream)).encode()
    connection.request("POST", PATHS[provider], body, HEADERS[provider])
    return connection
