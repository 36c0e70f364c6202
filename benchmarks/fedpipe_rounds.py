"""One process of this project's training, through its real code path: worker, engine and training loop.

python -m benchmarks.fedpipe_rounds CLIENTS ROUNDS SHARDS [MODEL [KERAS_FILE [CHANGES]]]   (prints one JSON line)

MODEL is what `benchmarks.workload.network_of` takes, CHANGES are keys of section train as JSON. CPU seconds are those
of driver and worker together.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.workload import BATCH, LEARNING_RATE, network_of
from fedpipe.baseline import train_settings
from fedpipe.datasets.shards import Manifest
from fedpipe.runtime.worker import Worker
from fedpipe.seeds import Purpose, generator


def peak_bytes(pid: int | str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Of this process, of process ``pid`` and of what that has started."""
    worker = psutil.Process(pid)
    times = [process.cpu_times() for process in (worker, *worker.children(recursive=True))]
    return time.process_time() + sum(each.user + each.system for each in times)


def main() -> None:
    clients, rounds, shards = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    model, keras_file, changes = (*sys.argv[4:7], *("baseline_cnn", "", "{}")[len(sys.argv[4:7]) :])
    begin = time.perf_counter()
    recipe = {
        "rounds": rounds,
        "clients_per_round": clients,
        "batch_size": BATCH,
        "client_optimizer": {"learning_rate": LEARNING_RATE},
    }
    settings = train_settings(**recipe | {"evaluate_every": 0} | json.loads(changes))
    manifest = Manifest.read(shards)
    seconds: list[float] = []
    cpu: list[float] = []
    first: list[float] = []
    folder = Path("logs/bench")

    with Worker(folder / "worker.log") as worker:
        from fedpipe.runtime.training import train

        network = network_of(model, keras_file)

        def on_round(_: object, took: float, phases: object) -> None:
            if not seconds:
                first.append(time.perf_counter() - begin - took)
            seconds.append(took)
            cpu.append(cpu_seconds(worker.pid))

        weights = network.first_weights(generator(settings.seed, Purpose.INITIAL_WEIGHTS))
        train(network, settings, manifest, weights, shards, worker, on_round, folder=folder)
        peaks = {"driver_peak_bytes": peak_bytes("self"), "worker_peak_bytes": peak_bytes(worker.pid)}
    rises = [after - before for before, after in pairwise(cpu)]
    # The first round compiles; its CPU seconds are not told apart from the start.
    print(json.dumps({"startup": first[0], "seconds": seconds, "cpu_seconds": [cpu[0], *rises], **peaks}))


if __name__ == "__main__":
    main()
