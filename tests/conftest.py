"""The ground of all tests: a real PostgreSQL and Valkey, the real server over HTTP, the sandbox as provider.

Nothing is rolled back or flushed between tests: each makes its own organization, and tenants are kept
apart, or a test fails. So the whole run is one busy ledger, which must balance at its end.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import hypothesis
import pytest
import uvicorn
from django.test.utils import setup_databases
from django.utils import translation

from aigov import snapshots
from aigov.organizations.create import create_organization
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import Organization, Scope
from budgets import accounts, ledger
from budgets.models import BudgetAccount
from providers.breaker import breaker, turn_switch

CALL_TIMEOUT_S = 30.0

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_modify_db_settings: None, django_db_blocker: Any
) -> None:
    """pytest-django's own makes a database only where a test is marked to use one; all of ours do.

    It is left to the next run to drop it: threads of this one may still be connected.
    """
    with django_db_blocker.unblock():
        setup_databases(verbosity=0, interactive=False, aliases={"default"})


@pytest.fixture(scope="session", autouse=True)
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield
        assert ledger.differences() == [], "the books do not balance after the tests"


@pytest.fixture(autouse=True)
def own_language() -> Iterator[None]:
    """A page in German leaves its language to its thread; the next test begins anew."""
    yield
    translation.deactivate()


@pytest.fixture
def make_organization() -> Callable[..., Organization]:
    def make(
        *, cap_eur: str | None = None, time_zone: str = "Europe/Berlin", tenant: str | None = None
    ) -> Organization:
        organization = create_organization(
            name=f"Organization {uuid4().hex[:12]}", tenant=tenant, time_zone=time_zone, acting="the tests"
        )
        if cap_eur is not None:
            account = accounts.open_month(organization=organization)
            accounts.set_month_cap(
                account=account, cap_eur=Decimal(cap_eur), acting="the tests", reason="a test"
            )
        return organization

    return make


@pytest.fixture
def organization(make_organization: Callable[..., Organization]) -> Organization:
    return make_organization()


def month_account(organization: Organization) -> BudgetAccount:
    """The organization's own account of this month, as the database has it now."""
    return accounts.open_month(organization=organization)


async def refresh_circuits() -> None:
    await breaker().refresh()


class Server:
    """The web process's application, served over HTTP from a thread, so that tests can look inside."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config("aigov.asgi:application", log_config=None, access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self.socket])

    def start(self) -> None:
        self._thread.start()
        with httpx2.Client(base_url=self.url, timeout=1) as client:
            for _ in range(100):
                if not self._thread.is_alive():
                    break
                with contextlib.suppress(httpx2.TransportError):
                    if client.get("/readyz").status_code == 200:
                        return
                threading.Event().wait(0.1)
        raise RuntimeError("the server does not get ready")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=40)

    def refresh(self) -> None:
        """Waits until the process sees what the test has written."""
        asyncio.run_coroutine_threadsafe(snapshots.refresh_all(), self.loop).result(timeout=10)


@pytest.fixture(scope="session")
def server(database: None) -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def closed_circuits(server: Server, settings: Any) -> None:
    """Whatever failed in the tests before: the providers begin anew."""
    for provider in settings.PROVIDERS:
        turn_switch(provider=provider, model="*", to="automatic")
    asyncio.run_coroutine_threadsafe(refresh_circuits(), server.loop).result(timeout=10)


@pytest.fixture
def make_client(server: Server, closed_circuits: None) -> Iterator[Callable[..., httpx2.Client]]:
    """Makes clients of the API with a new key each, with all scopes unless told otherwise."""
    with contextlib.ExitStack() as stack:

        def make(organization: Organization, *scopes: str) -> httpx2.Client:
            _, token = create_api_key(
                organization=organization, name="test", scopes=scopes or Scope.values, acting="the tests"
            )
            server.refresh()
            headers = {"Authorization": f"Bearer {token}"}
            client = httpx2.Client(base_url=server.url, headers=headers, timeout=CALL_TIMEOUT_S)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def api(make_client: Callable[..., httpx2.Client], organization: Organization) -> httpx2.Client:
    """A client of the API with a key of `organization`."""
    return make_client(organization)


class Sandbox:
    """The switches and counts of the provider sandbox."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=CALL_TIMEOUT_S)

    def configure(self, **values: Any) -> None:
        self._client.post("/sandbox/config", json=values).raise_for_status()

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._client.get("/sandbox/stats").raise_for_status().json()
        return stats

    def reset(self) -> None:
        self._client.post("/sandbox/reset").raise_for_status()

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def sandbox(settings: Any, closed_circuits: None) -> Iterator[Sandbox]:
    """The sandbox, without any fault, its counts at zero."""
    sandbox = Sandbox(settings.PROVIDERS["anthropic"]["base_url"])
    sandbox.reset()
    yield sandbox
    sandbox.reset()
    sandbox.close()
