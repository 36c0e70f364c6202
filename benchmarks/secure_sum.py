"""How far the sum of integers is from the mean of floats, for one round of real MNIST, by the number of bits.

100 clients of 60 images train the 2NN, with updates clipped to an L2 norm of 1. The error is the L2 norm of the
difference of the two new models, divided by that of the step of the float mean. It is no time of this machine, and the
same on every one.
"""

import argparse

import numpy as np

from benchmarks.rounds import downloaded_training_set
from fedpipe import pinning

CLIENTS, IMAGES = 100, 60
BITS = (12, 16, 20, 24, 32, 48)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    pinning.pin()
    from fedpipe.baseline import train_settings
    from fedpipe.networks.network import Weights
    from fedpipe.simulation import simulate

    images, labels = downloaded_training_set()
    clients = np.split(np.arange(CLIENTS * IMAGES), CLIENTS)

    def trained(**changes: object) -> tuple[Weights, int]:
        settings = train_settings(
            model="mcmahan_2nn", rounds=1, client_weighting="uniform", evaluate_every=0, local_epochs=5, **changes
        )
        ended = simulate(images, labels, clients, settings)
        return ended.weights, ended.rounds[-1].bytes_up // CLIENTS

    def length(vector: Weights, other: Weights) -> float:
        return float(np.sqrt(sum(np.square(a.astype(float) - b).sum() for a, b in zip(vector, other, strict=True))))

    start, _ = trained(server_optimizer={"learning_rate": 1e-30}, aggregator="clipped_mean", clipped_mean={"norm": 1.0})
    exact, size = trained(aggregator="clipped_mean", clipped_mean={"norm": 1.0})
    print(f"{'':20} {'nearest':>10} {'stochastic':>10}   bytes per update")
    print(f"{'mean of float32':20} {'':>10} {'':>10} {size:12,}")
    for bits in BITS:
        errors = []
        for rounding in ("nearest", "stochastic"):
            section = {"norm": 1.0, "bits": bits, "rounding": rounding}
            weights, size = trained(aggregator="secure_sum", secure_sum=section)
            errors.append(length(weights, exact) / length(exact, start))
        print(f"{f'{bits} bits':20} {errors[0]:10.1e} {errors[1]:10.1e} {size:12,}", flush=True)


if __name__ == "__main__":
    main()
