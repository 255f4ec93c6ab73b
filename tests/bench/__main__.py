"""What a governed completion costs in CPU time, and how much longer it takes: `make bench`.

One web process, as the service starts it, on a core of its own; on the other core a provider that answers at
once, the database with all its durability, and the load. Each completion goes the whole way: key, settings,
hold, the provider's SDK, settlement, cost record, decision. Beside it, in the same rounds, two floors: a view
of ours that does nothing, and a forward that governs nothing. The rounds are interleaved, so that the ratios
between them hold also where the machine is slower, or busy.

At the end the books are looked at: an answer without its cost record would be no governed completion.
"""

import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import django

from aigov import embedded
from tests.bench import load, report, stand
from tests.bench.load import Question
from tests.bench.report import Figures, Report
from tests.bench.stand import OTHER_CORE, WEB_CORE, Measured

ROUNDS = 3
WARM_UP_S, WARM_UP_CONNECTIONS = 0.5, 4
CONNECTIONS, SECONDS, FLOOR_SECONDS = 64, 5.0, 3.0
WAIT_MS, WAITING_CONNECTIONS, WAITING_SECONDS = 60, 16, 4.0
PAIRS_AT_ONCE, PAIRS_SECONDS = (1, 16), 2.0

UVICORN = (
    *("uvicorn", "--loop", "uvloop", "--http", "httptools", "--ws", "none", "--lifespan", "on"),
    *("--no-access-log", "--no-server-header", "--log-level", "warning", "--host", "127.0.0.1"),
)
NO_OP, BARE = "a view that does nothing", "a bare forward, nothing governed"
LEAD = {
    "messages": [{"role": "user", "content": "Lead %d: we need 500 seats by March, the budget is approved."}],
    "use_case": "lead_classification",
    "labels": ["A", "B", "C"],
    "metadata": {"lead_id": "L-%d"},
}
TEXT = {"messages": [{"role": "user", "content": "Contract %d: summarise it in one sentence."}]}
REPEATED = {**LEAD, "messages": [{"role": "user", "content": "We need 500 seats by March."}], "metadata": {}}
FORWARDED = {
    "model": "gpt-4o-mini",
    "messages": LEAD["messages"],
    "max_completion_tokens": 1024,
    "logprobs": True,
    "top_logprobs": 20,
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured of which process; `wait_ms` is what the provider takes.

    `governed`: each answer is to have its cost record in the end.
    """

    name: str
    process: Measured
    question: Question
    seconds: float = SECONDS
    connections: int = CONNECTIONS
    wait_ms: int = 0
    governed: bool = True


@dataclass(frozen=True, slots=True)
class Servers:
    web: Measured
    forward: Measured
    upstream: Measured


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    load_average = os.getloadavg()[0]
    stand.pin(0, OTHER_CORE)
    upstream_port = embedded.free_port()
    with stand.services(upstream_port), ExitStack() as stack:
        world = set_up()
        completing, repeating, holding = map(world.make_organization, ("completes", "repeats", "holds"))
        keys = world.key_of(completing), world.key_of(repeating)
        servers = start(stack, upstream_port)
        print(introduction(load_average))
        found = Report.of_machine(load_average, {"rounds": ROUNDS, "wait_ms": WAIT_MS})
        found.memory_mb["after its start"] = servers.web.memory_mb()
        cases = cases_of(servers, *keys)
        answered = warm_up(cases)
        for number in range(1, ROUNDS + 1):
            print(f"round {number} of {ROUNDS} …", file=sys.stderr)
            answered += one_round(found, cases, servers.upstream)
            for tasks in PAIRS_AT_ONCE:
                stand.pin(0, WEB_CORE)  # which is idle meanwhile
                pairs = world.pairs_per_s(holding, tasks=tasks, seconds=PAIRS_SECONDS)
                stand.pin(0, OTHER_CORE)
                found.pairs_per_s.setdefault(f"{tasks} at once", []).append(pairs)
        found.memory_mb["after the load"] = servers.web.memory_mb()
        books = world.check_books(completing, answered)
    print(f"\n{report.table(found, no_op=NO_OP, bare=BARE)}\n\n{books}")
    report.write(found, stand.FOLDER / "latest.json")


def set_up() -> Any:
    """`tests.bench.world`, on a new database."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
    django.setup()
    from tests.bench import world

    world.migrated()
    return world


def start(stack: ExitStack, upstream_port: int) -> Servers:
    """The provider, the gateway and the bare forward; only one of the last two is at work at a time."""

    def measured(*command: str, core: int = WEB_CORE, port: int, ready: str) -> Measured:
        environment = {"BENCH_UPSTREAM": f"http://127.0.0.1:{upstream_port}/v1"}
        process = stand.measured(command, core=core, port=port, ready=ready, environment=environment)
        return stack.enter_context(process)

    def server(application: str, *, ready: str) -> Measured:
        port = embedded.free_port()
        return measured(*UVICORN, "--port", str(port), application, port=port, ready=ready)

    upstream = ("tests.bench.upstream", str(upstream_port))
    return Servers(
        upstream=measured(*upstream, core=OTHER_CORE, port=upstream_port, ready="/"),
        web=server("aigov.asgi:application", ready="/readyz"),
        forward=server("tests.bench.forward:application", ready="/"),
    )


def cases_of(servers: Servers, key: str, key_of_repeats: str) -> list[Case]:
    """A repeated question is answered from the cache, so it is asked as an organization of its own."""
    web, forward = servers.web, servers.forward
    native = Question.post(web.port, "/api/v1/completions", key=key, body=LEAD)
    chat = Question.post(web.port, "/v1/chat/completions", key=key, body={"model": "auto", **LEAD})
    text = Question.post(web.port, "/v1/chat/completions", key=key, body={"model": "auto", **TEXT})
    again = Question.post(web.port, "/api/v1/completions", key=key_of_repeats, body=REPEATED)
    bare = Question.post(forward.port, "/v1/chat/completions", key="none", body=FORWARDED)
    waiting: Any = {"seconds": WAITING_SECONDS, "connections": WAITING_CONNECTIONS, "wait_ms": WAIT_MS}
    return [
        Case(NO_OP, web, Question(web.port, "/healthz"), FLOOR_SECONDS, governed=False),
        Case(BARE, forward, bare, FLOOR_SECONDS, governed=False),
        Case("/api/v1/completions, a label", web, native),
        Case("/v1/chat/completions, a label", web, chat),
        Case("/v1/chat/completions, a text", web, text),
        Case("/api/v1/completions, from cache", web, again, FLOOR_SECONDS, governed=False),
        Case(BARE, forward, bare, governed=False, **waiting),
        Case("/api/v1/completions, a label", web, native, **waiting),
    ]


def introduction(load_average: float) -> str:
    lines = [
        f"{ROUNDS} rounds in turn: median (range). {CONNECTIONS} connections, each prompt another one.",
        f"The load average was {load_average:.1f} before; what others do here blurs all but the ratios.",
    ]
    if WEB_CORE == OTHER_CORE:
        lines.append("There is only one core, which the gateway shares with the load: only CPU times count.")
    return "\n".join(lines)


def warm_up(cases: list[Case]) -> int:
    """Runs each case, with few connections first; the number of governed completions."""
    few = [replace(case, connections=WARM_UP_CONNECTIONS) for case in cases]
    runs = [(case, run(case, seconds=WARM_UP_S)) for case in (*few, *cases)]
    return sum(figures.answers for case, figures in runs if case.governed)


def one_round(found: Report, cases: list[Case], upstream: Measured) -> int:
    """Runs all cases into `found`; the number of governed completions."""
    answered = 0
    for case in cases:
        stand.put(upstream.port, f"/delay/{case.wait_ms}")
        figures = run(case, seconds=case.seconds)
        runs = found.waiting if case.wait_ms else found.cases
        runs.setdefault(case.name, []).append(figures)
        answered += figures.answers if case.governed else 0
    stand.put(upstream.port, "/delay/0")
    return answered


def run(case: Case, *, seconds: float) -> Figures:
    """One run; its latencies are without what the provider took."""
    before = case.process.cpu_s()
    answers = load.ask(case.question, connections=case.connections, seconds=seconds)
    cpu_s, count = case.process.cpu_s() - before, len(answers.latencies_ms)
    p50, p95, p99 = (answers.percentile_ms(percent) - case.wait_ms for percent in (50, 95, 99))
    return Figures(count, answers.refused, count / answers.seconds, cpu_s / count * 1000, p50, p95, p99)


if __name__ == "__main__":
    main()
