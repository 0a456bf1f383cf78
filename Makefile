# Everything from a fresh clone. Needs Python 3.11 or newer and make; the rest comes from the locks in requirements/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

# A stamp is named for what it stands for, so that another lock, project file or front end makes another stamp.
digest = $(shell cat $(1) 2>/dev/null | sha256sum | cut -c1-16)
DEPS := $(VENV)/.deps-$(call digest,requirements/torch.txt requirements/dev.txt)
PROJECT := $(VENV)/.project-$(call digest,pyproject.toml)
FRONTEND := webui/frontend
FRONTEND_FILES := $(sort $(shell test -f $(FRONTEND)/package.json && \
	find $(FRONTEND) -type f -not -path '*/node_modules/*' -not -name '*.tsbuildinfo'))
NODE_MODULES := $(FRONTEND)/node_modules/.installed-$(call digest,$(FRONTEND)/package.json $(FRONTEND)/package-lock.json)
BUILT := webui/static/dist/.built-$(call digest,$(FRONTEND_FILES))
CATALOGUES := $(patsubst %.po,%.mo,$(wildcard webui/translations/*/LC_MESSAGES/*.po))
WITH_NODE := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: help install build-web catalogues demo serve test lint lint-web bench faults fuzz load words screenshots lock sbom audit-dependencies clean

help:
	@echo "make demo     the whole node with sample radiographs; ONCE=1 ends when the last result is back"
	@echo "make serve    the real service with your configuration (CONFIG=FILE, else cxr-sr.toml)"
	@echo "make install  .venv with the project, its front end and its test tools"
	@echo "make test     the test suite (ARGS='tests/db -k lease' for a part)"
	@echo "make lint     ruff, mypy, import rules, licences"
	@echo "make bench    the project's benchmarks"
	@echo "make faults   the long part of the fault tests: kills, power cuts, full disks, strange peers (hours)"
	@echo "make fuzz     fuzzing of everything that parses something from outside (FUZZ_SECONDS=3600)"
	@echo "make words    the catalogues of translations brought to what is marked in the pages"
	@echo "make load     how quickly a busy node with 100,000 jobs answers (ARGS='--seconds 120 --json')"
	@echo "make screenshots  the README's pictures of the pages, from a demo"
	@echo "make sbom     what a release is made of, as CycloneDX: dist/cxr-sr-VERSION.cdx.json"
	@echo "make audit-dependencies  known faults of what is locked (asks the network)"
	@echo "make lock     write the locks again from pyproject.toml (UPGRADE=1: newer versions)"
	@echo "make clean    remove everything that these commands built, except var/"

install: $(DEPS) $(PROJECT) build-web catalogues

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) --version 2>&1`. Try: make PYTHON=python3.12 install" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
		|| { echo "This Python has no venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "==> making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# torch first and by version alone, so that the build that fits this machine is taken; the rest by hash.
$(DEPS): | $(PY)
	@echo "==> installing the locked dependencies (some minutes the first time)"
	@$(PIP) install -r requirements/torch.txt
	@$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@rm -f $(VENV)/.deps-*; touch $@

$(PROJECT): $(DEPS)
	@echo "==> installing cxr-sr"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.project-*; touch $@

# Vite, run by the Node that came with the locked dependencies.
ifeq ($(FRONTEND_FILES),)
build-web:
lint-web:
else
build-web: $(BUILT)

lint-web: $(NODE_MODULES)
	cd $(FRONTEND) && $(WITH_NODE) npm run --if-present --silent check

$(NODE_MODULES): | $(DEPS)
	@echo "==> installing the front end's build tools"
	@cd $(FRONTEND) && $(WITH_NODE) npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(BUILT): $(NODE_MODULES)
	@echo "==> building the front end"
	@cd $(FRONTEND) && $(WITH_NODE) npm run --silent build
	@touch $@
endif

catalogues: $(CATALOGUES)

%.mo: %.po | $(DEPS)
	@$(VENV)/bin/pybabel --quiet compile --input-file $< --output-file $@

words: $(PROJECT)
	@$(PY) tools/words.py
	@$(MAKE) --no-print-directory catalogues

demo: install
	@$(VENV)/bin/cxr-sr demo $(if $(filter-out 0,$(ONCE)),--once)

serve: install
	@$(VENV)/bin/cxr-sr serve $(if $(CONFIG),--config $(CONFIG))

test: install
	@$(PY) -m pytest $(ARGS)

lint: $(PROJECT)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) tools/licences.py
	@$(MAKE) --no-print-directory lint-web

# The README's pictures of the pages; needs Debian's chromium.
screenshots: install
	@PYTHONPATH=. $(PY) tools/screenshots.py

bench: install
	@$(VENV)/bin/cxr-sr bench $(ARGS)

faults: install
	@FAULTS=long $(PY) -m pytest tests/faults tests/webui/test_schemathesis.py -s $(ARGS)

# libFuzzer on everything that parses something from outside, for FUZZ_SECONDS; what it finds lies in var/fuzz.
# Atheris lies there too, beside the environment.
FUZZ_SECONDS ?= 3600
ATHERIS := var/fuzz/site-$(call digest,requirements/fuzz.txt)

fuzz: install $(ATHERIS)
	@PYTHONPATH=$(ATHERIS):. $(PY) -W ignore -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

$(ATHERIS):
	@$(PIP) install --no-deps --require-hashes --target $@ -r requirements/fuzz.txt

# Milliseconds of every page and answer while people click on a node with 100,000 jobs.
load: install
	@PYTHONPATH=. $(PY) tools/load.py $(ARGS)

# The tools that look at a release have an environment of their own.
RELEASE_TOOLS := build/release-$(call digest,requirements/release.txt)

$(RELEASE_TOOLS)/.ready: | $(PY)
	@echo "==> installing the tools of a release"
	@rm -rf build/release-*
	@$(PY) -m venv $(RELEASE_TOOLS)
	@$(RELEASE_TOOLS)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r requirements/release.txt
	@touch $@

sbom: $(RELEASE_TOOLS)/.ready $(DEPS)
	@$(WITH_NODE) $(PY) tools/sbom.py --tools $(RELEASE_TOOLS)

# Strict: what the advisories do not know is no proof of anything.
audit-dependencies: $(RELEASE_TOOLS)/.ready $(DEPS)
	$(RELEASE_TOOLS)/bin/python -m pip_audit --strict --disable-pip --require-hashes -r requirements/runtime.txt
	$(RELEASE_TOOLS)/bin/python -m pip_audit --strict --disable-pip --no-deps -r requirements/torch.txt
	cd $(FRONTEND) && $(WITH_NODE) npm audit --package-lock-only

lock: $(DEPS)
	$(PY) tools/lock.py $(if $(UPGRADE),--upgrade)

clean:
	rm -rf $(VENV) webui/static/dist $(FRONTEND)/node_modules build dist
	rm -f $(CATALOGUES)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
