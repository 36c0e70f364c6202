"""One process of this project's training, through its real code path: worker, engine and training loop.

python -m benchmarks.fedpipe_rounds CLIENTS SHARDS [MODEL [KERAS_FILE [CHANGES [CLUSTER]]]]   (see subjects.py)

It is ready after its first round. MODEL is what `benchmarks.workload.network_of` takes, or ``of_settings`` for the
model of CHANGES and the samples of SHARDS. CHANGES are keys of section train as JSON, CLUSTER is a `ClusterSettings` as
JSON: where clients run, if not here. CPU seconds are those of driver and worker together.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.subjects import answer
from benchmarks.workload import BATCH, LEARNING_RATE, network_of
from fedpipe.baseline import train_settings
from fedpipe.cluster.settings import ClusterSettings
from fedpipe.datasets.shards import Manifest
from fedpipe.runtime.worker import Worker

ROUNDS = 100_000  # more than anybody asks for


def peak_bytes(pid: int | str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Of this process, of process ``pid`` and of what that has started."""
    worker = psutil.Process(pid)
    times = [process.cpu_times() for process in (worker, *worker.children(recursive=True))]
    return time.process_time() + sum(each.user + each.system for each in times)


def main() -> None:
    clients, shards = int(sys.argv[1]), Path(sys.argv[2])
    model, keras_file, changes, place = (*sys.argv[3:7], *("baseline_cnn", "", "{}", "")[len(sys.argv[3:7]) :])
    begin = time.perf_counter()
    recipe = {
        "rounds": ROUNDS,
        "clients_per_round": clients,
        "batch_size": BATCH,
        "client_optimizer": {"learning_rate": LEARNING_RATE},
    }
    settings = train_settings(**recipe | {"evaluate_every": 0} | json.loads(changes))
    manifest = Manifest.read(shards)

    cluster = ClusterSettings.model_validate_json(place) if place else None
    with tempfile.TemporaryDirectory() as folder, Worker(Path(folder, "worker.log")) as worker:
        from fedpipe.cluster.cluster import opened
        from fedpipe.runtime.hooks import Callback
        from fedpipe.runtime.rounds import CompletedRound
        from fedpipe.runtime.training import prepare

        before = 0.0

        def tell(completed: CompletedRound) -> None:
            nonlocal before
            now, took = cpu_seconds(worker.pid), completed.seconds
            memory = {"driver_peak_bytes": peak_bytes("self"), "worker_peak_bytes": peak_bytes(worker.pid)}
            of_round = {"seconds": took, "cpu_seconds": now - before, **memory}
            answer(of_round if before else {"startup": time.perf_counter() - begin - took})
            before = now
            if not sys.stdin.readline():
                sys.exit()

        network = None if model == "of_settings" else network_of(model, keras_file)
        training = prepare(settings, shards, Path(folder), network=network)
        with opened(cluster, settings, manifest.digest) as elsewhere:
            training.run(worker, hooks=[Callback(tell)], elsewhere=elsewhere)


if __name__ == "__main__":
    main()
