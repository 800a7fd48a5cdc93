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

# Damaged and hostile files, 30 times as many as in the tests (SWINLET_FUZZ: another factor), and others each time; FUZZ:
# other options, such as --hypothesis-seed=7, which the first lines of the output name.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --hypothesis-profile soak $(FUZZ) \
	  tests/test_fuzz_*.py tests/test_picture.py::test_damaged_camera_data_never_cost_the_picture \
	  tests/test_foreign.py::test_any_tensors_are_a_network_or_an_error

$(STAMP): pyproject.toml setup.py $(wildcard swinlet/kernels/native/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "swinlet needs Python 3.10 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build swinlet/kernels/*.so *.egg-info .pytest_cache .ruff_cache
