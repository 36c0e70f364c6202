"""One process of bare TensorFlow: the clients' SGD steps and nothing else, no federation. The bound of the machine is
one such process a core, each with its share of the clients.

python -m benchmarks.bare_tensorflow {textbook,fedpipe} CLIENTS FIRST ROUNDS   (prints one JSON line)

``textbook`` is the model as one writes it down, with oneDNN's gradient of max pooling (what TensorFlow runs in its fast
mode; left to itself it does so in about half of the processes). ``fedpipe`` is this project's step.
"""

import json
import sys
import time

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.workload import BATCH, LEARNING_RATE, client_data


def main() -> None:
    kind, clients, first, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    import numpy as np
    import tensorflow as tf
    from fedpipe.models.zoo import ModelSpec, architecture, initial_weights, scale

    from fedpipe.models import layers

    @tf.custom_gradient
    def fast_max_pool(z):
        pooled, workspace = layers._max_pool(z)
        return pooled, lambda upstream: layers._max_pool_gradient(z, pooled, upstream, workspace)

    def textbook(w, x):
        hidden = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w[0], 1, "VALID"), w[1]))
        return tf.matmul(tf.reshape(fast_max_pool(hidden), [-1, 5408]), w[2]) + w[3]

    spec = ModelSpec("baseline_cnn", (28, 28, 1), 10)
    forward = textbook if kind == "textbook" else architecture(spec).forward

    @tf.function
    def epoch(w, x, y):
        def step(i, w):
            batch = slice(i, i + BATCH)
            with tf.GradientTape() as tape:
                tape.watch(w)
                logits = forward(w, scale(x[batch]))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y[batch], tf.int32), logits)
                loss = tf.reduce_mean(losses)
            return i + BATCH, [a - LEARNING_RATE * g for a, g in zip(w, tape.gradient(loss, w), strict=True)]

        return tf.while_loop(lambda i, _: i < tf.size(y), step, (tf.constant(0), w))[1]

    data = [(tf.constant(x), tf.constant(y)) for x, y in client_data(clients, first)]
    initial = [tf.constant(w) for w in initial_weights(spec, np.random.default_rng(0))]
    for x, y in data[:5]:
        epoch(initial, x, y)
    print("ready", flush=True)
    input()  # the caller starts all processes at once
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for x, y in data:
            weights = epoch(initial, x, y)
        weights[0].numpy()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
