"""How fast the dashboards are over two years of history: `python -m tests.bench.dashboards`.

For every page: the server's time from request to answer, for one organization and for all together, over this
month and over two years; and the time from navigation until the figures in the window are drawn in Chromium,
and all of them, with plotly.js in its cache. And the admin's home page, with this month's budgets.

HISTORY_ROWS, HISTORY_ORGANIZATIONS, HISTORY_MONTHS as in `tests.bench.history`.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Any

import httpx2
from playwright.sync_api import sync_playwright

from aigov import embedded
from tests.bench import history, stand
from tests.bench.__main__ import UVICORN, set_up
from tests.bench.stand import OTHER_CORE, WEB_CORE

REPEATS, DRAWINGS = 5, 3
SERVER_MS_MAX, BUDGETS_MS_MAX, DRAWN_MS_MAX = 500, 300, 1_500
BUDGETS = "/admin/"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    stand.pin(0, OTHER_CORE)
    port = embedded.free_port()
    with stand.services(port):
        set_up()
        cookie, one = _prepared()
        command = [*UVICORN, "--port", str(port), "aigov.asgi:application"]
        with stand.measured(command, core=WEB_CORE, port=port, ready="/readyz", environment={}) as web:
            url = f"http://127.0.0.1:{port}"
            addresses = dict(_addresses(one))
            served = {name: _served_ms(url, address, cookie) for name, address in addresses.items()}
            drawn = _drawn_ms(url, addresses, cookie)
            print(_table(served, drawn))
            print(f"\nThe web process's resident memory afterwards: {web.memory_mb():.0f} MB")


def _prepared() -> tuple[str, int]:
    """Writes the history; the session of an operator, and one of the organizations."""
    from django.test import Client

    from aigov.organizations.models import User

    size = history.Size.of_environment()
    print(f"load average before: {os.getloadavg()[0]:.1f}", flush=True)
    ids = history.fill(size)
    print(f"{size.rows:,} cost records and decisions of {size.organizations} organizations", flush=True)
    for line in history.rolled_up(size, ids):
        print(line, flush=True)
    client = Client()
    client.force_login(User.objects.create_superuser("bench@example.com"))
    return client.cookies["sessionid"].value, ids[0]


def _addresses(one: int) -> Iterator[tuple[str, str]]:
    from aigov import clock
    from kpis.pages import PAGES

    today = clock.now().date()
    two_years = f"from={today - timedelta(days=729)}&to={today}"
    for name in PAGES:
        yield f"{name}, one", f"/kpis/{name}/?organization={one}"
        yield f"{name}, all", f"/kpis/{name}/"
        yield f"{name}, all, two years", f"/kpis/{name}/?{two_years}"
    yield "budgets, all", BUDGETS


def _served_ms(url: str, address: str, cookie: str) -> Sequence[float]:
    times = []
    with httpx2.Client(base_url=url, cookies={"sessionid": cookie}, timeout=120) as client:
        client.get(address).raise_for_status()
        for _ in range(REPEATS):
            began = time.perf_counter()
            client.get(address).raise_for_status()
            times.append((time.perf_counter() - began) * 1_000)
    return times


#: Until the figures in the window are drawn, and until all are.
Drawn = tuple[float, float]


def _drawn_ms(url: str, addresses: Mapping[str, str], cookie: str) -> Mapping[str, Sequence[Drawn]]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900})
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": url}])
        page = context.new_page()
        page.set_default_timeout(120_000)
        found = {
            name: [_drawn(page, address) for _ in range(DRAWINGS)]
            for name, address in addresses.items()
            if address != BUDGETS
        }
        browser.close()
    return found


def _drawn(page: Any, address: str) -> Drawn:
    page.goto(address)
    page.wait_for_selector("html[data-complete]")
    said = page.locator("html")
    return float(said.get_attribute("data-drawn")), float(said.get_attribute("data-complete"))


def _table(served: Mapping[str, Sequence[float]], drawn: Mapping[str, Sequence[Drawn]]) -> str:
    lines = [f"{'ms, median (and slowest)':<34}{'server':>18}{'drawn':>18}{'all drawn':>18}"]
    for name, times in served.items():
        server_max = SERVER_MS_MAX if name in drawn else BUDGETS_MS_MAX
        cells = [_cell(times, server_max)]
        if name in drawn:
            in_window, everything = zip(*drawn[name], strict=True)
            cells += [_cell(in_window, DRAWN_MS_MAX), _cell(everything, DRAWN_MS_MAX)]
        lines.append(f"{name:<34}{''.join(f'{cell:>18}' for cell in cells)}")
    return "\n".join(
        [*lines, f"\n! is beyond {SERVER_MS_MAX} ms ({BUDGETS_MS_MAX} for budgets) or {DRAWN_MS_MAX} ms"]
    )


def _cell(times: Sequence[float], limit_ms: float) -> str:
    return f"{median(times):,.0f} ({max(times):,.0f}){'!' if median(times) > limit_ms else ' '}"


if __name__ == "__main__":
    main()
