"""``python -m operations.retrain``, or ``make retrain``: from new data to a judged model and a report.

Follows the champion that git names, takes new batches into the pool (fetched first from the folder or bucket that
FEDPIPE_INCOMING names, if it does), reports their drift, runs what changed of the pipeline, compares the model with the
champion by the rules, writes reports/, and pushes to the DVC remote if there is one. It registers and promotes nothing:
`make publish` does. Stopped anywhere, the same command resumes; with nothing new it says so and ends.

With a time limit (--minutes, FEDPIPE_MINUTES), a training that is not done by then saves a checkpoint and ends;
reports/outcome.json then has the status "unfinished", the exit code is 0, and the same command resumes.
"""

import argparse
import datetime
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

import layout
from fedpipe import params
from fedpipe.command_line import make_command
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.datasets import pool
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.datasets.raw import DATASET_FILE, RawDataset
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking.jobs import close_runs_of_dead_jobs
from fedpipe.tracking.lock import registry_lock
from operations import commands
from operations.committed import uncommitted_results
from operations.drift.new import new_batches
from operations.incoming.__main__ import take_in
from operations.promote import git_champion
from operations.retrain import conclusion, destination, initial, last_run, limit, overrides, state, summary
from operations.retrain.kept.resuming import resumes
from operations.retrain.limit import Limit
from operations.retrain.lock import exclusive_lock
from operations.retrain.outcome import OUTCOME, iso_week


class Retraining:
    """The steps. Each prints one line, and each is idempotent."""

    def __init__(self, lock: int, limit: Limit) -> None:
        self._lock, self._limit = lock, limit
        self._looked_at_batches = True
        self._to_register: str | None = None  # git's champion, where it has to be made again before anything else

    def run(self, settings: Sequence[str], start_anew: bool) -> None:
        """Retrains, if there is a reason to."""
        changed_params = overrides.apply(settings)
        if changed_params:
            _say(f"params.yaml is changed, and stays so: {', '.join(changed_params)}")
        self._follow_git(start_anew)
        train, partition = params.load(params.Train, layout.PARAMS), params.load(params.Partition, layout.PARAMS)
        require_samples_here(partition)
        status = state.status()
        if state.restore(status):
            status = state.status()
        if "download" in status or not (layout.RAW / DATASET_FILE).is_file():
            _say("the data set is fetched first, to check batches against it")
            self._command("dvc", "repro", "download")
            status = state.status()
        dataset = RawDataset.read(layout.RAW)
        for run in close_runs_of_dead_jobs(layout.registry(), dataset.name):
            _say(f"MLflow's run {run} is closed as KILLED: its job ended without a word")

        ingested = self._take_in()
        entries = Pool(layout.POOL).read_ledger()
        new = pool.of_dataset(new_batches(entries), dataset)
        held_out = params.load(params.Evaluate, layout.PARAMS).held_out_clients
        chosen = None if self._to_register else initial.choose(train, partition, dataset, entries, held_out)
        if chosen:
            _say(f"training starts from {chosen}")
        if ingested or chosen:
            status = state.status()
        weights = None if status else self._judged(dataset)
        if weights and not state.is_unfinished():
            self._end_early(dataset, weights)
            return
        if "partition" in status:
            state.require_batches(pool.present(pool.of_dataset(entries, dataset)))

        state.begin()
        if not weights:
            for former in (state.DECISION, summary.DRIFT):
                former.unlink(missing_ok=True)
        # After the promotion, the champion may be one that was trained on the new batches.
        if new and not summary.DRIFT.is_file():
            _say(f"drift of the new batches: {len(new)}")
            self._module("operations.drift")
        _say("dvc repro")
        # The machine is recorded at once: stopped later, the next retraining would not see that a stage ran here.
        if not limit.repro(self._limit, self._lock, lambda: self._module("operations.provenance", "record")):
            self._stop(dataset, new)
            return
        self._require_champion_of_git()
        # Data that is not kept from run to run was made again, to the results that are committed.
        if not weights and not new and (known := self._judged(dataset)) and not uncommitted_results():
            state.end()
            self._end_early(dataset, known)
            return
        if not state.read_decision():
            _say("compare with the champion")
            self._module("operations.promote", "--trained", "--json", str(state.DECISION))
        self._conclude(dataset, train.init, new)
        state.end()
        self._push()
        _say(f"done; {summary.SUMMARY} has the result, and `make publish` commits, registers and proposes it")

    def _follow_git(self, start_anew: bool) -> None:
        """Makes the champion that git names the champion, where git names another one than before.

        An experiment reads the state of the default branch, whatever its own branch names. By hand, an old checkout
        does not bring a former champion back.
        """
        if destination.experiment() or destination.is_of_retraining():
            return
        scheduled = bool(os.environ.get("GITHUB_ACTIONS") or os.environ.get("FEDPIPE_SCHEDULED"))
        with registry_lock(layout.store()):
            if start_anew:
                git_champion.start_anew()
            _say(git_champion.follow(insist=False, back=scheduled))
            self._to_register = git_champion.to_register()

    def _require_champion_of_git(self) -> None:
        """Checks that the pipeline made the champion that git names, where the registry lacks that."""
        if self._to_register and state.trained_weights() != self._to_register:
            raise PipelineError(
                f"the registry lacks the champion that {layout.CHAMPION_MARKER} of HEAD names "
                f"({self._to_register[:12]}…), and code or params have changed since it was trained, so that "
                f"these are other weights ({state.trained_weights()[:12]}…): restore it with `make champion FROM=...`, "
                "or start anew with `make retrain ARGS=--start-anew` (in GitHub Actions: the inputs champion_from and "
                "start_anew)"
            )

    def _take_in(self) -> bool:
        """Whether the pool has new batches; they wait while a training comes first that they would change."""
        if self._to_register:
            self._looked_at_batches = False
            _say("the champion that git names is made again first; new batches wait for the next retraining")
            return False
        if resumes():
            self._looked_at_batches = False
            _say("the stopped training resumes; new batches wait for the next retraining")
            return False
        return bool(take_in(os.environ.get("FEDPIPE_INCOMING")).accepted)

    def _judged(self, dataset: RawDataset) -> str | None:
        """The weights in words if there is nothing left to do for them, `make publish` aside."""
        if state.read_decision() is None and uncommitted_results():
            return None  # `make publish` would not know how they compare
        return state.judged(dataset)

    def _end_early(self, dataset: RawDataset, weights: str) -> None:
        outcome = conclusion.nothing_new(dataset, weights)
        outcome = outcome.model_copy(update={"looked_at_batches": self._looked_at_batches})
        outcome.write()
        notes = [f"**Warning.** {warning}" for warning in outcome.warnings]
        text = f"Nothing new and nothing changed: the weights are {weights}."
        batches = [] if layout.pipeline_files().withholds else [*summary.waiting(), *summary.rejected()]
        summary.tell_github("\n\n".join([text, *notes, *batches]) + "\n")
        self._push()  # the last one may have failed
        _say(outcome.reason)

    def _stop(self, dataset: RawDataset, new: Sequence[Entry]) -> None:
        """Ends at the time limit."""
        state.require_progress()
        outcome = conclusion.unfinished(dataset, self._limit.minutes, new)
        outcome.write()
        summary.tell_github(f"**Unfinished**: {outcome.reason}.\n")
        _say(f"unfinished: {outcome.reason}")

    def _conclude(self, dataset: RawDataset, init: str, new: Sequence[Entry]) -> None:
        decision = state.read_decision()
        if decision is None:
            raise PipelineError(f"{state.DECISION} is missing or of other weights: `make retrain` judges again")
        _say("report")
        self._report()
        outcome = conclusion.of_decision(dataset, decision, new)
        outcome = outcome.model_copy(update={"looked_at_batches": self._looked_at_batches})
        summary.write(dataset.name, init, new, decision, outcome.warnings)
        outcome.write()

    def _report(self) -> None:
        """Compares the workspace with the last commit; without that commit's results, reports the workspace only."""
        files = ("--output", str(summary.REPORT), "--markdown", str(summary.COMPARISON))
        try:
            self._module("operations.report", "HEAD", "workspace", *files)
        except PipelineError:
            _say("no results of the last commit to compare with: a report of this workspace only")
            self._module("operations.report", "workspace", *files)

    def _push(self) -> None:
        remote = state.default_remote()
        if remote is None:
            _say("no default DVC remote (`dvc remote add --default`), so nothing is pushed")
            return
        _say(f"dvc push to {remote}")
        commands.dvc("push", "--run-cache")

    def _module(self, *arguments: str) -> None:
        self._command("python", "-m", *arguments)

    def _command(self, *command: str) -> None:
        program = [sys.executable, "-m", "dvc"] if command[0] == "dvc" else [sys.executable]
        done = subprocess.run([*program, *command[1:]], check=False, pass_fds=[self._lock])
        if done.returncode:
            raise PipelineError(
                f"`{' '.join(command)}` failed (its words are above); put that right, and `make retrain` resumes"
            )


def require_samples_here(partition: params.Partition) -> None:
    """Raises PipelineError if the samples are at sites: no batch comes to them, and no model is compared on them."""
    if PARTITIONERS.of(partition.scheme).AT_SITES:
        raise PipelineError(
            f"params.yaml: 'partition.scheme' is {partition.scheme}, and a retraining takes batches into a pool that "
            "is here: run `make repro`, which trains over the sites"
        )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise PipelineError(f"SET (or FEDPIPE_SET) {text!r} cannot be read: {error}") from None


def _say(line: str) -> None:
    print(f"retrain: {line}", file=sys.stderr, flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("retrain"))
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="written into params.yaml, such as train.rounds=5"
    )
    parser.add_argument("--minutes", type=float, help="end a training after so many minutes; else FEDPIPE_MINUTES")
    parser.add_argument(
        "--start-anew",
        action="store_true",
        help="begin without a champion, though git names one (or FEDPIPE_START_ANEW=true)",
    )
    options = parser.parse_args()
    if os.environ.get("FEDPIPE_TRACKING") == "off":
        raise PipelineError("FEDPIPE_TRACKING is off, but a retraining needs the model registry in MLflow: unset it")
    # From the environment, so that a workflow need not put what somebody typed into a shell's command.
    settings = [*options.set, *_words(os.environ.get("FEDPIPE_SET", ""))]
    os.environ.setdefault("FEDPIPE_WEEK", iso_week(datetime.datetime.now(datetime.UTC).date()))  # for names of runs
    with exclusive_lock() as lock:
        OUTCOME.unlink(missing_ok=True)
        try:
            Retraining(lock, Limit.of(options.minutes)).run(settings, options.start_anew or last_run.starts_anew())
        except PipelineError as error:
            conclusion.failed(error).write()
            raise


if __name__ == "__main__":
    run_stage(_main)
