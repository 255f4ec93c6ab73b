# Needs Python 3.11 or newer and make; everything else is put into .venv.

.DEFAULT_GOAL := demo
.PHONY: demo run test coverage test-live test-old-clients bench bench-faults soak lint lock messages clean browser runtime develop

PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$name && break; done)
UV := .venv/bin/uv
# Where only pip is told how to reach a registry, uv fails and pip takes over.
SYNC = $(UV) pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes $(1) || \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
export UV_SYSTEM_CERTS ?= 1
# For a tool that reads the settings but needs no server.
SETTINGS := SECRET_KEY=no-secret-but-long-enough-for-linters DATABASE_URL=postgresql:///none REDIS_URL=redis://none/0

demo: runtime
	@.venv/bin/python manage.py demo $(if $(filter exit,$(DEMO)),--exit)

run: runtime
	@.venv/bin/python manage.py run

test: develop browser lint
	.venv/bin/python -m pytest -n 2 --dist loadgroup --durations=20

# Which lines and branches the tests reach: nine tenths of all, and every one of what prices, routes and books. It
# takes two thirds longer than the tests alone.
coverage: develop browser
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -n 2 --dist loadgroup
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report
	.venv/bin/coverage report --include=budgets/ledger.py,providers/pricing.py,routing/policy.py --fail-under=100

# Asks the real providers, for €1.00 a month at most (docs/conformance.md); says so where there are no keys.
test-live: runtime
	@.venv/bin/python -m tests.conformance.live

# The official clients' older majors, from an environment of their own.
test-old-clients: runtime
	@.venv/bin/python -m tests.conformance.old_clients

lint: develop
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(SETTINGS) .venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python manage.py makemigrations --check --dry-run

bench: develop
	.venv/bin/python -m tests.bench

# What it costs that a provider fails, and a thousand streams at once.
bench-faults: develop
	.venv/bin/python -m tests.bench.fault_table
	.venv/bin/python -m tests.bench.outage
	.venv/bin/python -m tests.bench.streams

# Long: a million operations on the ledger, fifty processes killed in mid-call, ten thousand clients that go, and
# ten thousand calls on the bill.
soak: develop
	.venv/bin/python -m pytest -s tests/soak/soak_*.py

# The tests of pages drive a Chromium: the machine's, or Debian's where we may install it.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null; \
	else echo "Please install Chromium; the tests of pages need it." >&2; exit 1; fi

# Locks for every platform, with hashes, without any registry's address.
lock: .venv/bootstrapped
	$(UV) pip compile -q --universal --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.txt
	$(UV) pip compile -q --universal --generate-hashes --no-header --no-annotate --group dev pyproject.toml \
		-o requirements-dev.txt

# The texts for translation into German (needs GNU gettext), and what the service reads of them.
messages: develop
	.venv/bin/python manage.py makemessages -l de --no-location --no-wrap -i .venv -i tests -v 0
	.venv/bin/python -c "import polib; d = 'aigov/locale/de/LC_MESSAGES/django.'; polib.pofile(d + 'po').save_as_mofile(d + 'mo')"

clean:
	rm -rf .venv .data .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# requirements-dev.txt holds all of requirements.txt: who can develop can also run.
runtime: .venv/bootstrapped
	@cmp -s requirements.txt .venv/synced-runtime || cmp -s requirements-dev.txt .venv/synced-develop || { \
		echo "Installing packages …" >&2 && rm -f .venv/synced-* && \
		{ $(call SYNC,requirements.txt); } && cp requirements.txt .venv/synced-runtime; }

develop: .venv/bootstrapped
	@cmp -s requirements-dev.txt .venv/synced-develop || { \
		echo "Installing packages for development …" >&2 && rm -f .venv/synced-* && \
		{ $(call SYNC,requirements-dev.txt); } && cp requirements-dev.txt .venv/synced-develop; }

.venv/bootstrapped:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed, and none is found on PATH." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv or ensurepip; on Debian: apt-get install python3-venv." >&2; exit 1; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<1'
	@touch $@
