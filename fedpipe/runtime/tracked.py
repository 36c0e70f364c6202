"""What MLflow gets of a training: its start, each round, and after a resume the rounds of earlier processes."""

import math
from collections.abc import Mapping
from pathlib import Path

from fedpipe import provenance
from fedpipe.config.choices import used
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.runtime.checkpoint import Checkpoint
from fedpipe.runtime.hooks import Callback
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.rounds import Hook
from fedpipe.tracking import naming
from fedpipe.tracking.journal import Earlier, TrainingRecord
from fedpipe.tracking.pipeline import PipelineFiles


def started(settings: Train, manifest: Manifest, shards: Path, init: str, pipeline: PipelineFiles) -> dict[str, object]:
    """The event before the first round; ``init`` names the origin of the initial model, in a few words."""
    made_with = pipeline.recorded_params("download", "partition") | {"train": used(settings)}
    return {
        "name": naming.run_name(made_with),
        "description": naming.description(made_with, manifest.dataset, "not ended yet, or killed"),
        "params": made_with,
        "dataset": {"name": manifest.dataset, "digest": manifest.digest, "source": str(shards)},
        "tags": pipeline.tags() | {"fedpipe.init": init},
        "environment": provenance.collect(),
    }


def log_rounds(run: TrainingRecord) -> Hook:
    """A hook that hands each round to MLflow."""
    return Callback(lambda completed: run.log_round(completed.record.round, figures(*completed)))


def figures(record: RoundRecord, seconds: float, phases: Mapping[str, float] | None = None) -> dict[str, float]:
    """The metrics of a round. One without a loss has NaN, because rounds are counted by their loss.

    Where figures are withheld, so are times, for a round takes longer with more clients.
    """
    loss = math.nan if record.loss is None else record.loss
    columns = {name: value for name, value in record.row().items() if value is not None and name != "round"}
    times = {"seconds": seconds} | {f"seconds.{phase}": value for phase, value in (phases or {}).items()}
    return columns | {"train_loss": loss} | ({} if record.clients is None else times)


def earlier(resumed: Checkpoint | None) -> Earlier | None:
    """The rounds before a checkpoint."""
    if resumed is None:
        return None
    rounds = [figures(*each) for each in zip(resumed.records, resumed.seconds, strict=True)]
    return Earlier(resumed.tracking, rounds)
