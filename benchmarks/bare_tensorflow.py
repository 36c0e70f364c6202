"""One process of bare TensorFlow: the clients' SGD steps and nothing else, no federation. The bound of the machine is
one such process per core, each with its share of the clients.

python -m benchmarks.bare_tensorflow KIND CLIENTS FIRST [KERAS_FILE [IMAGES]]   (a subject, see benchmarks/subjects.py)

KIND is the step: a name of fedpipe/models or of benchmarks/keras_twins.py, as this project runs it; or ``textbook``,
`baseline_cnn` as one writes it down, with oneDNN's gradient of max pooling (what TensorFlow runs in its fast mode; left
to itself it does so in about half of the processes). Each client has IMAGES images, 100 if it is not said.
"""

import sys

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.subjects import run_epochs
from benchmarks.workload import BATCH, LEARNING_RATE, SAMPLES_PER_CLIENT, client_data, network_of
from fedpipe.networks import layers
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.network import scale


def main() -> None:
    kind, clients, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    keras_file, samples = (*sys.argv[4:6], *("", str(SAMPLES_PER_CLIENT))[len(sys.argv[4:6]) :])
    import numpy as np
    import tensorflow as tf

    network = network_of("baseline_cnn" if kind == "textbook" else kind, keras_file)

    def textbook(w, x, dropout):
        hidden = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w[0], 1, "VALID"), w[1]))
        return tf.matmul(tf.reshape(layers.max_pool(hidden), [-1, 5408]), w[2]) + w[3]

    forward = textbook if kind == "textbook" else network.forward

    @tf.function
    def epoch(w, x, y):
        def step(i, w):
            batch = slice(i, i + BATCH)
            dropout = Dropout(tf.stack([i, 0]))
            with tf.GradientTape() as tape:
                tape.watch(w)
                logits = forward(w, scale(x[batch]), dropout)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y[batch], tf.int32), logits)
                loss = tf.reduce_mean(losses)
            return i + BATCH, [a - LEARNING_RATE * g for a, g in zip(w, tape.gradient(loss, w), strict=True)]

        return tf.while_loop(lambda i, _: i < tf.size(y), step, (tf.constant(0), w))[1]

    data = [(tf.constant(x), tf.constant(y)) for x, y in client_data(clients, first, int(samples))]
    initial = [tf.constant(w) for w in network.first_weights(np.random.default_rng(0))]
    run_epochs(epoch, initial, data)


if __name__ == "__main__":
    main()
