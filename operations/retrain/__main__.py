"""``python -m operations.retrain``, or ``make retrain``: from new data to a judged model and a report.

Takes new batches into the pool (fetched first from the folder or bucket that FEDPIPE_INCOMING names, if it does),
reports their drift, runs what changed of the pipeline, registers the model, promotes it by the rules, writes reports/,
and pushes to the DVC remote if there is one. Stopped anywhere, it goes on when it is started again; with nothing new it
says so and ends.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

import layout
from fedpipe import params
from fedpipe.datasets import pool
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import DATASET_FILE, RawDataset
from fedpipe.errors import PipelineError, run_stage
from operations import commands
from operations.drift.new import new_batches
from operations.incoming.__main__ import take_in
from operations.retrain import initial, overrides, state, summary
from operations.retrain.lock import exclusive_lock


class Retraining:
    """The steps. Each prints one line, and each is idempotent."""

    def __init__(self, promote: bool, lock: int) -> None:
        self._promote = promote
        self._lock = lock

    def run(self, settings: Sequence[str]) -> None:
        """Retrains, if there is a reason to."""
        changed_params = overrides.apply(settings)
        if changed_params:
            _say(f"params.yaml is changed, and stays so: {', '.join(changed_params)}")
        train, partition = params.load(params.Train, layout.PARAMS), params.load(params.Partition, layout.PARAMS)
        status = state.status()
        if state.restore(status):
            status = state.status()
        if "download" in status or not (layout.RAW / DATASET_FILE).is_file():
            _say("the data set is fetched first, to check batches against it")
            self._command("dvc", "repro", "download")
            status = state.status()
        dataset = RawDataset.read(layout.RAW)

        ingested = take_in(os.environ.get("FEDPIPE_INCOMING"))
        entries = Pool(layout.POOL).read_ledger()
        new = pool.of_dataset(new_batches(entries), dataset)
        chosen = initial.choose(train, partition, dataset, entries)
        if chosen:
            _say(f"training starts from {chosen}")
        if ingested.accepted or chosen:
            status = state.status()
        version = None if status else state.judged(dataset, self._promote)
        if version and not state.is_unfinished():
            self._end_early(version)
            return

        state.begin()
        if not version:
            for former in (summary.DECISION, summary.DRIFT):
                former.unlink(missing_ok=True)
        # After the promotion, the champion may be one that was trained on the new batches.
        if new and not summary.DRIFT.is_file():
            _say(f"drift of the new batches: {len(new)}")
            self._module("operations.drift")
        _say("dvc repro")
        self._repro()
        if not version or (self._promote and not summary.DECISION.is_file()):
            self._judge()
        _say("report")
        self._report()
        summary.write(dataset.name, train.init, new, self._promote)
        state.end()
        self._push()
        _say(f"done; {summary.SUMMARY} says what came of it, and `make publish` makes a pull request of it")

    def _end_early(self, version: str) -> None:
        text = f"Nothing new and nothing changed: the weights are {version}."
        summary.tell_github("\n\n".join([text, *summary.rejected()]) + "\n")
        self._push()  # the last one may have failed
        _say(f"nothing new and nothing changed: the weights are {version}")

    def _repro(self) -> None:
        """Runs the pipeline; if a stage really runs, records the machine beside the results.

        Recorded at once: stopped later, the next retraining would not see that the stage ran here.
        """
        ran = False
        command = [sys.executable, "-m", "dvc", "repro"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=[self._lock]
        ) as repro:
            for line in repro.stdout or ():
                print(line, end="", file=sys.stderr, flush=True)
                if line.startswith("Running stage") and not ran:
                    ran = True
                    self._module("operations.provenance", "record")
        if repro.returncode:
            raise PipelineError("`dvc repro` failed (its words are above); put that right, and `make retrain` goes on")

    def _judge(self) -> None:
        """Makes the weights the challenger, and the champion if the rules hold."""
        _say("register")
        self._module("operations.register")
        if self._promote:
            _say("promote, if the rules hold")
            # Others who share the registry may have registered a model since.
            ours = ("--weights", state.trained_weights())
            self._module("operations.promote", *ours, "--json", str(summary.DECISION))

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
                f"`{' '.join(command)}` failed (its words are above); put that right, and `make retrain` goes on"
            )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise PipelineError(f"SET (or FEDPIPE_SET) {text!r} cannot be read: {error}") from None


def _say(line: str) -> None:
    print(f"retrain: {line}", file=sys.stderr, flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="written into params.yaml, such as train.rounds=5"
    )
    parser.add_argument("--no-promote", action="store_true", help="register the model, and leave the champion")
    given = parser.parse_args()
    if os.environ.get("FEDPIPE_TRACKING") == "off":
        raise PipelineError("FEDPIPE_TRACKING is off, but a retraining registers its model in MLflow: unset it")
    # From the environment, so that a workflow need not put what somebody typed into a shell's command.
    settings = [*given.set, *_words(os.environ.get("FEDPIPE_SET", ""))]
    with exclusive_lock() as lock:
        Retraining(not given.no_promote, lock).run(settings)


if __name__ == "__main__":
    run_stage(_main)
