# Every command of the project. `make` alone lists them, under the headings that begin with ##@.

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*## .*/\1/p' Makefile) # every command

# MLflow (the first two) and DVC send no usage data from here.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := true

# `python` and `dvc` are the environment's, also in what these commands start, and see nothing but the lock.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport GLIBC_TUNABLES $(filter-out PYTHON,$(filter PYTHON%,$(.VARIABLES)))

# A workflow sets secrets and variables that a team does not use to nothing, which is no region and no key.
unexport $(foreach each,$(filter AWS_% MLFLOW_TRACKING_%,$(.VARIABLES)),$(if $(value $(each)),,$(each))) EMPTY

# Tests read MNIST from a folder beside the checkout where there is one (set the variable, even to nothing, to choose).
neighbour := $(shell cd ../shared/data/mnist 2>/dev/null && pwd)
ifneq ($(neighbour),)
test test-slow: export FEDPIPE_MNIST_SOURCE ?= $(neighbour)
endif

##@ Run experiments

repro: env ## run the stages that changed; RECIPE=converged
	@$(if $(RECIPE),.venv/bin/python -m operations.recipe set '$(RECIPE)')
	@.venv/bin/python -m operations.check_params
	@echo "repro: running the stages whose code, params or inputs changed"
	@.venv/bin/dvc repro || { code=$$?; .venv/bin/python -m fedpipe.outputs.restore; exit $$code; }
	@.venv/bin/python -m operations.provenance verify || echo "repro: done, but the same code, params and data gave other results than the committed ones, for the reason above"
	@$(if $(RECIPE),.venv/bin/python -m operations.recipe compare '$(RECIPE)')

report: env ## write a report; RUNS="HEAD workspace" compares
	@.venv/bin/python -m operations.report $(RUNS) $(ARGS)

# Columns of `dvc exp show` that are wide and say little beside the accuracies and the params that differ.
UNSHOWN := Created|(data|fedpipe|models|stages|libraries|metrics)(/|\.lock)|.*sha256|train\.(loss|accuracy)|test\.loss|evaluate\.|.*\.(clients|personalisation)\.|(sizes|entropy|total_variation|earth_movers|untrained|permuted|bytes|best_)
experiments: env ## list DVC's experiments: accuracies, changed params
	@.venv/bin/dvc exp show --no-pager --only-changed --drop '$(UNSHOWN)' $(ARGS)

ui: env ## open the MLflow UI; ARGS="--port 5002"
	@.venv/bin/python -m operations.ui $(ARGS)

profile: env ## print the time of each phase of a round
	@.venv/bin/python -m operations.profile $(ARGS)

##@ Measure and reproduce

# ARGS="--cells 'iid*'" picks cells, ARGS=--list says what is done.
table: env ## list tables, or run the cells of TABLE=mcmahan_2nn
	@.venv/bin/python -m operations.table $(if $(TABLE),'$(TABLE)') $(if $(JOBS),--jobs '$(JOBS)') $(ARGS)

verify: env ## run one cell of a table anew: CELL=TABLE/CELL
	@.venv/bin/python -m operations.table.verify '$(CELL)'

compare: env ## train every algorithm, and draw algorithms.png
	@.venv/bin/python -m operations.grid algorithms $(ARGS)

heatmap: env ## train attacks x defences, and draw robustness.png
	@.venv/bin/python -m operations.grid robustness $(ARGS)

pictures: env ## draw the pictures of README and docs
	@.venv/bin/python -m operations.pictures $(ARGS)

tutorial: env ## run docs/tutorial.ipynb and keep its outputs
	@.venv/bin/python -m operations.tutorial

screenshots: env ## take the pictures of the report and the MLflow UI
	@.venv/bin/python -m tests.screenshots $(ARGS)

bench: env ## measure speed and memory; ARGS=rounds for one of them
	@set -e; for each in $(or $(ARGS),rounds small_clients models algorithms partition_scale tables load); do .venv/bin/python -m benchmarks.$$each; done

##@ Put a model into use

register: env ## register the evaluated model
	@.venv/bin/python -m operations.register

promote: env ## make the challenger champion; undo: ARGS=--rollback
	@.venv/bin/python -m operations.promote $(ARGS)

serve: env ## serve the champion over HTTP; ARGS="--port 5001"
	@.venv/bin/python -m operations.serve $(ARGS)

# FOLDER reaches Python through the environment, past make and the shell.
ifdef FOLDER
override FOLDER := $(value FOLDER)
export FOLDER
endif
score: env ## label the PNG files of a folder: FOLDER=...
	@.venv/bin/python -m operations.score $(ARGS) $(if $(value FOLDER),-- "$$FOLDER")

# FROM reaches Python through the environment, past make and the shell.
ifdef FROM
override FROM := $(value FROM)
export FROM
endif
champion: env ## export the champion; FROM=... imports one
	@.venv/bin/python -m operations.champion $(ARGS) $(if $(value FROM),-- "$$FROM")

export FORMAT
export: env ## write the model for other programs: FORMAT=tflite
	@.venv/bin/python -m operations.export $(ARGS) -- "$$FORMAT" $(if $(value FROM),"$$FROM")

onnx-env: ## add the converter to ONNX to .venv, for make export
	@./environment.sh install_onnx

##@ Retrain every week

# SET reaches Python through the environment, past the shell. FEDPIPE_INCOMING names where clients leave batches.
retrain: env ## add new batches, train, compare; SET="train.rounds=5"
	@FEDPIPE_SET="$$SET" .venv/bin/python -m operations.retrain $(ARGS)

publish: env ## commit, register and propose the retrained model
	@.venv/bin/python -m operations.retrain.publish $(ARGS)

weekly: env ## retrain, publish and report, for cron or other CI
	@operations/retrain/weekly.sh

# ARGS: nothing, "fetch URL", list, "release NAME", "reject NAME", "withdraw NAME" or "withdraw client ID" (docs/incoming.md).
incoming: env ## add new batches; ARGS="release NAME" decides
	@.venv/bin/python -m operations.incoming $(ARGS)

drift: env ## compare new batches with earlier data
	@.venv/bin/python -m operations.drift $(ARGS)

tell: env ## report a retraining: issue, webhook, terminal
	@.venv/bin/python -m operations.tell $(ARGS)

resolve: env ## settle the conflicts of a merge; ARGS="--params ours"
	@.venv/bin/python -m operations.resolve $(ARGS)

stale: env ## report whether dvc.lock matches code and params
	@.venv/bin/python -m operations.stale

# FOLDER reaches Python through the environment, past make and the shell.
keep-state: env ## write the state for the next retraining: FOLDER=...
	@.venv/bin/python -m operations.retrain.kept pack "$$FOLDER"

restore-state: env ## restore the kept state in this clone: FOLDER=...
	@.venv/bin/python -m operations.retrain.kept unpack "$$FOLDER"

last-run: env ## restore the last state, in GitHub Actions
	@.venv/bin/python -m operations.retrain.last_run

##@ Several machines

# ARGS are the server's options: --port, --host, --folder, --database, --login (docs/team.md).
server: env ## run an MLflow server for a team; ARGS=--login
	@.venv/bin/python -m operations.server $(ARGS)

users: env ## manage the users of a server: ARGS="add anna"
	@.venv/bin/python -m operations.server.users $(ARGS)

sync: env ## log the events that MLflow missed while it was down
	@.venv/bin/python -m operations.sync

cluster-env: ## add Dask to .venv, for training on several machines
	@./environment.sh install_cluster

certificates: env ## make the certificates of a cluster
	@.venv/bin/python -m operations.cluster certificates $(ARGS)

cluster: cluster-env ## run a Dask scheduler and workers here; N=2
	@.venv/bin/python -m operations.cluster local --workers $(or $(N),2) $(ARGS)

##@ A federation of organisations

federation-certificates: env ## make the certificates: ARGS="SITE ..."
	@.venv/bin/python -m operations.federation certificates $(ARGS)

site: env ## answer a coordinator: ADDRESS=host:port NAME=site-1
	@.venv/bin/python -m operations.federation site '$(ADDRESS)' '$(NAME)' $(ARGS)

federation: env ## print sites' data: ADDRESS=host:port SITES="a b"
	@.venv/bin/python -m operations.federation show '$(ADDRESS)' $(SITES) $(ARGS)

federation-demo: env ## run a coordinator and sites here; N=3
	@.venv/bin/python -m operations.federation demo --sites $(or $(N),3) $(ARGS)

flare-env: ## add NVIDIA FLARE to .venv, as a federation's link
	@./environment.sh install_flare

flare-kit: env ## make kits of NVIDIA FLARE safe: KIT="FOLDER ..."
	@.venv/bin/python -m operations.federation flare-kit $(KIT)

flare-start: flare-env ## run the start.sh of kits: KIT="FOLDER ..."
	@.venv/bin/python -m operations.federation flare-start $(KIT)

flare-site: env ## answer a coordinator through a kit: KIT=FOLDER
	@.venv/bin/python -m operations.federation flare-site '$(KIT)' $(ARGS)

##@ Install, test, change the code

env: ## install the packages of requirements.lock
	@./environment.sh install

# Two test files at a time; the tests of one file share what they set up.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

# ARGS goes to pytest. EXIT_CODE names a file for pytest's exit code, which make would turn into its own.
test: env ## run the fast tests; ARGS="-k lock" picks some
	@echo "test: running the fast tests$(if $(FEDPIPE_MNIST_SOURCE), with MNIST from $(FEDPIPE_MNIST_SOURCE))"
	@.venv/bin/python -m pytest $(SIDE_BY_SIDE) $(ARGS) $(if $(EXIT_CODE),; echo $$? >'$(EXIT_CODE)')

# What most changes touch: params, choices, the parts that need no worker, and the rules of the house.
QUICK := $(addprefix tests/fedpipe/,config params contracts compatibility partitioners quantities losses metrics models test_imports.py) tests/stages/test_deps.py tests/test_layout.py
test-quick: env ## run the tests that most changes need
	@.venv/bin/python -m pytest $(SIDE_BY_SIDE) $(QUICK) $(ARGS)

test-slow: env ## run the proofs that take minutes
	@echo "test-slow: running the proofs that take minutes"
	@.venv/bin/python -m pytest -m slow $(ARGS)

check: env ## check format, lint, types and workflows
	@.venv/bin/pre-commit run --all-files

audit: env ## list published advisories for the pinned packages
	@./environment.sh install_audit
	@.venv/bin/python -m operations.audit $(ARGS)

lock: ## resolve the locks; UPGRADE=1 takes newest versions
	@./environment.sh lock

clean: ## remove environments and caches; data and runs stay
	rm -rf .venv .venv-lock .venv-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis

help: ## list the commands
	@echo 'make COMMAND; most take options: make COMMAND ARGS=--help'
	@sed -nE -e 's/^##@ (.*)/\n\1/p' -e 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 27
