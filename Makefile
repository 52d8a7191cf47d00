# `make search` and `make test` set themselves up: a .venv in the tree, made once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup search test chaos soak slow wheel browser docs typed lint bench gpu

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $(READY)

search: $(READY)
	$(BIN)/python cli.py search --space quadtree --budget 4.5GFLOPs

# A worker for each core; files stay whole, for what their tests share.
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile

# Kills drivers, workers and database servers; about as long again.
chaos: $(READY)
	$(BIN)/python -m pytest -m chaos

# An hour of drivers killed, paused, cut off and out of disk, audited at its end; MINUTES=6 is shorter.
soak: $(READY)
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),60)

# The larger published models, and compilation with Inductor; of some files with TESTS.
slow: $(READY)
	$(BIN)/python -m pytest -m slow $(TESTS)

# Builds the wheel, installs it into a fresh environment outside the checkout, searches there.
wheel: $(READY)
	$(BIN)/python -m pytest -m wheel

# Opens what people look at in a headless Chromium: the system's package, nothing is downloaded.
browser: $(READY)
	$(BIN)/python -m pytest -m browser

# The documentation as a site in build/site.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Types what the pages say to type, and opens the site in Chromium.
typed: $(READY)
	$(BIN)/python -m pytest -m docs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/scan_cpu.py
	$(BIN)/python benchmarks/backbones.py
	$(BIN)/python benchmarks/proxy_reliability.py

# GPU tests and benchmarks on a machine that has torch and triton already: nothing is installed. Nine
# minutes in all; what there is no time for is left out and said so.
gpu:
	$(PYTHON) -m pytest -m gpu tests/kernels
	$(PYTHON) benchmarks/scan_gpu.py --budget 270
	$(PYTHON) benchmarks/backbone_throughput.py --budget 150
