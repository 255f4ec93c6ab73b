#!/usr/bin/env python
"""Django's commands; those servers that the environment does not name run for as long as the command does."""

import os
import signal
import sys
from pathlib import Path

from aigov import embedded
from aigov.environment import Environment

SOURCE_FOLDER = Path(__file__).resolve().parent


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    environment = Environment(SOURCE_FOLDER / ".env")
    data_folder = Path(environment.text("AIGOV_DATA_DIR", default=str(SOURCE_FOLDER / ".data"))).resolve()
    with embedded.services(environment, data_folder) as running:
        os.environ.update(running.variables)
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
