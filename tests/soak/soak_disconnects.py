"""Ten thousand clients that go amid their streams (`make soak`), each at some chunk, by FIN or by RST.

Afterwards nothing is held, no stream to a provider is open, the accounts are the sums of their rows, and
each question has one charge: what the provider has sent, where that became known within two seconds, else
the whole hold.

DISCONNECTS      how many (10,000)
DISCONNECT_SEED  of the random choices (1)
"""

import asyncio
import os
import random
from collections.abc import Iterator, Mapping

from aigov.organizations.models import Organization
from budgets.models import CostRecord
from tests import faults_world as world
from tests.conftest import Sandbox
from tests.faults_world import EACH_ITS_WORDS, FACES, WORDS, Leaver
from tests.test_disconnects import CHUNKS_MAX, QUICK, SLOW, SLOW_CHUNKS_MAX, check_books
from tests.web_processes import web_processes

DISCONNECTS = int(os.environ.get("DISCONNECTS", "10000"))
SEED = int(os.environ.get("DISCONNECT_SEED", "1"))
CLIENTS = 64
SAID_EVERY = 1_000
#: One model in eight is too slow for its stream to be read to the end.
SLOW_SHARE = 1 / 8


def leavers(chance: random.Random) -> Iterator[Leaver]:
    for number in range(DISCONNECTS):
        slow = chance.random() < SLOW_SHARE
        yield Leaver(
            face=chance.choice(FACES),
            text=f"{SLOW if slow else QUICK}{EACH_ITS_WORDS}{number}",
            chunks=chance.randint(0, SLOW_CHUNKS_MAX if slow else CHUNKS_MAX),
            rudely=chance.random() < 0.5,
            user=f"u-{number}",
        )


async def play(leaving: Iterator[Leaver], url: str, headers: Mapping[str, str]) -> int:
    """All of them, `CLIENTS` at a time; the number of those that have heard the whole answer."""
    count = whole = 0

    async def client() -> None:
        nonlocal count, whole
        for leaver in leaving:
            heard = await leaver.play(url, headers)
            assert any(words.startswith(heard) for words in WORDS.values()), heard
            count, whole = count + 1, whole + (heard in WORDS.values())
            if count % SAID_EVERY == 0:
                print(f"\n{count} of {DISCONNECTS} have gone", end="", flush=True)

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
    return whole


def test_ten_thousand_clients_that_go(organization: Organization, sandbox: Sandbox) -> None:
    leaving = list(leavers(random.Random(SEED)))
    headers = world.key_of(organization)
    with web_processes(1) as web:
        whole = asyncio.run(play(iter(leaving), web.url, headers))
        check_books(organization, sandbox, [leaver.user for leaver in leaving])
    estimated = CostRecord.objects.filter(organization=organization, estimated=True).count()
    print(
        f"\n{DISCONNECTS} streams left ({whole} after the last word): {DISCONNECTS - estimated} charged at"
        f" their true cost, {estimated} with the whole hold; 0 held, 0 streams open, 0 differences"
    )
