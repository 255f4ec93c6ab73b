"""Programs are kept running, stop in order, and do not outlive their supervisor."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from aigov import processes
from aigov.supervisor import Program, StartError, Supervisor, only_one

WAIT_S = 30.0

#: Notes its start in the file argv[1], and its end, which takes argv[3] seconds, after SIGTERM.
STANDS = """
import os, signal, sys, time
def note(what):
    with open(sys.argv[1], "a") as file:
        file.write(f"{sys.argv[2]} {what} {os.getpid()}\\n")
def end(number, frame):
    time.sleep(float(sys.argv[3]))
    note("ended")
    sys.exit()
signal.signal(signal.SIGTERM, end)
note("started")
while True:
    time.sleep(60)
"""

#: A supervisor of one such program, to be killed.
SUPERVISOR = """
import sys
from pathlib import Path
from aigov.supervisor import Program, Supervisor, only_one
folder = Path(sys.argv[1])
stands = Program("stands", (sys.executable, "-c", sys.argv[2], str(folder / "notes"), "stands", sys.argv[3]))
with only_one(folder / "lock", folder / "record"):
    supervisor = Supervisor([stands], record=folder / "record")
    sys.exit(supervisor.run(ready=(folder / "notes").exists, on_ready=lambda: print("ready", flush=True)))
"""


def stands(notes: Path, name: str = "stands", *, ends_after_s: float = 0, **more: object) -> Program:
    return Program(name, (sys.executable, "-c", STANDS, str(notes), name, str(ends_after_s)), **more)  # type: ignore[arg-type]


def noted(notes: Path, what: str) -> list[tuple[str, int]]:
    """Who noted `what`, with its process number, in order."""
    lines = [line.split() for line in (processes.read(notes) or "").splitlines()]
    return [(name, int(pid)) for name, did, pid in lines if did == what]


def started(notes: Path, count: int) -> Callable[[], bool]:
    return lambda: len(noted(notes, "started")) >= count


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    def kill_one() -> int:
        os.kill(noted(notes, "started")[0][1], signal.SIGKILL)
        return 7 if processes.within(WAIT_S, started(notes, 3)) else 1

    supervisor = Supervisor([stands(notes, count=2)], record=tmp_path / "record")
    assert supervisor.run(ready=started(notes, 2), on_ready=kill_one) == 7
    pids = [pid for _, pid in noted(notes, "started")]
    assert len(set(pids)) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not (tmp_path / "record").exists()


def test_programs_stop_in_their_order_and_finish_their_work(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    programs = [stands(notes, "slow", ends_after_s=0.5), stands(notes, "quick", count=2)]
    closed: list[int] = []
    Supervisor(programs, record=tmp_path / "record").run(
        ready=started(notes, 1),
        on_ready=lambda: 0 if processes.within(WAIT_S, started(notes, 3)) else 1,
        on_stop=lambda: closed.append(len(noted(notes, "ended"))),
    )
    assert [name for name, _ in noted(notes, "ended")] == ["slow", "quick", "quick"]
    assert closed == [0]


def test_who_does_not_finish_in_time_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    program = stands(notes, ends_after_s=3600, stop_wait_s=0.2)
    Supervisor([program], record=tmp_path / "record").run(ready=started(notes, 1), on_ready=lambda: 0)
    ((_, pid),) = noted(notes, "started")
    assert not psutil.pid_exists(pid)
    assert noted(notes, "ended") == []


def test_a_program_that_never_starts_ends_the_run_by_its_name(tmp_path: Path) -> None:
    broken = Program("broken", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(StartError, match="broken does not start: it ended 3 times"):
        Supervisor([broken], record=tmp_path / "record").run(ready=lambda: False, on_ready=lambda: 0)


def test_a_service_that_never_answers_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigov.supervisor.READY_WAIT_S", 0.3)
    with pytest.raises(StartError, match="The service is not ready after"):
        Supervisor([stands(tmp_path / "notes")], record=tmp_path / "record").run(
            ready=lambda: False, on_ready=lambda: 0
        )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_fails_ends_the_run_with_status_1(tmp_path: Path) -> None:
    def fail() -> int:
        raise ValueError("no luck")

    supervisor = Supervisor([stands(tmp_path / "notes")], record=tmp_path / "record")
    assert supervisor.run(ready=lambda: True, on_ready=fail) == 1
    for thread in threading.enumerate():
        if thread.name == "on ready":
            thread.join()  # it tells of its failure in this test, and not in the next one


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    supervisor = Supervisor([stands(tmp_path / "notes")], record=tmp_path / "record")
    before = signal.getsignal(number)
    assert supervisor.run(ready=lambda: True, on_ready=lambda: os.kill(os.getpid(), number)) == 0
    assert signal.getsignal(number) is before


def test_a_signal_before_the_service_is_ready_ends_it_too(tmp_path: Path) -> None:
    supervisor = Supervisor([stands(tmp_path / "notes")], record=tmp_path / "record")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert supervisor.run(ready=lambda: False, on_ready=lambda: 1) == 0


def test_a_second_signal_hurries_the_end(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    program = stands(notes, ends_after_s=3600, stop_wait_s=3600)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()

    Supervisor([program], record=tmp_path / "record").run(ready=started(notes, 1), on_ready=twice)
    assert not psutil.pid_exists(noted(notes, "started")[0][1])


def test_output_goes_to_a_file_for_each_program(tmp_path: Path) -> None:
    says = Program("says", (sys.executable, "-c", "import time; print('hello'); time.sleep(60)"))
    log = tmp_path / "logs" / "says.log"
    Supervisor([says], record=tmp_path / "record", log_folder=log.parent).run(
        ready=lambda: processes.read(log) == "hello", on_ready=lambda: 0
    )
    assert processes.read(log) == "hello"


def test_a_program_inherits_the_listening_socket(tmp_path: Path) -> None:
    serves = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).accept()[0].sendall(b'hello')"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        program = Program("serves", (sys.executable, "-c", serves, str(number)), descriptors=(number,))

        def ask() -> int:
            with socket.create_connection(listener.getsockname(), timeout=WAIT_S) as connection:
                return len(connection.recv(5))

        assert Supervisor([program], record=tmp_path / "record").run(ready=lambda: True, on_ready=ask) == 5


def test_what_else_must_run_is_looked_after(tmp_path: Path) -> None:
    looked = threading.Event()
    supervisor = Supervisor([stands(tmp_path / "notes")], record=tmp_path / "record", also=looked.set)
    assert supervisor.run(ready=lambda: True, on_ready=lambda: 7 if looked.wait(WAIT_S) else 1) == 7


def test_a_second_supervisor_is_kept_out(tmp_path: Path) -> None:
    with (
        only_one(tmp_path / "lock", tmp_path / "record"),
        pytest.raises(StartError, match=re.escape(f"The service runs already on the data in {tmp_path}.")),
        only_one(tmp_path / "lock", tmp_path / "record"),
    ):
        pass
    with only_one(tmp_path / "lock", tmp_path / "record"):
        pass


def kill_supervisor(folder: Path, *, ends_after_s: float) -> None:
    """Starts a supervisor with its program, and kills it with SIGKILL."""
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(folder), STANDS, str(ends_after_s)],
        cwd=processes.SOURCE_FOLDER,
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout and supervisor.stdout.readline() == "ready\n"
        supervisor.kill()


def test_programs_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    kill_supervisor(tmp_path, ends_after_s=0)
    # The kernel may say it twice: when the thread that started it dies, and when the process does.
    assert processes.within(WAIT_S, lambda: len(set(noted(tmp_path / "notes", "ended"))) == 1)


def test_the_next_start_clears_away_what_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigov.supervisor.LEFTOVER_WAIT_S", 0.3)
    kill_supervisor(tmp_path, ends_after_s=3600)
    leftover = psutil.Process(noted(tmp_path / "notes", "started")[0][1])
    assert processes.lives(leftover)
    with only_one(tmp_path / "lock", tmp_path / "record"):
        assert not processes.lives(leftover)


def test_a_number_that_is_another_processs_by_now_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        (tmp_path / "record").write_text(json.dumps([[bystander.pid, 1.0], [4_194_304, 1.0]]))
        with only_one(tmp_path / "lock", tmp_path / "record"):
            assert bystander.poll() is None
        bystander.kill()
