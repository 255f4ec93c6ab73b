"""The cases of the clients that are installed here: the provider's answer beside the gateway's.

    python -m tests.conformance.versus PROVIDER GATEWAY      both without /v1; the gateway's key in AIGOV_KEY

The provider is a sandbox. Ends with status 1 where an answer differs; what the clients lack is left out.
"""

import os
import sys
import urllib.request
from collections import Counter
from importlib.metadata import version

from tests.conformance import anthropic_cases, asking, openai_cases
from tests.conformance.case import CLIENTS, Case, Way
from tests.conformance.clients import Clients, Loop, opened
from tests.conformance.comparison import undocumented

MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
CASES = [case for case in (*openai_cases.CASES, *anthropic_cases.CASES) if not case.ours]


def main(provider: str, gateway: str) -> int:
    print(", ".join(f"{client} {version(client)}" for client in CLIENTS))
    told: Counter[str] = Counter()
    with opened() as loop:
        sides = loop.clients(provider, "sandbox"), loop.clients(gateway, os.environ["AIGOV_KEY"])
        for case in CASES:
            for way in case.ways:
                for asynchronous in (False, True):
                    wrong = outcome(loop, sides, case, way, asynchronous)
                    told[wrong.partition(":")[0]] += 1
                    if wrong != "equal":
                        print(f"{case} ({way}{', async' if asynchronous else ''}): {wrong}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in told.items()))
    return 1 if told["different"] or told["error"] else 0


def outcome(loop: Loop, sides: tuple[Clients, Clients], case: Case, way: Way, asynchronous: bool) -> str:
    """`equal`, `not in this client: …`, `different: …` or `error: …`."""
    results = []
    for side in sides:
        forget(sides[0].address)
        client = side.of(case.client, asynchronous=asynchronous)
        cached = side is sides[0]  # the provider knows nothing of our cache
        asked = asking.ask(client, case, way, MODELS[case.client], marked=True, cached=cached)
        try:
            results.append(loop.run(asked))
        except asking.NotInThisClient as lack:
            return f"not in this client: {lack}"
        except asking.client_errors(case.client) as error:
            return f"error: from {side.address}: {error}"
    found = undocumented(case.client, *results)
    return f"different: {'; '.join(map(str, found))}" if found else "equal"


def forget(provider: str) -> None:
    """Empties the sandbox's prompt cache."""
    urllib.request.urlopen(urllib.request.Request(f"{provider}/sandbox/reset", method="POST")).close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
