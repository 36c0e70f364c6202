"""Synchronous and asynchronous training on real MNIST, over simulated hours and over bytes, to a test accuracy.

100 clients of unlike labels (Dirichlet 0.3), devices whose speeds are lognormal. In each training, as many clients are
training at a time. The last ones have slow connections, with and without compression. The figures are not times of this
machine, and are the same on every one.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks.rounds import downloaded_training_set
from fedpipe import pinning

CLIENTS, AT_WORK = 100, 20
BASE: dict[str, Any] = {
    "model": "mcmahan_2nn",
    "batch_size": 10,
    "client_optimizer": {"learning_rate": 0.05},
    "client_weighting": "uniform",
    "availability": {"devices": {"seconds_per_sample": 0.1, "spread": 1.0, "latency": 5.0}},
}
SLOW_LINES = {"seconds_per_sample": 0.1, "spread": 1.0, "latency": 5.0, "bandwidth": {"down": 1.0, "up": 0.1}}
TRAININGS: dict[str, dict[str, Any]] = {
    "FedAvg, 20 of 100 clients": {"clients_per_round": AT_WORK, "rounds": 100},
    "FedAvg, the first 15 of 20": {
        "clients_per_round": AT_WORK,
        "rounds": 100,
        "availability": BASE["availability"] | {"report_goal": 15},
    },
    "FedBuff, 20 at work, buffer of 5": {
        "algorithm": "fed_buff",
        "fed_buff": {"concurrency": AT_WORK, "buffer_size": 5},
        "rounds": 400,
    },
    "FedAsync, 20 at work": {
        "algorithm": "fed_async",
        "fed_async": {"concurrency": AT_WORK},
        "rounds": 2000,
        "evaluate_every": 10,
    },
    **{
        f"FedAvg, slow lines, {compressor}": {
            "clients_per_round": AT_WORK,
            "rounds": 100,
            "availability": {"devices": SLOW_LINES},
            "compressor": compressor,
        }
        for compressor in ("no_compression", "quantisation", "top_k")
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accuracy", type=float, default=0.93, help="test accuracy at which a training ends")
    arguments = parser.parse_args()
    pinning.pin()
    from fedpipe.baseline import train_settings
    from fedpipe.datasets.raw import RawDataset
    from fedpipe.partitioners import dirichlet
    from fedpipe.seeds import Purpose, generator
    from fedpipe.simulation import simulate
    from layout import RAW

    images, labels = downloaded_training_set()
    test = RawDataset.read(RAW).read_test(RAW)
    params = dirichlet.Params(alpha=0.3, min_size=10, self_balancing=False)
    owner = dirichlet.assign(labels, np.zeros(CLIENTS, np.int64), params, generator(2024, Purpose.PARTITION))
    clients = [np.flatnonzero(owner == client) for client in range(CLIENTS)]
    target = {"selection": "test", "stop_at": {"accuracy": arguments.accuracy}}
    print(f"{'to test accuracy ' + str(arguments.accuracy):38} {'rounds':>7} {'updates':>8} {'hours':>7} {'GB':>6}")
    for name, changes in TRAININGS.items():
        rounds = simulate(images, labels, clients, train_settings(**BASE | target | changes), test=test).rounds
        reached = (rounds[-1].test_accuracy or 0.0) >= arguments.accuracy
        updates = sum(each.clients for each in rounds)
        hours = sum(each.others["simulated_hours"] or 0.0 for each in rounds)
        sent = sum(each.bytes_down + each.bytes_up for each in rounds) / 1e9
        end = "" if reached else f"   not reached: {rounds[-1].test_accuracy:.4f}"
        print(f"{name:38} {len(rounds):7} {updates:8} {hours:7.2f} {sent:6.2f}{end}", flush=True)


if __name__ == "__main__":
    main()
