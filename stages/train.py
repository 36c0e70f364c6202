"""``python -m stages.train``: federated averaging over the client shards."""

import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from fedpipe import config as params
from fedpipe import pinning, provenance
from fedpipe.atomic import write_text
from fedpipe.command_line import without_arguments
from fedpipe.datasets.shards import Manifest, verify_shards
from fedpipe.errors import run_stage
from fedpipe.runtime import cohort, initial
from fedpipe.runtime.worker import Worker
from fedpipe.tracking import facts, journal

CLIENTS = Path("data/clients")
WEIGHTS = Path("models/weights.safetensors")
ROUNDS = Path("metrics/rounds.csv")
SUMMARY = Path("metrics/training.json")
PICTURE = Path("plots/training.png")
PARTITION_PICTURE = Path("plots/partition.png")  # shown in MLflow if it is there; no input


def main() -> None:
    """Reads params and shards' manifest, trains on a worker, writes weights, tables and the picture."""
    begin = time.perf_counter()
    settings = params.load(params.Train)
    manifest = Manifest.read(CLIENTS)
    cohort.check(settings, manifest.clients)
    start = initial.check(settings, manifest)
    pinning.require_avx2()

    with Worker() as worker:
        # TensorFlow and TFF take seconds to import; the worker starts in the meantime.
        from fedpipe.models.zoo import check_image_size, save_weights
        from fedpipe.runtime.loop import train
        from fedpipe.runtime.records import RoundRecord, draw, write_table

        check_image_size(settings.model, manifest.image_shape)
        verify_shards(CLIENTS, manifest)
        title = f"{settings.model}, {manifest.dataset}, {manifest.clients} clients, {settings.rounds} rounds"
        with journal.record_training(_started(settings, manifest, start)) as run:

            def on_round(record: RoundRecord, seconds: float) -> None:
                figures = asdict(record)
                run.log_round(figures.pop("round"), figures | {"seconds": seconds})

            print(f"train: {title}; libraries loaded after {time.perf_counter() - begin:.1f} s", file=sys.stderr)
            spec, weights, records = train(settings, manifest, CLIENTS, worker, on_round)

            save_weights(WEIGHTS, spec, weights)
            write_table(records, ROUNDS)
            summary = {
                "loss": records[-1].loss,
                "accuracy": records[-1].accuracy,
                "rounds": len(records),
                "non_finite": sum(record.non_finite for record in records),
                "bytes_down": sum(record.bytes_down for record in records),
                "bytes_up": sum(record.bytes_up for record in records),
                "weights": sum(w.size for w in weights),
                "weights_sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
            }
            write_text(SUMMARY, json.dumps(summary, indent=2) + "\n")
            draw(records, title, PICTURE)
            run.log_results(
                weights=WEIGHTS,
                tables=[path for path in (ROUNDS, SUMMARY, facts.PARTITION, CLIENTS / "labels.csv") if path.exists()],
                pictures=[path for path in (PICTURE, PARTITION_PICTURE) if path.exists()],
                facts={"total_seconds": time.perf_counter() - begin, **facts.partition_figures()},
            )
    params.require_unchanged(settings)


def _started(settings: params.Train, manifest: Manifest, start: str) -> dict[str, object]:
    """What MLflow is told before the first round."""
    made_with = facts.recorded_params("download", "partition") | {"train": params.used(settings)}
    return {
        "name": facts.run_name(made_with),
        "params": made_with,
        "dataset": {"name": manifest.dataset, "digest": manifest.digest, "source": str(CLIENTS)},
        "tags": {"fedpipe.data_sha256": manifest.digest, "fedpipe.init": start},
        "environment": provenance.collect(),
    }


if __name__ == "__main__":
    run_stage(without_arguments(main))
