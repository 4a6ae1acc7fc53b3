# On a fresh machine two commands do all: `make run` and `make test`. Neither needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# So many tests run side by side, each with one thread: those of torch would only wait for one another.
JOBS ?= 2
INSTALLED := $(VENV)/.installed

.PHONY: run test lint docs coverage beds clean

# The main job on real data: four peers teach one another, beside the baselines. About two minutes after installation;
# a minute more with FAULTS=bad-day, which runs what gossips a second time under that plan.
run: $(INSTALLED)
	$(BIN)/gossipdistill compare --peers unlike-4 --steps 750 \
		--strategies isolated,codistill_predictions,gossip_averaging,all_reduce,pooled $(addprefix --faults ,$(FAULTS))

test: $(INSTALLED) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not bed" --numprocesses $(JOBS)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs

# The pages of docs/ as a site in build/site: seven CPU seconds. A link that leads nowhere, or a docstring that names a
# parameter that is not there, fails.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict --quiet

# The machines in which one wrong branch loses something: each by its own tests alone, or it fails. Those of the package
# or module `part` lie in tests/part or tests/test_part*.py. With `make -j2` two parts at a time.
PARTS := faults wire mailbox protocol
coverage: $(PARTS:%=coverage-%)
coverage-protocol: BESIDES := ,gossipdistill/presence.py
coverage-%: export COVERAGE_FILE = .coverage.$*
coverage-%: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run --branch --include='gossipdistill/$*/*,gossipdistill/$*.py$(BESIDES)' \
		-m pytest --quiet $(wildcard tests/$* tests/test_$*.py tests/test_$*_*.py)
	$(BIN)/python -m coverage report --show-missing --fail-under=100

# What needs root: networks of namespaces, containers under a real engine, and what takes minutes. Each bed declares its
# minutes, and their sum is printed first; one that cannot start says SKIP and why.
beds: $(INSTALLED)
	$(BIN)/python -m pytest -m bed -rs tests/beds

# The pin of torch lies in the constraints file: with it pip finds the CPU build where one is offered.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage.*
