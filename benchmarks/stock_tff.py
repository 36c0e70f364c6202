"""One process of stock TFF: ``build_weighted_fed_avg`` over tf.data datasets, as TFF's tutorials do it.

python -m benchmarks.stock_tff CLIENTS   (a subject, see benchmarks/subjects.py)
"""

import os
import resource
import sys
import time
from collections import OrderedDict

from benchmarks.subjects import answer, requested_rounds
from benchmarks.workload import BATCH, LEARNING_RATE, client_data


def main() -> None:
    clients = int(sys.argv[1])
    begin = time.perf_counter()
    import tensorflow as tf
    import tensorflow_federated as tff

    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.InputLayer((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    functional = tff.learning.models.functional_model_from_keras(
        model,
        loss_fn=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        input_spec=(tf.TensorSpec((None, 28, 28, 1), tf.float32), tf.TensorSpec((None,), tf.int32)),
        metrics_constructor=OrderedDict(accuracy=tf.keras.metrics.SparseCategoricalAccuracy),
    )
    process = tff.learning.algorithms.build_weighted_fed_avg(
        functional,
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(LEARNING_RATE),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    )
    data = [
        tf.data.Dataset.from_tensor_slices((images.astype("float32") / 255.0, labels.astype("int32"))).batch(BATCH)
        for images, labels in client_data(clients)
    ]
    state = process.initialize()
    for _ in requested_rounds({"startup": time.perf_counter() - begin}):
        start = time.perf_counter()
        state = process.next(state, data).state
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer({"seconds": time.perf_counter() - start, "driver_peak_bytes": peak})
    os._exit(0)  # TFF's context waits for its worker otherwise; the caller ends the whole process group


if __name__ == "__main__":
    main()
