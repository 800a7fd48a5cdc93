# The two commands of a fresh clone: make demo, make test. Everything lives in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check format schema bench clean sanitize soak fuzz

demo: $(STAMP)
	$(BIN)/python main_train_student.py --opt options/train_demo.json
	$(BIN)/swinlet evaluate --weights superresolution/demo --teacher demo/teacher_x4.safetensors --testset demo/images/test
	$(BIN)/swinlet report superresolution/demo --out superresolution/demo/report.html

# Two processes, each of which takes whole files; one alone needs twice the time.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: $(STAMP)
	$(BIN)/swinlet schema > options/schema.json
	$(BIN)/swinlet schema --markdown > docs/options.md

# The native kernels under the address, undefined-behaviour and thread sanitizers; needs GCC or Clang, no Python. LEVEL:
# flags of another instruction set.
LEVEL ?= $(if $(filter x86_64,$(shell uname -m)),-mavx2 -mfma)
sanitize:
	mkdir -p build
	for kind in address,undefined thread; do \
	  $(CXX) -std=c++17 -O1 -g $(LEVEL) -fno-strict-aliasing -fsanitize=$$kind -fno-sanitize-recover=all -pthread \
	    tests/sanitize/blocks.cpp swinlet/kernels/native/block.cpp -o build/sanitize && build/sanitize || exit 1; \
	done

# REFERENCE: the official network_swinir.py; BENCH: more options, such as --quick.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.bench $(if $(REFERENCE),--reference $(REFERENCE)) $(BENCH)

# Trainings killed 500 times and resumed; SOAK: other options, such as --kills 100 --seed 7.
soak: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak $(SOAK)

# Random damage to weights, images and option files: 100,000 cases, 25 times as many as in make test. SEED repeats them.
SEED ?= $(shell date +%s)
fuzz: $(STAMP)
	SWINLET_FUZZ=25 $(BIN)/python -m pytest -n 2 --hypothesis-profile soak --hypothesis-seed $(SEED) tests/test_fuzz_*.py

$(STAMP): pyproject.toml setup.py $(wildcard swinlet/kernels/native/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "swinlet needs Python 3.10 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build swinlet/kernels/*.so *.egg-info .pytest_cache .ruff_cache
