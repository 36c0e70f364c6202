"""One process of bare TensorFlow over the rows of a table: the clients' SGD steps and nothing else.

python -m benchmarks.bare_tables SHARDS FIRST CLIENTS MODEL BATCH RATE   (a subject, see benchmarks/subjects.py)
"""

import sys
from pathlib import Path

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.subjects import run_epochs
from fedpipe.datasets.shards import Manifest, Shards
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.network import label_tensor, network, scale
from fedpipe.networks.spec import ModelSpec


def main() -> None:
    shards, (first, clients), model = Path(sys.argv[1]), map(int, sys.argv[2:4]), sys.argv[4]
    batch_size, rate = int(sys.argv[5]), float(sys.argv[6])
    import numpy as np
    import tensorflow as tf

    kind = Manifest.read(shards).kind
    bare = network(ModelSpec(model, kind.shape, kind.classes, format=kind.format))

    @tf.function
    def epoch(w, x, y):
        def step(i, w):
            batch = slice(i, i + batch_size)
            with tf.GradientTape() as tape:
                tape.watch(w)
                outputs = bare.forward(w, scale(x[batch]), Dropout())
                loss = tf.reduce_mean(bare.losses(label_tensor(y[batch]), outputs))
            return i + batch_size, [a - rate * g for a, g in zip(w, tape.gradient(loss, w), strict=True)]

        return tf.while_loop(lambda i, _: i < tf.shape(y)[0], step, (tf.constant(0), w))[1]

    opened = Shards.open(shards)
    ends = [opened.offsets[client : client + 2] for client in range(first, first + clients)]
    data = [tuple(map(tf.constant, opened.read(*map(int, pair)))) for pair in ends]
    initial = [tf.constant(w) for w in bare.first_weights(np.random.default_rng(0))]
    run_epochs(epoch, initial, data)


if __name__ == "__main__":
    main()
