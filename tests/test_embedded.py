"""PostgreSQL, Valkey and the sandbox start where none is named; they outlive nobody who uses them."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import kombu
import psutil
import psycopg
import pytest
import redis

from aigov import embedded, processes
from aigov.environment import Environment
from aigov.processes import ServiceError
from tests.services import UNSET

WAIT_S = 30.0

#: A program that uses the services of a data folder until its standard input ends.
USER = """
import json, signal, sys
from pathlib import Path
from aigov import embedded
from aigov.environment import Environment
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
with embedded.services(Environment(Path("/nonexistent")), Path(sys.argv[1]), durable=False) as running:
    print(json.dumps(dict(running.variables)), flush=True)
    sys.stdin.read()
"""

#: With these set, no sandbox is needed.
SANDBOX = embedded.sandbox_variables("http://127.0.0.1:9")

pytestmark = pytest.mark.slow


class User:
    """A process that uses the services of a data folder."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder)],
            cwd=processes.SOURCE_FOLDER,
            env=os.environ | UNSET | SANDBOX | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin and self.process.stdout
        self._in, self._out = self.process.stdin, self.process.stdout

    @property
    def variables(self) -> Mapping[str, str]:
        variables: Mapping[str, str] = json.loads(self._out.readline())
        return variables

    def leave(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=WAIT_S)
        self._in.close()
        self._out.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose cluster serves all tests that do not ask for a new one."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def use() -> Iterator[Callable[..., User]]:
    with ExitStack() as stack:

        def start(folder: Path, **environment: str) -> User:
            user = User(folder, **environment)
            stack.callback(user.leave)
            return user

        yield start


@contextmanager
def services(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[embedded.Services]:
    """PostgreSQL and Valkey, used by this process."""
    for name, value in (UNSET | SANDBOX).items():
        monkeypatch.setenv(name, value)
    with embedded.services(Environment(Path(os.devnull)), folder, durable=False) as running:
        yield running


def servers(folder: Path) -> dict[str, psutil.Process]:
    """The servers of the data folder that run, found without the code under test."""
    found = {}
    for process in psutil.process_iter():
        try:
            name, words = process.name(), process.cmdline()
            if name == "postgres" and str(folder / "postgres" / "cluster") in words:
                found["postgres"] = process
            elif process.cwd() == str(folder / "valkey") and name == "valkey-server":
                found["valkey"] = process
            elif process.cwd() == str(folder / "sandbox"):
                found["sandbox"] = process
        except psutil.Error:
            continue
    return found


def kill(process: psutil.Process) -> None:
    process.kill()
    assert processes.within(WAIT_S, lambda: not processes.lives(process))


def test_data_and_addresses_stay_from_start_to_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with services(folder, monkeypatch) as first:
        with psycopg.connect(first.variables["DATABASE_URL"]) as connection:
            assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        assert servers(folder).keys() == {"postgres", "valkey"}
    assert servers(folder) == {}
    with (
        services(folder, monkeypatch) as second,
        psycopg.connect(second.variables["DATABASE_URL"]) as connection,
    ):
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
        assert second.variables == first.variables
    assert servers(folder) == {}


def test_an_operators_cluster_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (UNSET | SANDBOX).items():
        monkeypatch.setenv(name, value)
    with (
        embedded.services(Environment(Path(os.devnull)), tmp_path) as running,
        psycopg.connect(running.variables["DATABASE_URL"]) as connection,
    ):
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_valkey_serves_cache_and_celery_but_nobody_without_the_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services(folder, monkeypatch) as running:
        url = running.variables["REDIS_URL"]
        with redis.Redis.from_url(url) as client, kombu.Connection(url) as broker:
            assert client.config_get("bind")["bind"] == "127.0.0.1"
            broker.ensure_connection(max_retries=1)
        without = "redis://" + url.partition("@")[2]
        with redis.Redis.from_url(without) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        for secret in ("valkey/url", "valkey/valkey.conf"):
            assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600


def test_the_last_who_leaves_stops_the_servers(folder: Path, use: Callable[..., User]) -> None:
    first, second = use(folder), use(folder)
    assert first.variables == second.variables
    running = servers(folder)
    first.leave()
    assert servers(folder) == running
    second.leave(signal.SIGINT)
    assert servers(folder) == {}


def test_ctrl_c_does_not_reach_the_servers(folder: Path, use: Callable[..., User]) -> None:
    user = use(folder)
    assert user.variables
    sessions = {os.getsid(process.pid) for process in servers(folder).values()}
    assert len(sessions) == 2
    assert os.getsid(user.process.pid) not in sessions


def test_who_comes_after_a_killed_one_adopts_the_servers(folder: Path, use: Callable[..., User]) -> None:
    killed = use(folder)
    variables = killed.variables
    running = servers(folder)
    killed.leave(signal.SIGKILL)
    assert servers(folder) == running
    heir = use(folder)
    assert heir.variables == variables
    assert servers(folder) == running
    heir.leave()
    assert servers(folder) == {}


def test_a_crash_of_everything_is_survived(
    folder: Path, use: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = use(folder)
    variables = killed.variables
    pid_file = folder / "postgres" / "cluster" / "postmaster.pid"
    crashed = pid_file.read_text().splitlines()
    killed.leave(signal.SIGKILL)
    for process in servers(folder).values():
        kill(process)
    # As after a restart of the machine: the number is by now another process's of the same account.
    with subprocess.Popen(["sleep", "60"], user=pid_file.stat().st_uid) as bystander:
        pid_file.write_text("\n".join([str(bystander.pid), *crashed[1:]]) + "\n")
        with services(folder, monkeypatch) as running:
            assert running.variables == variables
            psycopg.connect(variables["DATABASE_URL"]).close()
        assert bystander.poll() is None
        bystander.kill()


def test_servers_that_die_come_back_at_their_addresses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with services(folder, monkeypatch) as running:
        before = servers(folder)
        running.revive()
        assert servers(folder) == before
        for process in before.values():
            kill(process)
        running.revive()
        psycopg.connect(running.variables["DATABASE_URL"]).close()
        with redis.Redis.from_url(running.variables["REDIS_URL"]) as client:
            assert client.ping()


def test_a_port_that_was_taken_meanwhile_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with services(folder, monkeypatch) as first:
        pass
    other = tmp_path / "valkey"
    other.mkdir()
    (other / "url").write_text((folder / "valkey" / "url").read_text())
    neighbour = embedded.Valkey(other)
    neighbour.start()
    try:
        assert neighbour.wait() == {"REDIS_URL": first.variables["REDIS_URL"]}
        with services(folder, monkeypatch) as second:
            assert second.variables["REDIS_URL"] != first.variables["REDIS_URL"]
    finally:
        neighbour.stop()


def test_a_cluster_that_was_cut_short_is_made_anew(
    tmp_path: Path, use: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = tmp_path / "postgres" / "cluster.new-1"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with services(tmp_path, monkeypatch) as running:
        psycopg.connect(running.variables["DATABASE_URL"]).close()
    assert not unfinished.exists()


def test_two_data_folders_stand_side_by_side_even_deep_and_closed_ones(
    folder: Path, use: Callable[..., User], tmp_path: Path
) -> None:
    closed = tmp_path / "closed to others"
    deep = closed / ("d" * 90) / "data"
    deep.mkdir(parents=True)
    closed.chmod(0o700)
    one, other = use(folder).variables, use(deep).variables
    assert not set(one.values()) & set(other.values())
    for variables in (one, other):
        psycopg.connect(variables["DATABASE_URL"]).close()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_the_sandbox_starts_where_no_provider_has_a_key(folder: Path, use: Callable[..., User]) -> None:
    given = {"DATABASE_URL": "postgresql://host/db", "REDIS_URL": "redis://host"}
    user = use(folder, **given, **dict.fromkeys(SANDBOX, ""))
    variables = user.variables
    assert variables.keys() == SANDBOX.keys()
    assert embedded.sandbox_answers(variables["ANTHROPIC_BASE_URL"])
    assert servers(folder).keys() == {"sandbox"}
    user.leave()
    assert servers(folder) == {}


def test_where_all_is_given_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SANDBOX.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/db")
    monkeypatch.setenv("REDIS_URL", "redis://host")
    with embedded.services(Environment(Path(os.devnull)), tmp_path / "data") as running:
        assert running.variables == {}
    assert not (tmp_path / "data").exists()


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ServiceError, match=r"AIGOV_DATA_DIR: .*file/data cannot be used"),
        services(tmp_path / "file" / "data", monkeypatch),
    ):
        pass


def test_a_server_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    class Broken(embedded.Sandbox):
        def _launch(self) -> None:
            processes.write_private(self.folder / "url", "http://127.0.0.1:9")
            ends = [sys.executable, "-c", "raise SystemExit('no luck')", self.mark]
            processes.start_daemon(ends, folder=self.folder)

    broken = Broken(tmp_path)
    broken.start()
    with pytest.raises(ServiceError, match=r"The provider sandbox does not start; see .*/log: no luck"):
        broken.wait()


def test_the_tests_own_services_go_when_the_tests_are_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.services", str(tmp_path)]
    with ExitStack() as stack:
        for number in ("0", "1"):
            keeper = stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=processes.SOURCE_FOLDER,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert keeper.stdin and keeper.stdout
            stack.callback(keeper.stdin.close)  # as the kernel does when the tests are killed
            assert json.loads(keeper.stdout.readline())["AIGOV_DATA_DIR"] == str(tmp_path / number)
            assert servers(tmp_path / number).keys() == {"postgres", "valkey"}
    assert servers(tmp_path / "0") == servers(tmp_path / "1") == {}
