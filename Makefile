# Two commands do everything on a machine with Python 3.11 and pip: `make demo` and `make test`.
#
# PYTHON    the interpreter that the environment is made with
# TORCH     what pip installs as torch. On Linux pip's default build also drives NVIDIA GPUs; for a smaller one without,
#           point pip at a CPU build with its own settings (PIP_INDEX_URL, PIP_FIND_LINKS) or TORCH=path/to/wheel.

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check test-oldest test-newest clean

demo: $(READY)
	$(BIN)/cssd-geo demo --output demo

test: $(READY) check
	$(BIN)/python -m pytest -n auto

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# What users may have instead of the versions of constraints.txt: the oldest ones that pyproject.toml admits (but for torch),
# and the newest that there are.
OLDEST := import tomllib; \
	needed = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
	print(*(each.replace(">=", "==") for each in needed if not each.startswith("torch")))

test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet "$(TORCH)" $$($(PYTHON) -c '$(OLDEST)')
	.venv-oldest/bin/python -m pip install --quiet --editable ".[dev]"
	.venv-oldest/bin/python -m pytest -n auto -W ignore::DeprecationWarning  # of one old package to a newer one

test-newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet "$(TORCH)"
	.venv-newest/bin/python -m pip install --quiet --editable ".[dev]"
	.venv-newest/bin/python -m pytest -n auto

# torch comes first and alone: whatever asks for it later finds it there and fetches no other build.
$(READY): pyproject.toml setup.py $(wildcard cssd_geo/compute/*.cpp cssd_geo/compute/*.h) constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cssd-geo needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf .venv .venv-oldest .venv-newest demo build *.egg-info cssd_geo/compute/_kernels*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
