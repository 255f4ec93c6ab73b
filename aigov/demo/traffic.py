"""The demo's completions, sent over HTTP to the public API as any service would."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from aigov.demo.corpus import Job

AT_ONCE = 16
TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a job: the HTTP status and the body, empty where no answer came at all."""

    job: Job
    status: int
    body: dict[str, Any]

    @property
    def answered(self) -> bool:
        return self.status == 200

    @property
    def right(self) -> bool | None:
        """Whether the label is the right one; None where there is no answer, or no right one."""
        if not self.answered or self.job.right_label is None:
            return None
        return bool(self.body["content"] == self.job.right_label)

    @property
    def error_code(self) -> str:
        """Why there is no answer."""
        error = self.body.get("error") or {}
        return str(error.get("code") or error.get("type") or f"status {self.status}")


async def send(
    jobs: Sequence[Job], *, address: str, api_key: str, progress: Callable[[int], None]
) -> list[Answer]:
    """The answers to `jobs`, `AT_ONCE` of which are in flight; `progress` gets the number that are done."""
    places = asyncio.Semaphore(AT_ONCE)
    done = 0
    headers = {"Authorization": f"Bearer {api_key}"}

    async def ask(job: Job) -> Answer:
        nonlocal done
        async with places:
            answer = await _ask(client, job)
        done += 1
        progress(done)
        return answer

    async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=TIMEOUT_S) as client:
        return await asyncio.gather(*(ask(job) for job in jobs))


async def _ask(client: httpx2.AsyncClient, job: Job) -> Answer:
    try:
        response = await client.post("/api/v1/completions", json=job.body)
        return Answer(job, response.status_code, response.json())
    except (httpx2.TransportError, ValueError):
        return Answer(job, 0, {"error": {"code": "no_answer"}})


async def budget(*, address: str, api_key: str) -> dict[str, Any]:
    """This month's budget of the key's organization. Raises `httpx2.HTTPError`."""
    headers = {"Authorization": f"Bearer {api_key}"}
    async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=TIMEOUT_S) as client:
        response = await client.get("/api/v1/budget")
        found: dict[str, Any] = response.raise_for_status().json()
        return found
