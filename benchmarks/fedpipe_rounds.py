"""One process of this project's training, through its real code path: worker, runtime and training loop.

python -m benchmarks.fedpipe_rounds CLIENTS ROUNDS SHARDS   (prints one JSON line)
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.workload import BATCH, LEARNING_RATE
from fedpipe import config as params
from fedpipe.datasets.shards import Manifest
from fedpipe.runtime.worker import Worker


def peak_bytes(pid: int | str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    clients, rounds, shards = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    begin = time.perf_counter()
    settings = params.Train(
        model="baseline_cnn",
        rounds=rounds,
        clients_per_round="all",
        local_epochs=1,
        batch_size=BATCH,
        client_optimizer=params.Optimizer(name="sgd", learning_rate=LEARNING_RATE, momentum=0.0),
        server_optimizer=params.Optimizer(name="sgd", learning_rate=1.0, momentum=0.0),
        client_weighting="examples",
        init="fresh",
        seed=2024,
    )
    manifest = Manifest.read(shards).model_copy(update={"clients": clients})
    seconds: list[float] = []
    first: list[float] = []

    def on_round(_: object, took: float) -> None:
        if not seconds:
            first.append(time.perf_counter() - begin - took)
        seconds.append(took)

    with Worker(Path("logs/bench/worker.log")) as worker:
        from fedpipe.runtime import loop

        loop.LOG = Path("logs/bench/rounds.log")
        loop.train(settings, manifest, shards, worker, on_round)
        peaks = {"driver_peak_bytes": peak_bytes("self"), "worker_peak_bytes": peak_bytes(worker.pid)}
    print(json.dumps({"startup": first[0], "seconds": seconds, **peaks}))


if __name__ == "__main__":
    main()
