"""``python -m stages.train``: federated averaging over the client shards."""

import hashlib
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

from fedpipe import config as params
from fedpipe import pinning, provenance
from fedpipe.atomic import write_text
from fedpipe.datasets.shards import Manifest, verify_shards
from fedpipe.outputs.staging import StagedOutputs
from fedpipe.outputs.writer import only_writer
from fedpipe.runtime import cohort, initial
from fedpipe.runtime.worker import Worker
from fedpipe.stage_process import run_stage
from fedpipe.tracking import facts, journal

CLIENTS = Path("data/clients")
WEIGHTS = Path("models/weights.safetensors")
ROUNDS = Path("metrics/rounds.csv")
SUMMARY = Path("metrics/training.json")
PICTURE = Path("plots/training.png")
COPIES = Path("metrics/copies/train")
PARTITION_PICTURE = Path("plots/partition.png")  # shown in MLflow if it is there; no input

# Bytes of disk that are reserved before the first round, so that the results have room after the last.
_COPIES = 3  # of the weights: here, in DVC's cache, and for MLflow
_A_ROUND = 200  # a row of metrics/rounds.csv
_SMALL = 500_000  # any other output


def main() -> None:
    """Reads params and shards' manifest, trains on a worker, writes weights, tables and the picture."""
    begin = time.perf_counter()
    settings = params.load(params.Train)
    manifest = Manifest.read(CLIENTS)
    cohort.check(settings, manifest.clients)
    start = initial.check(settings, manifest)
    pinning.require_avx2()

    with only_writer("train"), Worker() as worker:
        # TensorFlow and TFF take seconds to import; the worker starts in the meantime.
        from fedpipe.models.zoo import ModelSpec, architecture, check_image_size, save_weights
        from fedpipe.runtime.loop import train
        from fedpipe.runtime.records import RoundRecord, draw, write_table

        check_image_size(settings.model, manifest.image_shape)
        verify_shards(CLIENTS, manifest)
        title = f"{settings.model}, {manifest.dataset}, {manifest.clients} clients, {settings.rounds} rounds"
        shapes = architecture(ModelSpec(settings.model, manifest.image_shape, manifest.classes)).shapes.values()
        sizes = {
            WEIGHTS: _COPIES * 4 * sum(math.prod(shape) for shape in shapes),
            ROUNDS: settings.rounds * _A_ROUND,
            SUMMARY: _SMALL,
            PICTURE: _SMALL,
            COPIES: settings.rounds * _A_ROUND,
        }
        with StagedOutputs("train", sizes) as outputs, journal.record_training(_started(manifest, start)) as run:

            def on_round(record: RoundRecord, seconds: float) -> None:
                figures = asdict(record)
                run.log_round(figures.pop("round"), figures | {"seconds": seconds})

            print(f"train: {title}; libraries loaded after {time.perf_counter() - begin:.1f} s", file=sys.stderr)
            spec, weights, records = train(settings, manifest, CLIENTS, worker, on_round)

            with outputs.writing(WEIGHTS) as path:
                save_weights(path, spec, weights)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with outputs.writing(ROUNDS) as path:
                write_table(records, path)
            summary = {
                "loss": records[-1].loss,
                "accuracy": records[-1].accuracy,
                "rounds": len(records),
                "non_finite": sum(record.non_finite for record in records),
                "bytes_down": sum(record.bytes_down for record in records),
                "bytes_up": sum(record.bytes_up for record in records),
                "weights": sum(w.size for w in weights),
                "weights_sha256": digest,
            }
            with outputs.writing(SUMMARY) as path:
                write_text(path, json.dumps(summary, indent=2) + "\n")
            with outputs.writing(PICTURE) as path:
                draw(records, title, path)
            outputs.copy([SUMMARY, ROUNDS], COPIES)
            outputs.place()
            run.log_results(
                weights=WEIGHTS,
                tables=[path for path in (ROUNDS, SUMMARY, facts.PARTITION, CLIENTS / "labels.csv") if path.exists()],
                pictures=[path for path in (PICTURE, PARTITION_PICTURE) if path.exists()],
                facts={"total_seconds": time.perf_counter() - begin, **facts.partition_figures()},
            )


def _started(manifest: Manifest, start: str) -> dict[str, object]:
    """What MLflow is told before the first round."""
    return {
        "name": facts.run_name(params.read_yaml(params.PARAMS_FILE)),
        "dataset": {"name": manifest.dataset, "digest": manifest.digest, "source": str(CLIENTS)},
        "tags": {"fedpipe.data_sha256": manifest.digest, "fedpipe.init": start},
        "environment": provenance.collect(),
    }


if __name__ == "__main__":
    run_stage(main)
