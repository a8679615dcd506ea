# make setup | demo | test | test-configs | check
# TORCH=2.8.0 selects another torch, MMCV=compiled builds mmcv's own operators
TORCH ?= 2.14.1
MMCV ?= lite
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := mask_rcnn_lite0_mini-lvis

.PHONY: setup demo test test-configs check clean

setup:  ## the environment: minutes the first time, a second when it is there
	@tools/setup.sh $(VENV) $(TORCH) $(MMCV)

demo: setup  ## frozen beside fine-tuned on the embedded data, one table
	$(BIN)/python tools/prepare_mini_lvis.py --out data/mini_lvis
	$(BIN)/python tools/export_lite0_weights.py --out data/weights
	$(BIN)/python tools/train_pair.py configs/frozen/$(DEMO).py

test: setup check  ## everything that CI runs
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

test-configs: setup  ## a training step of every config: minutes, 6 GB
	$(BIN)/python -m pytest tests/configs -m "configs or not configs"

check: setup  ## lint, format, types: seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) work_dirs data/mini_lvis data/weights
