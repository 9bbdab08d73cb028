# make demo    train, evaluate and recommend on MovieLens-100K
# make test    the tests, as continuous integration runs them
# make help    everything else
#
# The first call makes .venv and installs what is needed; later calls start at once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps
CXX    ?= g++
QUICK  := not slow and not interpreter
# As many processes as cores, each with one thread of its own for torch; a file is run by one process. Expanded at each
# use: BIN differs by target.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

NATIVE_SOURCES := $(wildcard csrc/*.cpp csrc/*.h) setup.py pyproject.toml

.PHONY: help demo test test-slow test-kernels test-triton test-libraries test-wheel sanitize lint format bench wheel clean check-machine

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(STAMPS)/demo ## train, evaluate and recommend on MovieLens-100K
	@$(BIN)/python -m spotfast demo

test: $(STAMPS)/dev ## the tests (but for kernels) and the doctests; spotfast/ must be covered to 90 %
	$(PYTEST) --doctest-modules --ignore=tests/kernels -m "$(QUICK)" --cov --cov-report=term --cov-fail-under=90

test-slow: $(STAMPS)/dev ## the tests that take minutes or need real data
	$(BIN)/python -m pytest -q -m slow

TRITON ?= 3.3.0

test-kernels: $(STAMPS)/dev ## the Triton kernels: in the interpreter, there also as on a GPU, and compiled for every target
test-triton $(VENV)-triton-$(TRITON)/ready: BIN := $(VENV)-triton-$(TRITON)/bin
test-triton: $(VENV)-triton-$(TRITON)/ready ## the same with the oldest Triton that is allowed, or with another: TRITON=3.6.0

test-kernels test-triton:
	SPOTFAST_GPU_REHEARSAL=1 TRITON_INTERPRET=1 $(PYTEST) --dist load tests/kernels tests/gpu
	$(PYTEST) -m "$(QUICK)" tests/kernels tests/test_jit.py

# RecBole and LensKit ask for older versions of what is installed, and for much that their metrics do not need.
LIBRARIES := implicit==0.7.3 colorama colorlog deepmerge humanize lazy-loader more-itertools pandas prettytable psutil \
    py-cpuinfo pyarrow pydantic pydantic-settings pyyaml pyzmq requests rich scikit-learn structlog tabulate \
    tensorboard texttable threadpoolctl xopen

test-libraries: $(VENV)-libraries/ready ## the dialects of evaluation, against implicit, RecBole and LensKit themselves
	SPOTFAST_REQUIRE_EXT=1 SPOTFAST_REQUIRE_LIBRARIES=1 OMP_NUM_THREADS=1 $(VENV)-libraries/bin/python -m pytest -q \
	    -m "slow or not slow" tests/test_dialects.py

test-wheel: wheel ## the tests (but for exhaustive ones), from the built wheel, outside the source tree
	rm -rf $(VENV)-wheel build/wheel
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install -q --no-deps dist/*.whl
	mkdir -p build/wheel
	cd build/wheel && PYTHONPATH=$$($(CURDIR)/$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	    OMP_NUM_THREADS=1 $(CURDIR)/$(VENV)-wheel/bin/python -m pytest -q -n auto --dist loadfile -p no:cacheprovider \
	    --ignore=$(CURDIR)/tests/kernels --ignore=$(CURDIR)/tests/test_gpu_check.py -m "$(QUICK) and not exhaustive" $(CURDIR)/tests

# Threads do the same in both builds.
SANITIZED := sanitized-memory sanitized-memory-avx2 sanitized-thread-avx2
CPP_TESTS  := $(wildcard tests/cpp/*.cpp)
CPP_FLAGS  := -std=c++17 -O1 -g1 -Wall -Wextra -Werror -ffp-contract=off -pthread -Icsrc
CPP_ENGINE := $(filter-out csrc/bindings.cpp,$(wildcard csrc/*.cpp))

sanitize: check-machine ## the C++ tests under the address and undefined behaviour sanitizers, both builds, and the thread sanitizer
	@mkdir -p build/cpp
	@$(MAKE) --no-print-directory -j2 $(SANITIZED)

# A compilation takes a minute, and uses one core.
.PHONY: $(SANITIZED)
$(SANITIZED): sanitized-%:
	@echo "C++ tests: $*"
	@$(CXX) $(CPP_FLAGS) $(if $(findstring avx2,$*),-mavx2 -mfma) -fno-sanitize-recover=all \
	    -fsanitize=$(if $(findstring thread,$*),thread,address -fsanitize=undefined) \
	    $(CPP_TESTS) $(CPP_ENGINE) -o build/cpp/$* && build/cpp/$*

lint: $(STAMPS)/dev ## formatting, linting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror csrc/*.cpp csrc/*.h tests/cpp/*.cpp
	$(BIN)/mypy

format: $(STAMPS)/dev ## format everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*.cpp csrc/*.h tests/cpp/*.cpp

.PHONY: lint-workflows reproducible
lint-workflows: build/workflows/bin/zizmor ## the workflows of the public host, against their schema and for security
	build/workflows/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	build/workflows/bin/zizmor --offline --persona=pedantic .github

build/workflows/bin/zizmor:
	$(PYTHON) -m venv build/workflows
	build/workflows/bin/python -m pip install -q zizmor==1.32.0 check-jsonschema==0.39.0

reproducible: $(STAMPS)/dev ## wheel and source distribution, built twice: every byte must be the same
	$(BIN)/python scripts/check_reproducible.py --no-isolation

bench: $(STAMPS)/dev ## the benchmarks (some minutes, on an idle machine)
	@for benchmark in benchmarks/bench_*.py; do $(BIN)/python $$benchmark || exit 1; done

wheel: $(STAMPS)/dev ## wheel and source distribution in dist/; SPOTFAST_CUDA_TARGETS="80;90": with CUDA kernels in the wheel
	rm -rf dist
	SPOTFAST_REQUIRE_EXT=1 $(BIN)/python -m build --dependency-constraints-txt constraints.txt --outdir dist

clean: ## everything that was made here
	rm -rf $(VENV) $(VENV)-libraries $(VENV)-triton-* $(VENV)-wheel build dist *.egg-info spotfast/*.so .coverage demo_losses.png

# What each installation step needs is remembered by a stamp, so that a second call does nothing.

$(STAMPS)/venv: constraints.txt
	@$(MAKE) --no-print-directory check-machine
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt setuptools pybind11 numpy scipy numba tqdm safetensors platformdirs filelock narwhals
	@touch $@

$(STAMPS)/package: $(STAMPS)/venv $(NATIVE_SOURCES)
	env -u SPOTFAST_CUDA_TARGETS SPOTFAST_REQUIRE_EXT=1 $(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e .
	@touch $@

$(STAMPS)/demo: $(STAMPS)/package
	$(BIN)/python -m pip install -q -c constraints.txt matplotlib
	@touch $@

$(STAMPS)/dev: $(STAMPS)/demo
	$(BIN)/python -m pip install -q -c constraints.txt triton pytest pytest-cov pytest-xdist hypothesis pandas polars pyarrow \
	    ruff mypy clang-format build scipy-stubs
	@touch $@

$(VENV)-libraries/ready: constraints.txt Makefile $(NATIVE_SOURCES)
	@$(MAKE) --no-print-directory check-machine
	$(PYTHON) -m venv $(VENV)-libraries
	$(VENV)-libraries/bin/python -m pip install -q -c constraints.txt torch
	$(VENV)-libraries/bin/python -m pip install -q -c constraints.txt setuptools pybind11 numpy scipy numba tqdm safetensors \
	    platformdirs filelock narwhals pytest hypothesis $(LIBRARIES)
	$(VENV)-libraries/bin/python -m pip install -q --no-deps recbole==1.2.1 lenskit==2025.8.1
	SPOTFAST_REQUIRE_EXT=1 $(VENV)-libraries/bin/python -m pip install -q -c constraints.txt --no-build-isolation -e .
	@touch $@

# Until 3.7, Triton's interpreter makes a number of an array of one element, which numpy refuses from 2.4 on.
$(VENV)-triton-$(TRITON)/ready: constraints.txt Makefile $(NATIVE_SOURCES)
	@$(MAKE) --no-print-directory check-machine
	$(PYTHON) -m venv $(VENV)-triton-$(TRITON)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	grep -v -e ^numpy= -e ^triton= constraints.txt >$(VENV)-triton-$(TRITON)/constraints.txt
	$(BIN)/python -m pip install -q -c $(VENV)-triton-$(TRITON)/constraints.txt setuptools pybind11 numpy==2.3.5 scipy numba tqdm \
	    safetensors platformdirs filelock narwhals pytest pytest-xdist hypothesis
	$(BIN)/python -m pip install -q --no-deps triton==$(TRITON)
	SPOTFAST_REQUIRE_EXT=1 $(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

check-machine:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is missing: sudo apt-get install python3 (or set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || { echo "Python's headers are missing: sudo apt-get install python3-dev"; exit 1; }
	@command -v $(CXX) >/dev/null || { echo "a C++ compiler is missing: sudo apt-get install g++ (or set CXX=...)"; exit 1; }
