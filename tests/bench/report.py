"""The figures, as a table for people and as JSON for comparisons."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of one case; `refused` calls are in none of the other figures."""

    answers: int
    refused: int
    per_s: float
    cpu_s_per_1000: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """All runs by case: `cases` at an instant provider, `waiting` at a slow one."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    cases: dict[str, list[Figures]] = field(default_factory=dict)
    waiting: dict[str, list[Figures]] = field(default_factory=dict)
    pairs_per_s: dict[str, list[float]] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_machine(cls, load_average: float, settings: dict[str, Any]) -> "Report":
        machine = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "load_average_before": round(load_average, 2),
        }
        return cls(machine, settings)


def write(report: Report, file: Path) -> None:
    file.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")


def table(report: Report, *, no_op: str, bare: str) -> str:
    """Medians and ranges; the ratios are those of the medians of CPU time."""
    return "\n".join(
        [
            *cpu_lines(report.cases, no_op, bare),
            f"\nMilliseconds added to a provider that takes {report.settings['wait_ms']} ms",
            f"{'':<34}{'p50':>25}{'p95':>25}{'p99':>25}{'per s':>8}",
            *(f"{name:<34}{added(runs)}" for name, runs in report.waiting.items()),
            "\nThe ledger alone: holds taken and settled on one account, a second",
            *(f"{name:<34}{spread(pairs, 0):>24}" for name, pairs in report.pairs_per_s.items()),
            "\nThe web process's resident memory, MB",
            *(f"{name:<34}{megabytes:>24.0f}" for name, megabytes in report.memory_mb.items()),
            *refusals(report),
        ]
    )


def refusals(report: Report) -> Iterator[str]:
    for name, runs in (*report.cases.items(), *report.waiting.items()):
        if refused := sum(run.refused for run in runs):
            answers = sum(run.answers for run in runs)
            yield f"\n{name}: {refused:,} calls refused (503), beside {answers:,} answered"


def cpu_lines(cases: Mapping[str, Sequence[Figures]], no_op: str, bare: str) -> Iterator[str]:
    yield (
        f"{'':<34}{'CPU s per 1,000':>24}{'× nothing':>11}{'× bare':>8}{'per s':>8}"
        f"{'p50 ms':>9}{'p95':>8}{'p99':>8}"
    )
    for name, runs in cases.items():
        cpu = spread([run.cpu_s_per_1000 for run in runs], 2)
        to_nothing, to_bare = (cpu_of(runs) / cpu_of(cases[floor]) for floor in (no_op, bare))
        yield (
            f"{name:<34}{cpu:>24}{to_nothing:>11.1f}{to_bare:>8.1f}{median(run.per_s for run in runs):>8.0f}"
            f"{median(run.p50_ms for run in runs):>9.1f}{median(run.p95_ms for run in runs):>8.1f}"
            f"{median(run.p99_ms for run in runs):>8.1f}"
        )


def added(runs: Sequence[Figures]) -> str:
    columns = ([getattr(run, name) for run in runs] for name in ("p50_ms", "p95_ms", "p99_ms"))
    latencies = "".join(f"{spread(column, 0):>25}" for column in columns)
    return f"{latencies}{median(run.per_s for run in runs):>8.0f}"


def cpu_of(runs: Sequence[Figures]) -> float:
    return median(run.cpu_s_per_1000 for run in runs)


def spread(values: Sequence[float], places: int) -> str:
    """`median (lowest to highest)`"""
    return f"{median(values):,.{places}f} ({min(values):,.{places}f} to {max(values):,.{places}f})"
