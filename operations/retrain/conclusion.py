"""The outcome of `make retrain`, read from what its steps left: reports/outcome.json."""

import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path

import layout
from fedpipe.datasets.pool import Entry
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from operations.incoming.folders import HELD, REJECTED, reasons
from operations.promote.decision import Decision
from operations.retrain import state
from operations.retrain.destination import experiment
from operations.retrain.last_run import ARTIFACT, DAYS
from operations.retrain.outcome import OUTCOME, Outcome, Status

DRIFT_FIGURES = Path("reports/drift.json")


def of_decision(dataset: RawDataset, decision: Decision, new: Sequence[Entry]) -> Outcome:
    """The outcome of a retraining whose model was compared with the champion."""
    is_champion = state.is_champion(dataset)
    status: Status = "proposed" if decision.proposes else "promoted" if is_champion else "kept"
    prefix = "an experiment, which is not promoted: " if experiment() else ""
    return _outcome(dataset, status, f"{prefix}{decision.reason}", new).model_copy(
        update={
            "version": decision.subject,
            "weights_sha256": state.trained_weights(),
            "accuracy": state.test_accuracy(),
            "was_champion": is_champion,
            "champion_accuracy": decision.champion.accuracy if decision.champion else None,
        }
    )


def nothing_new(dataset: RawDataset, weights: str) -> Outcome:
    """The outcome where nothing was to be trained, and the weights were judged before."""
    outcome = _outcome(dataset, "nothing_new", f"nothing new and nothing changed: the weights are {weights}", [])
    return outcome.model_copy(
        update={"weights_sha256": state.trained_weights(), "accuracy": state.test_accuracy(), "drifted": []}
    )


def unfinished(dataset: RawDataset, minutes: float | None, new: Sequence[Entry]) -> Outcome:
    """The outcome where the time limit came before the training's end."""
    rest = "the next run resumes"
    if experiment() and os.environ.get("GITHUB_ACTIONS"):
        rest = (
            "an experiment keeps no checkpoint, so start it anew with a higher limit (FEDPIPE_MINUTES, and the "
            "workflow's timeout-minutes) or fewer rounds"
        )
    reason = f"the limit of {minutes:g} minutes came before the end; {rest}"
    return _outcome(dataset, "unfinished", reason, new)


def failed(error: PipelineError) -> Outcome:
    """The outcome of a retraining that stopped with an error; with its results until then, if any."""
    if OUTCOME.is_file():
        return Outcome.read().model_copy(update={"status": "failed", "reason": str(error)})
    try:
        dataset = RawDataset.read(layout.RAW).name
    except PipelineError:
        dataset = ""
    withholds = layout.pipeline_files().withholds
    held, rejected = ({}, {}) if withholds else (reasons(HELD), reasons(REJECTED))
    return Outcome(dataset=dataset, status="failed", reason=str(error), held=held, rejected=rejected)


def _outcome(dataset: RawDataset, status: Status, reason: str, new: Sequence[Entry]) -> Outcome:
    if layout.pipeline_files().withholds:  # nothing of batches, as in the summary
        return Outcome(dataset=dataset.name, status=status, reason=reason, warnings=warnings())
    return Outcome(
        dataset=dataset.name,
        status=status,
        reason=reason,
        held=reasons(HELD),
        rejected=reasons(REJECTED),
        drifted=_drifted() if new else [],
        new_batches=[entry.batch for entry in new],
        warnings=warnings(),
    )


def warnings() -> list[str]:
    """The weekly notice to a team on the places of its data."""
    if state.default_remote() is not None:
        return []
    if os.environ.get("GITHUB_ACTIONS"):
        last = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=DAYS)
        return [
            f"There is no DVC remote: batches, data and models are in the artifact {ARTIFACT} only, which GitHub "
            f"deletes on {last} unless a later run renews it. Add a remote with `dvc remote add --default` "
            "(docs/retraining.md)."
        ]
    return [
        "There is no DVC remote: batches, data and models are on this machine only. Add one with `dvc remote add "
        "--default` (docs/team.md)."
    ]


def _drifted() -> list[str]:
    """A sentence for each batch that stands out."""
    if not DRIFT_FIGURES.is_file():
        return []
    batches = json.loads(DRIFT_FIGURES.read_text(encoding="utf-8"))["batches"]
    return [f"{batch['name']}: {'; '.join(batch['findings'])}" for batch in batches if batch["findings"]]
