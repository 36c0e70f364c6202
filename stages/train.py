"""``python -m stages.train``: trains the global model over the clients' shards."""

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import layout
from fedpipe import params, pinning, provenance
from fedpipe.atomic import write_text
from fedpipe.cluster import settings as clusters
from fedpipe.cluster.opening import opened
from fedpipe.command_line import without_arguments
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_held_out, read_shard, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.global_model import GlobalSamples
from fedpipe.evaluation.identity import require_same_data_set
from fedpipe.networks.network import network
from fedpipe.networks.personal_weights import save_none
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from fedpipe.outputs.staging import StagedOutputs
from fedpipe.outputs.writer import only_writer
from fedpipe.runtime import cohort, initial
from fedpipe.runtime.training_key import training_key
from fedpipe.runtime.worker import Worker
from fedpipe.stage_process import run_stage
from fedpipe.system.signals import stoppable
from fedpipe.tracking import journal, run_events
from fedpipe.tracking.pipeline import PipelineFiles
from layout import (
    BEST,
    CLIENT_TESTS,
    CLIENTS,
    PARTITION,
    PARTITION_PICTURE,
    PERSONAL,
    RAW,
    ROUNDS,
    TRAINING,
    TRAINING_PICTURE,
    VALIDATION,
    WEIGHTS,
)

if TYPE_CHECKING:
    from fedpipe.runtime.checkpoints import Checkpoint
    from fedpipe.runtime.records import RoundRecord
    from fedpipe.runtime.training import Trained

COPIES = layout.COPIES / "train"
LOGS = layout.stage_logs("train")

# Bytes of disk that are reserved before the first round, so that the results have room after the last.
_COPIES = 3  # of the weights: here, in DVC's cache, and for MLflow
_A_ROUND = 200  # a row of metrics/rounds.csv
_SMALL = 500_000  # any other output


def main() -> None:
    """Reads params and shards' manifest, trains on a worker, writes weights, tables and the picture."""
    begin = time.perf_counter()
    params.check(layout.PARAMS)
    settings = params.load(params.Train, layout.PARAMS)
    manifest = Manifest.read(CLIENTS)
    cohort.check(settings, manifest.clients)
    model = network(ModelSpec.of(settings, manifest.image_shape, manifest.classes))
    start = initial.check(settings, manifest, model.spec, weights=layout.INITIAL, pointer=layout.INITIAL_POINTER)
    samples = _samples(settings, manifest)
    first = initial.first_weights(model, settings, layout.INITIAL)
    key = training_key(settings, manifest, first, samples)
    pinning.require_avx2()
    cluster = clusters.chosen(layout.CLUSTER)
    pipeline = layout.pipeline_files()

    with only_writer("train", layout.stage_lock("train")), stoppable(), Worker(LOGS / "worker.log") as worker:
        # TensorFlow and TFF take seconds to import; the worker starts in the meantime.
        from fedpipe.runtime.checkpoints import Checkpoints
        from fedpipe.runtime.personal import model_count
        from fedpipe.runtime.records import RoundRecord, draw, write_table
        from fedpipe.runtime.training import train

        verify_shards(CLIENTS, manifest)
        title = f"{settings.model}, {manifest.dataset}, {manifest.clients} clients, {settings.rounds} rounds"
        sizes = {
            WEIGHTS: _COPIES * 4 * model.parameters,
            BEST: 2 * 4 * model.parameters,
            PERSONAL: 2 * 4 * model.parameters * model_count(settings, manifest.clients) + 4 * manifest.clients,
            ROUNDS: settings.rounds * _A_ROUND,
            TRAINING: _SMALL,
            TRAINING_PICTURE: _SMALL,
            COPIES: settings.rounds * _A_ROUND,
        }
        with (
            StagedOutputs("train", sizes) as outputs,
            opened(cluster, settings, manifest.digest) as elsewhere,
            Checkpoints(LOGS, key, settings) as checkpoints,
            journal.record_training(
                _started(settings, manifest, start, pipeline), layout.outbox(), _earlier(checkpoints.found)
            ) as run,
        ):
            checkpoints.tracking = run.identity

            def on_round(record: RoundRecord, seconds: float, phases: Mapping[str, float]) -> None:
                by_phase = {f"seconds.{phase}": took for phase, took in phases.items()}
                run.log_round(record.round, _figures(record, seconds) | by_phase)

            print(f"train: {title}; libraries loaded after {time.perf_counter() - begin:.1f} s", file=sys.stderr)
            trained = train(
                model,
                settings,
                manifest,
                first,
                CLIENTS,
                worker,
                on_round,
                evaluate=None if samples is None else partial(samples.measure, model, settings=settings),
                folder=LOGS,
                checkpoints=checkpoints,
                elsewhere=elsewhere,
            )
            records = trained.records

            with outputs.writing(WEIGHTS) as path:
                save_weights(path, model, trained.weights)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with outputs.writing(BEST) as path:
                save_weights(path, model, trained.best)
            personal_digest = {}
            with outputs.writing(PERSONAL) as path:
                if trained.personal is None:
                    save_none(path, model)
                else:
                    trained.personal.write(path)
                    with path.open("rb") as file:
                        personal_digest["personal_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            with outputs.writing(ROUNDS) as path:
                write_table(records, path)
            summary = {
                "train": {
                    "loss": _last(record.loss for record in records),
                    "accuracy": _last(record.accuracy for record in records),
                },
                "rounds": len(records),
                "non_finite": sum(record.non_finite for record in records),
                "bytes_down": sum(record.bytes_down for record in records),
                "bytes_up": sum(record.bytes_up for record in records),
                **_simulated(records),
                "weights": model.parameters,
                **_selected(settings, trained),
                **trained.privacy,
                **({"noise": settings.privacy.noise} if AGGREGATORS.of(settings.aggregator).is_private else {}),
                **_attacked(settings),
                **_clustered(trained, settings),
                "weights_sha256": digest,
                **personal_digest,
            }
            with outputs.writing(TRAINING) as path:
                write_text(path, json.dumps(summary, indent=2) + "\n")
            with outputs.writing(TRAINING_PICTURE) as path:
                draw(records, title, path)
            outputs.copy([TRAINING, ROUNDS], COPIES)
            outputs.place()
            run.log_results(
                weights=WEIGHTS,
                tables=[path for path in (ROUNDS, TRAINING, PARTITION, CLIENTS / "labels.csv") if path.exists()],
                pictures=[path for path in (TRAINING_PICTURE, PARTITION_PICTURE) if path.exists()],
                figures={
                    "total_seconds": time.perf_counter() - begin + checkpoints.seconds_before,
                    **pipeline.partition_figures(),
                },
            )
    params.require_unchanged(settings, layout.PARAMS)


def _figures(record: "RoundRecord", seconds: float) -> dict[str, float]:
    """What MLflow is told of a round. It has a loss in any case, NaN where there is none: rounds are counted by it."""
    loss = math.nan if record.loss is None else record.loss
    figures = {name: value for name, value in record.row().items() if value is not None and name != "round"}
    return figures | {"train_loss": loss, "seconds": seconds}


def _earlier(resumed: "Checkpoint | None") -> journal.Earlier | None:
    """What MLflow is told of the rounds before a checkpoint."""
    if resumed is None:
        return None
    rounds = [_figures(*each) for each in zip(resumed.records, resumed.seconds, strict=True)]
    return journal.Earlier(resumed.tracking, rounds)


def _samples(settings: params.Train, manifest: Manifest) -> GlobalSamples | None:
    """What rounds are measured on; None if none is."""
    if not settings.evaluate_every:
        return None
    dataset = RawDataset.read(RAW)
    require_same_data_set(dataset, manifest, RAW, CLIENTS)
    validation, tests = read_held_out(VALIDATION, manifest), read_held_out(CLIENT_TESTS, manifest)
    verify_shards(VALIDATION, validation)
    verify_shards(CLIENT_TESTS, tests)
    parts = {"validation": read_shard(VALIDATION, 0)} if validation.clients else {}
    parts["test"] = dataset.read_test(RAW)
    if settings.selecting and settings.selection not in parts:
        raise PipelineError(
            f"'train.{settings.selecting[0]}' needs validation samples, and {VALIDATION} holds none: run the partition "
            "stage first (dvc repro)"
        )
    return GlobalSamples(parts, CLIENT_TESTS if tests.clients else None, tests.clients)


def _selected(settings: params.Train, trained: "Trained") -> dict[str, Any]:
    """The best round, and on what it was selected; nothing if no round was measured on that."""
    records = trained.records
    measured = [(record.accuracy_on(settings.selection), -record.round, record) for record in records]
    known = [each for each in measured if each[0] is not None]
    if not known:
        return {}
    best = max(known)[2]
    figures: dict[str, Any] = {"selected_on": settings.selection, "best_round": best.round}
    for samples in ("validation", "test"):
        if (accuracy := best.accuracy_on(samples)) is not None:
            figures[f"best_{samples}_accuracy"] = accuracy
    if settings.stop_at.accuracy is not None:
        figures["rounds_to_target"] = trained.reached
    return figures


def _simulated(records: "list[RoundRecord]") -> dict[str, float]:
    """The simulated hours of all rounds, and how old updates were in asynchronous training; nothing without these."""
    hours = [record.others["simulated_hours"] or 0.0 for record in records if "simulated_hours" in record.others]
    stale = [record for record in records if "staleness_max" in record.others]
    figures = {"simulated_hours": math.fsum(hours)} if hours else {}
    if stale:
        mean = math.fsum(record.clients * (record.others["staleness_mean"] or 0.0) for record in stale)
        figures["staleness_mean"] = mean / max(sum(record.clients for record in stale), 1)
        figures["staleness_max"] = max(record.others["staleness_max"] or 0.0 for record in stale)
    return figures


def _last(figures: Iterable[float | None]) -> float | None:
    """The last figure that there is; a round without clients has none."""
    return next((figure for figure in reversed(list(figures)) if figure is not None), None)


def _attacked(settings: params.Train) -> dict[str, Any]:
    """The attack and its params, for evaluation; nothing without an attack."""
    if settings.attack == "no_attack":
        return {}
    return {"attackers": settings.attackers, "attack": {settings.attack: settings.params_of("attack").model_dump()}}


def _clustered(trained: "Trained", settings: params.Train) -> dict[str, Any]:
    """How many clients each cluster has after the last round; nothing if clients share no models."""
    clusters = None if trained.personal is None else trained.personal.clusters
    if clusters is None:
        return {}
    sizes = np.bincount(clusters, minlength=settings.params_of("algorithm").clusters)
    return {"cluster_clients": {str(number): int(size) for number, size in enumerate(sizes)}}


def _started(settings: params.Train, manifest: Manifest, start: str, pipeline: PipelineFiles) -> dict[str, object]:
    """What MLflow is told before the first round."""
    made_with = pipeline.recorded_params("download", "partition") | {"train": params.used(settings)}
    return {
        "name": run_events.run_name(made_with),
        "params": made_with,
        "dataset": {"name": manifest.dataset, "digest": manifest.digest, "source": str(CLIENTS)},
        "tags": pipeline.tags() | {"fedpipe.init": start},
        "environment": provenance.collect(),
    }


if __name__ == "__main__":
    run_stage(without_arguments(main), layout.FAILURE)
