# Everything that is done often. `make` alone lists the targets; each sets up what it needs and a second run is quick.

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTEST := .venv/bin/pytest
INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check
# Four worker processes share the tests of the whole suite, of which much is waiting for others; PYTEST_ARGUMENTS="-x -k refund" narrows a run.
WORKERS ?= 4
# Each begins with a stretch of its own, so that what a file sets up once is set up by one of them, and whoever is done takes from the others.
SHARED := -n $(WORKERS) --dist worksteal
PYTEST_ARGUMENTS ?=
# What `make test` also runs on PostgreSQL; `make test-postgresql` runs everything there. Tests of the store itself are always on both.
ON_POSTGRESQL := $(foreach name,paid declines ends races acknowledgements cancellation cancel_races dual_signature,tests/flows/test_$(name).py) \
	tests/attacks/test_checkpoints.py tests/attacks/test_review.py tests/attacks/test_line_flood.py \
	tests/flows/test_console_requests.py tests/flows/test_own_limits.py tests/faces/test_home.py

# What `make check` runs, a few minutes before each commit; `make test` runs everything.
OF_EACH_PART := tests/unit tests/protocol tests/vectors tests/tidy

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.made: tools/make-venv
	@tools/make-venv
	@touch $@

# Hashes are required of every package; the project itself is then installed editable by the hatchling of the lock.
.venv/.server: requirements.lock requirements-build.lock pyproject.toml .venv/.made
	@echo "Installing the packages of requirements.lock into .venv"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --require-hashes -r requirements-build.lock
	@$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.server
	@echo "Installing the packages of requirements-dev.lock into .venv"
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: setup
setup: .venv/.dev ## set up .venv with everything that development needs

.PHONY: test-programs
test-programs:
	@tools/system-packages
	@tools/node-packages

.PHONY: demo
demo: .venv/.server ## set up .venv, then run payment server, demo shop and one purchase until Ctrl-C
	@.venv/bin/hanbit demo

.PHONY: test
test: .venv/.dev test-programs ## set everything up, then run all tests but the long matrix
	@$(PYTEST) $(SHARED) -m "not long" $(PYTEST_ARGUMENTS)
	@echo "The payments, the limits and what people ask for once more, every book in a PostgreSQL database"
	@HANBIT_TEST_ENGINE=postgresql $(PYTEST) $(SHARED) $(ON_POSTGRESQL) $(PYTEST_ARGUMENTS) || [ $$? -eq 5 ]  # 5: none was asked for

.PHONY: test-postgresql
test-postgresql: .venv/.dev test-programs ## run all in-process tests with every book in a PostgreSQL database of the tests' own cluster
	@HANBIT_TEST_ENGINE=postgresql $(PYTEST) $(SHARED) -m "not long and not browser and not processes" $(PYTEST_ARGUMENTS)

.PHONY: test-long
test-long: .venv/.dev test-programs ## run the full crash and race matrix
	@$(PYTEST) -m long --hypothesis-profile=long $(PYTEST_ARGUMENTS)

.PHONY: lint
lint: .venv/.dev ## format, lint, strict types, import contracts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

.PHONY: check
check: lint ## make lint, then the tests of each part by itself and of the house
	@$(PYTEST) $(SHARED) -m "not long and not browser and not processes" $(OF_EACH_PART) $(PYTEST_ARGUMENTS)

.PHONY: format
format: .venv/.dev ## format the code and mend what ruff can mend by itself
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

.PHONY: coverage
coverage: .venv/.dev ## fast tests with branch coverage
	@.venv/bin/coverage erase
	@.venv/bin/coverage run -m pytest -m "not long and not browser and not processes" $(PYTEST_ARGUMENTS)
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report

.PHONY: bench
bench: .venv/.server ## measure complete payments through all three parties, 20 seconds, 64 in flight
	@.venv/bin/hanbit bench payments --seconds 20 --concurrency 64

.PHONY: screenshots
screenshots: .venv/.dev test-programs ## take the pictures of docs/gallery anew: every page in every state, both languages, desktop and phone
	@find docs/gallery -name '*.webp' -delete
	@HANBIT_PICTURES_ONLY=1 HANBIT_SCREENSHOTS=docs/gallery $(PYTEST) -n $(WORKERS) tests/e2e/gallery
	@.venv/bin/python tools/make_gallery.py

.PHONY: models
models: .venv/.dev ## search the models of the protocols for attacks and print what was found
	@.venv/bin/python -m models.check --write
	@.venv/bin/python tools/make_docs.py

.PHONY: lock
lock: .venv/.dev ## write the lock files anew from pyproject.toml (tools/lock --upgrade takes newer versions)
	@tools/lock

.PHONY: clean
clean: ## remove .venv and everything else that was made
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov build dist tests/node/node_modules
	@find src tests tools examples models -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
