# make setup | demo | demo-seeds | reproduce | test | test-configs | check
# TORCH=2.8.0 selects another torch, MMCV=compiled builds mmcv's own operators
TORCH ?= 2.14.1
MMCV ?= lite
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := mask_rcnn_lite0_mini-lvis
# of the config's 350 steps
LENGTH ?= 0.25
SEEDS ?= 1 2 3
CLAIMS ?= 1 2 3 4 5 6 7
# hours
BUDGET ?= inf
PAIR := $(BIN)/python tools/train_pair.py configs/frozen/$(DEMO).py \
  --equal-time --engine

.PHONY: setup demo demo-data demo-seeds reproduce test test-configs check clean

setup:  ## the environment: minutes the first time, a second if it exists
	@tools/setup.sh $(VENV) $(TORCH) $(MMCV)

demo: demo-data  ## frozen beside fine-tuned on the embedded data: cost, AP, a page
	$(PAIR) --length $(LENGTH)

demo-data: setup
	$(BIN)/python tools/prepare_mini_lvis.py --out data/mini_lvis
	$(BIN)/python tools/export_lite0_weights.py --out data/weights

# the whole schedule, once a seed: an hour; ends with tables for the README
demo-seeds: demo-data
	for seed in $(SEEDS); do $(PAIR) --work-dirs work_dirs/seed_$$seed \
	  --cfg-options randomness.seed=$$seed || exit 1; done
	$(BIN)/python tools/compare_runs.py --markdown \
	  $(SEEDS:%=work_dirs/seed_%/frozen/$(DEMO)) \
	  $(SEEDS:%=work_dirs/seed_%/finetuned/$(DEMO))
	$(BIN)/python tools/compare_runs.py --markdown \
	  $(SEEDS:%=work_dirs/seed_%/pairs/$(DEMO)-finetuned/equal_time) \
	  $(SEEDS:%=work_dirs/seed_%/finetuned/$(DEMO))

# docs/results.md; 10 hours of one core in all, a killed one continues:
# make reproduce CLAIMS="1 4" BUDGET=2
reproduce: demo-data  ## the paper's claims on the embedded data
	$(BIN)/python tools/reproduce.py --claim $(CLAIMS) --budget $(BUDGET)
	$(BIN)/python tools/reproduce.py --report

test: setup check  ## everything that CI runs
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

test-configs: setup  ## a training step of every config: minutes, 6 GB
	$(BIN)/python -m pytest tests/configs -m "configs or not configs"

check: setup  ## lint, format, types: seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) work_dirs data/mini_lvis data/weights
