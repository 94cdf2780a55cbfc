# Everything, set-up included, from a fresh clone: `make demo`, `make demo-kolmogorov`, `make test`.
# Python compiles modules when they are first imported: pip would spend half a minute on all of them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# 8 s for each process if what is imported is compiled anew, as some shells ask for
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo demo-kolmogorov test test-slow check docs setup clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/python scripts/demo.py

demo-kolmogorov: setup
	$(BIN)/python scripts/experiment.py --config configs/kolmogorov_assimilation.py

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python $(VENV)

docs: setup
	$(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) runs build
