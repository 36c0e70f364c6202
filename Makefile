# Every command of the project. `make` alone lists them.

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

help: ## list the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 32

env: ## make .venv hold exactly what requirements.lock names; PYTHON=... says which Python 3.11
	@./environment.sh install

cluster-env: ## add to .venv what cluster.lock names: Dask, for training on several machines
	@./environment.sh install_cluster

flare-env: ## add to .venv what flare.lock names: NVIDIA FLARE, as the link of a federation
	@./environment.sh install_flare

lock: ## resolve pyproject.toml and overrides.txt into requirements.lock, cluster.lock and flare.lock; UPGRADE=1 takes the newest versions
	@./environment.sh lock

repro: env ## check params.yaml, then run what changed of the pipeline: download, partition, train, evaluate; RECIPE=converged sets the params of a file in recipes/
	@$(if $(RECIPE),.venv/bin/python -m operations.recipe set '$(RECIPE)')
	@.venv/bin/python -m operations.check_params
	@echo "repro: running the stages whose code, params or inputs changed"
	@.venv/bin/dvc repro || { code=$$?; .venv/bin/python -m fedpipe.outputs.restore; exit $$code; }
	@.venv/bin/python -m operations.provenance verify || echo "repro: done; the line above says why these results do not count as the committed ones"
	@$(if $(RECIPE),.venv/bin/python -m operations.recipe compare '$(RECIPE)')

# Two test files at a time; the tests of one file share what they set up.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

# ARGS goes to pytest. EXIT_CODE names a file for pytest's exit code, which make would turn into its own.
test: env ## run the tests; ARGS="-k lock" picks some
	@echo "test: running the fast tests$(if $(FEDPIPE_MNIST_SOURCE), with MNIST from $(FEDPIPE_MNIST_SOURCE))"
	@.venv/bin/python -m pytest $(SIDE_BY_SIDE) $(ARGS) $(if $(EXIT_CODE),; echo $$? >'$(EXIT_CODE)')

# What most changes touch: params, choices, the parts that need no worker, and the rules of the house.
QUICK := $(addprefix tests/fedpipe/,config params contracts compatibility partitioners quantities losses metrics models test_imports.py) tests/stages/test_deps.py tests/test_layout.py
test-quick: env ## run the tests of params, partition schemes, models, imports and deps, in less than a minute
	@.venv/bin/python -m pytest $(SIDE_BY_SIDE) $(QUICK) $(ARGS)

test-slow: env ## run the proofs that take minutes
	@echo "test-slow: running the proofs that take minutes"
	@.venv/bin/python -m pytest -m slow $(ARGS)

check: env ## check format, lint, types and workflows (the same hooks as pre-commit)
	@.venv/bin/pre-commit run --all-files

bench: env ## measure rounds, small clients, models, algorithms, a partition into 100,000 clients, and load; ARGS=rounds (models, ..., cluster) for one
	@set -e; for each in $(or $(ARGS),rounds small_clients models algorithms partition_scale load); do .venv/bin/python -m benchmarks.$$each; done

profile: env ## print where a round's time goes, for the params and shards that are there; ARGS="--rounds 10"
	@.venv/bin/python -m operations.profile $(ARGS)

# ARGS="--cells 'iid*'" picks cells, ARGS=--list says what is done.
table: env ## run the cells of a table that have no result yet, then write docs/results.md: TABLE=mcmahan_2nn JOBS=2; alone, list the tables
	@.venv/bin/python -m operations.table $(if $(TABLE),'$(TABLE)') $(if $(JOBS),--jobs '$(JOBS)') $(ARGS)

verify: env ## run one cell of a table anew and compare its weights: CELL=mcmahan_2nn/iid_0.1_seed2024
	@.venv/bin/python -m operations.table.verify '$(CELL)'

certificates: env ## make the certificates of a cluster's scheduler, workers and driver; ARGS="NAME ..." makes others
	@.venv/bin/python -m operations.cluster certificates $(ARGS)

cluster: cluster-env ## run a Dask scheduler and workers on this machine, for trying them; N=2 says how many
	@.venv/bin/python -m operations.cluster local --workers $(or $(N),2) $(ARGS)

federation-certificates: env ## make the certificates of a federation: ARGS="SITE ..." names its sites
	@.venv/bin/python -m operations.federation certificates $(ARGS)

site: env ## stay connected to a federation's coordinator, and answer within policy.yaml: ADDRESS=host:port NAME=site-1
	@.venv/bin/python -m operations.federation site '$(ADDRESS)' '$(NAME)' $(ARGS)

flare-kit: env ## make kits of NVIDIA FLARE safe to use: KIT="FOLDER ..."
	@.venv/bin/python -m operations.federation flare-kit $(KIT)

flare-start: flare-env ## run the start.sh of kits of NVIDIA FLARE: KIT="FOLDER ..."
	@.venv/bin/python -m operations.federation flare-start $(KIT)

flare-site: env ## answer, within policy.yaml, questions that come through the kit of a site: KIT=FOLDER
	@.venv/bin/python -m operations.federation flare-site '$(KIT)' $(ARGS)

federation: env ## wait for sites, and print what they have and allow: ADDRESS=host:port SITES="site-1 site-2"
	@.venv/bin/python -m operations.federation show '$(ADDRESS)' $(SITES) $(ARGS)

federation-demo: env ## run a coordinator and sites on this machine, and compare with the simulation; N=3 says how many
	@.venv/bin/python -m operations.federation demo --sites $(or $(N),3) $(ARGS)

heatmap: env ## train attack x defence x share of attackers, and draw docs/images/robustness.png; a stopped run resumes
	@.venv/bin/python -m operations.grid robustness $(ARGS)

compare: env ## train every algorithm on the same clients, and draw docs/images/algorithms.png; a stopped run resumes
	@.venv/bin/python -m operations.grid algorithms $(ARGS)

report: env ## write reports/report.html; RUNS="HEAD workspace" puts two runs side by side, ARGS="--markdown PATH" adds Markdown
	@.venv/bin/python -m operations.report $(RUNS) $(ARGS)

ui: env ## open the MLflow UI with this project's runs, on loopback; ARGS="--port 5002"
	@.venv/bin/python -m operations.ui $(ARGS)

sync: env ## log what a tracking server missed while it was down
	@.venv/bin/python -m operations.sync

# ARGS are the server's options: --port, --host, --folder, --database, --login (docs/team.md).
server: env ## run a tracking server for a team, MLflow on PostgreSQL, on loopback; ARGS=--login asks for passwords
	@.venv/bin/python -m operations.server $(ARGS)

users: env ## add or remove users of a tracking server with a login: ARGS="add anna", "grant anna runs mnist EDIT"
	@.venv/bin/python -m operations.server.users $(ARGS)

register: env ## put the evaluated model into the model registry, as challenger
	@.venv/bin/python -m operations.register

promote: env ## make the challenger champion if the rules in params.yaml hold; ARGS=--rollback goes back one, ARGS=--merged follows git
	@.venv/bin/python -m operations.promote $(ARGS)

# FROM reaches Python through the environment, past make and the shell.
ifdef FROM
override FROM := $(value FROM)
export FROM
endif
champion: env ## write the champion and its card to champion/; FROM=... brings one here: a folder, .zip, URL or GitHub run
	@.venv/bin/python -m operations.champion $(ARGS) $(if $(value FROM),-- "$$FROM")

serve: env ## serve the champion over HTTP on loopback; ARGS="--port 5001"
	@.venv/bin/python -m operations.serve $(ARGS)

# FOLDER reaches Python through the environment, past make and the shell.
ifdef FOLDER
override FOLDER := $(value FOLDER)
export FOLDER
endif
score: env ## label the PNG files of a folder with the champion: FOLDER=... ARGS="--output predictions.csv"
	@.venv/bin/python -m operations.score $(ARGS) $(if $(value FOLDER),-- "$$FOLDER")

# SET reaches Python through the environment, past the shell. FEDPIPE_INCOMING names where clients leave batches.
retrain: env ## take new batches, run what changed, judge the model, write reports/; SET="train.rounds=5", ARGS="--minutes 150"
	@FEDPIPE_SET="$$SET" .venv/bin/python -m operations.retrain $(ARGS)

publish: env ## commit what a retraining made on a branch of its own, register it, open a pull request
	@.venv/bin/python -m operations.retrain.publish $(ARGS)

weekly: env ## retrain, publish, report, and keep the state in the folder FEDPIPE_STATE: for cron, systemd or another CI
	@operations/retrain/weekly.sh

# FOLDER reaches Python through the environment, past make and the shell.
keep-state: env ## write what the next retraining needs and nothing else keeps: FOLDER=...
	@.venv/bin/python -m operations.retrain.kept pack "$$FOLDER"

restore-state: env ## bring a kept state into this clone: FOLDER=...
	@.venv/bin/python -m operations.retrain.kept unpack "$$FOLDER"

tell: env ## report the outcome of a retraining: a tracking issue, a webhook, and the terminal
	@.venv/bin/python -m operations.tell $(ARGS)

resolve: env ## settle the conflicts of a merge in params, ledger, lock and results, and recompute: ARGS="--params ours"
	@.venv/bin/python -m operations.resolve $(ARGS)

stale: env ## say whether dvc.lock is of the code and params that are here; needs no data
	@.venv/bin/python -m operations.stale

# ARGS: nothing, "fetch URL", list, "release NAME", "reject NAME", "withdraw NAME" or "withdraw client ID" (docs/incoming.md).
incoming: env ## take the batches of data/incoming/ into the pool; ARGS="release NAME" and others decide about one
	@.venv/bin/python -m operations.incoming $(ARGS)

drift: env ## compare new batches with the data before them; ARGS="--since 3" says after which version of the pool
	@.venv/bin/python -m operations.drift $(ARGS)

last-run: env ## in GitHub Actions: bring back the state that the last retraining kept
	@.venv/bin/python -m operations.retrain.last_run

clean: ## remove the environments and the tools' caches; data, models and runs stay
	rm -rf .venv .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis
