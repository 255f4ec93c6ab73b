"""`python -m providers.sandbox --port 9100 [--host 127.0.0.1] [--bills FILE]`

Port 0 takes a free one, and says which. In the file the bills outlive the process.
"""

import argparse
import asyncio
import gc
import signal
from pathlib import Path

import uvloop

from providers.sandbox.app import Sandbox
from providers.sandbox.server import Doors, serve


async def run(host: str, port: int, bills: Path | None) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    doors = Doors(host)
    sandbox = Sandbox(doors)
    doors.handler = sandbox
    if bills is not None and bills.exists():
        sandbox.tally.metering.load(bills)
    await serve(doors, port, stop)
    if bills is not None:
        sandbox.tally.metering.save(bills)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m providers.sandbox", description="Stands in for both providers."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bills", type=Path, help="keeps here what was billed")
    options = parser.parse_args()
    # The counts keep many objects and make no cycles: collecting seldom saves a tenth of the time.
    gc.set_threshold(100_000, 20, 50)
    uvloop.run(run(options.host, options.port, options.bills))


if __name__ == "__main__":
    main()
