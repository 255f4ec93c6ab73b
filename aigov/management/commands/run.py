"""`manage.py run`: the service, until Ctrl-C."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from aigov import service


class Command(BaseCommand):
    help = (
        "Runs the service: web, Celery worker and beat, and the servers that the environment does not name."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(service.serve(on_ready=self.announce))

    def announce(self, address: str) -> None:
        self.stdout.write(f"aigov serves at {address}/ (API at {address}/api/docs/). Ctrl-C stops it.")
        self.stdout.flush()
