"""`manage.py run`: the whole service from nothing, mended when its parts die, gone without a trace."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aigov import celery_app, processes, service
from aigov.supervisor import StartError
from tests.services import UNSET

WAIT_S = 120.0
COMMAND_WAIT_S = 180.0
ADDRESS = re.compile(r"aigov serves at (http://[^/]+)/")


class Run:
    """`manage.py run` on a data folder of its own, with nothing given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = (
            os.environ | UNSET | {"AIGOV_DATA_DIR": str(folder), "PORT": "0", "WEB_WORKERS": "1"}
        )
        self.output = folder.parent / "output"
        with open(self.output, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "run"],
                cwd=processes.SOURCE_FOLDER,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def address(self) -> str:
        found = processes.within(WAIT_S, lambda: bool(ADDRESS.search(self.output.read_text())))
        assert found, self.output.read_text()
        match = ADDRESS.search(self.output.read_text())
        assert match
        return match[1]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=processes.SOURCE_FOLDER,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_WAIT_S,
        )

    def programs(self) -> list[psutil.Process]:
        """The processes that the supervisor keeps, as far as they live."""
        recorded = json.loads((self.folder / "run.json").read_text())
        return [psutil.Process(pid) for pid, _ in recorded if psutil.pid_exists(pid)]

    def everything(self) -> list[psutil.Process]:
        """All processes of this data folder but the supervisor itself."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join([*process.cmdline(), process.cwd(), *process.environ().values()])
            except psutil.Error:
                continue
            if str(self.folder) in words and process.pid not in (self.process.pid, os.getpid()):
                found.append(process)
        return [process for process in found if processes.lives(process)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "data")
    yield run
    run.process.send_signal(signal.SIGTERM)
    run.process.wait(timeout=WAIT_S)


@pytest.mark.slow
def test_the_service_runs_is_mended_and_leaves_nothing(run: Run) -> None:
    address = run.address()
    assert service.answers(address)

    again = run.command("run")
    assert again.returncode == 1
    assert again.stderr == f"The service runs already on the data in {run.folder}.\n"

    made = run.command("create_organization", "Beside", "--json")
    assert made.returncode == 0, made.stderr
    api_key = json.loads(made.stdout)["api_key"]
    assert processes.within(WAIT_S, lambda: ask(address, api_key) != 401)
    assert ask(address, api_key) == 200

    killed = run.programs()
    for process in killed:
        process.kill()
    assert processes.within(
        WAIT_S, lambda: len(run.programs()) == 3 and not set(killed) & set(run.programs())
    )
    assert processes.within(WAIT_S, lambda: service.answers(address))

    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(timeout=WAIT_S) == 0
    assert run.everything() == []
    assert not service.answers(address)


def ask(address: str, api_key: str) -> int:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=COMMAND_WAIT_S)
    body = json.dumps({"messages": [{"role": "user", "content": "A or B?"}], "labels": ["A", "B"]})
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/completions", body, headers)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"PORT: {port} is taken on 127.0.0.1"):
            service._listening("127.0.0.1", port)


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(StartError, match="HOST and PORT: cannot listen on 192.0.2.1, port 0"):
        service._listening("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")]
)
def test_the_address_is_one_that_this_machine_can_call(host: str, address: str) -> None:
    with service._listening(host, 0) as listener:
        assert service._address(listener) == f"{address}{listener.getsockname()[1]}"


def test_celery_knows_the_broker_and_what_beat_asks_for(settings: Any) -> None:
    celery_app.loader.import_default_modules()
    assert celery_app.conf.broker_url == settings.REDIS_URL
    asked = {entry["task"] for entry in celery_app.conf.beat_schedule.values()}
    assert "budgets.tasks.expire_holds" in asked
    assert asked <= set(celery_app.tasks)
