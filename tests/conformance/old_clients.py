"""`make test-old-clients`: the cases with the clients' older majors, installed beside the project.

The service runs with today's clients, and the provider sandbox; the old ones are asked from an environment of
their own, which has nothing else in it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.conformance.service import SOURCE_FOLDER, serving

#: The oldest majors that are still common, in the newest release of each.
OLD = ("openai>=1,<2", "anthropic>=0.40,<1")
CAP_EUR = "100"
VERSUS = "tests.conformance.versus"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="aigov-") as folder:
        python = installed(Path(folder) / "venv")
        with serving(
            Path(folder) / "data", organization="Old clients", cap_eur=CAP_EUR, providers={}
        ) as service:
            provider = (Path(folder) / "data" / "sandbox" / "url").read_text(encoding="utf-8").strip()
            environment: Mapping[str, str] = {**os.environ, "AIGOV_KEY": service.key}
            command = [str(python), "-m", VERSUS, provider, service.address]
            return subprocess.run(command, cwd=SOURCE_FOLDER, env=environment).returncode


def installed(folder: Path) -> Path:
    """The Python of a new environment with the old clients."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *OLD]
    subprocess.run(pip, check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
