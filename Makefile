# Everything, set-up included, from a fresh clone: `make demo`, `make demo-kolmogorov`, `make test`.
# Of what is installed only modules that are imported are compiled, once: of all pip would take half a
# minute, and where the shell forbids Python to keep them each process takes 8 s.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
IMPORTS := import pkgutil, sda_jax; \
	[__import__(m.name) for m in pkgutil.walk_packages(sda_jax.__path__, 'sda_jax.')]

.PHONY: demo demo-kolmogorov test test-slow check docs setup clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -c "$(IMPORTS)"
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
