# Every target makes the virtual environment it needs, one per version of Python:
#   make test PYTHON=python3.13
PYTHON ?= python3
PORT ?= 11112
HTTP ?= 8042
# One process more than most machines for tests have cores, since some tests wait. Each has neighbouring
# tests, so that what a module shares is made once, and takes half of what another has left when it is idle.
JOBS ?= 3
BENCH ?=

# A Python that pyenv has, but has not selected, is found by its version.
PYENV := $(wildcard $(HOME)/.pyenv/versions/$(PYTHON:python%=%).*/bin/python)
FOUND := $(firstword $(shell for each in $(PYTHON) $(PYENV); do \
  $$each -c pass 2>/dev/null && echo $$each; done))
VERSION := $(if $(FOUND),$(shell $(FOUND) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin
# Most modules of the packages are never imported; those that are, are compiled then.
INSTALL := -m pip --quiet --disable-pip-version-check install --no-compile

# The peer that interoperability tests and benchmarks run lives in an environment of its own.
PYNETDICOM := 3.0.4
PEER := .venv-peer/.pynetdicom-$(PYNETDICOM)-sqlalchemy
export PYNETDICOM_PYTHON ?= $(CURDIR)/.venv-peer/bin/python
export COVERAGE_FILE := $(CURDIR)/$(VENV)/coverage

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve try test pairs sample ready tools peer which lint bench docs

help: ## list the targets
	@sed -n 's/^\([a-z]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST)

# On a terminal the node gets a process group of its own, so that Ctrl-C reaches it and not make.
serve: $(VENV)/.with-node,web,codecs ## run an archive on port 11112 (PORT=), its page and DICOMweb on port 8042 (HTTP=), in ./archive
	@if [ -t 0 ]; then set -m; fi; \
	  $(BIN)/python -m dicomwire node --port $(PORT) --http $(HTTP) --folder ./archive

try: $(VENV)/.with-node,web,codecs ## send an image to that archive, ask for it and get it back
	@$(BIN)/python tools/try_archive.py $(PORT)

# The tests of protocol/ have a process of their own, beside those that wait: they are so many and so
# short that it takes longer to spread them.
test: $(VENV)/.with-test $(PEER) ## run all tests; protocol/ must be covered to the last branch
	@{ $(BIN)/python -m pytest tests/protocol --cov=src/dicomwire/protocol --cov-report= && \
	  $(BIN)/coverage report --include='*/dicomwire/protocol/*' --skip-covered --show-missing \
	    --fail-under=100; } >$(VENV)/protocol-tests 2>&1 & protocol=$$!; failed=0; \
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --ignore=tests/protocol || failed=1; \
	wait $$protocol || failed=1; \
	cat $(VENV)/protocol-tests; exit $$failed

# What depends on the version of Python: forks, threads, sockets, event loops, TLS, types, warnings.
LIBRARY := threaded aio workers \
  $(patsubst %,unit/test_%.py,admission ae datasets encoder events lazy_names leftovers ledger lock_order logs \
  payloads selector service_user tls_contexts utils) \
  $(patsubst %,scenarios/test_%.py,workers first_programs associating tls nothing_left asyncio_programs \
  asyncio_cancelling)
PROGRAMS := \
  $(patsubst %,apps/test_%.py,app_processes dispatcher exit_codes node_app receiving start_up worker_apps) \
  $(patsubst %,node/test_%.py,configuration converters journal node_server node_workers postgres tasks \
  web_frame)
SAMPLE := $(LIBRARY) $(PROGRAMS)

sample: $(VENV)/.with-test $(PEER) ## run the tests that depend on the version of Python
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(wildcard $(addprefix tests/,$(SAMPLE)))

PAIRS := sqlite-folder postgres-folder postgres-bucket sqlite-bucket

pairs: $(VENV)/.with-test ## run the tests of the archive with each pair of index and object store; PAIRS=postgres-bucket
	@failed=0; for pair in $(PAIRS); do echo "$$pair:"; \
	  TEST_PAIR=$$pair $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/node || failed=1; \
	done; exit $$failed

ready: $(VENV)/.with-test # make the environment of the tests

tools: $(VENV)/.with-lint $(VENV)/.with-docs # add what checks it and builds the site

peer: $(PEER) # make that of the peer

which: # say which version of Python it is; nothing if there is none
	@echo $(VERSION)

lint: $(VENV)/.with-lint ## style, types, the direction of imports, the generated tables
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_types.py
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/make_tables.py --check

bench: $(VENV)/.with-test $(PEER) ## measure against the peers; BENCH='--quick --cells echo'
	@$(BIN)/python -m benchmarks $(BENCH)

docs: $(VENV)/.with-docs ## build the site into docs/_build/html
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

$(VENV)/.with-core: pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALL) --editable .
	@touch $@

$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALL) --editable '.[$*]'
	@touch $@

# The pip that comes with a Python of some years takes a minute more to find what it installs.
$(BIN)/python:
	@test -n "$(VERSION)" || { echo "PYTHON=$(PYTHON) does not run"; exit 1; }
	$(FOUND) -m venv --upgrade-deps $(VENV)

$(PEER):
	$(FOUND) -m venv .venv-peer
	.venv-peer/bin/python $(INSTALL) pynetdicom==$(PYNETDICOM) sqlalchemy
	@touch $@
