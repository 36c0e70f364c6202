"""Trainings for tests: params as a person would write them, and a few rounds on a worker."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.shards import Manifest
from fedpipe.lazy import tf
from fedpipe.learning.work_request import WorkRequest
from fedpipe.networks.keras_model import KerasNetwork
from fedpipe.networks.network import Network, Weights, network
from fedpipe.networks.spec import ModelSpec
from fedpipe.params.composition import fitted
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from tests import RECIPE

if TYPE_CHECKING:
    from fedpipe.learning.measurements import Measurements
    from fedpipe.runtime.checkpoints import Checkpoints
    from fedpipe.runtime.chunks import Elsewhere
    from fedpipe.runtime.engine import Engine
    from fedpipe.runtime.kept_state import KeptFiles
    from fedpipe.runtime.rounds import CompletedRound
    from fedpipe.runtime.trained import Trained

MNIST = (28, 28, 1)
# Algorithms by name: those whose clients send updates; the others are the baselines (algorithms/test_baselines.py).
FEDERATED = tuple(name for name, algorithm in ALGORITHMS.all() if not algorithm.is_baseline)


def train_settings(**changes: Any) -> Train:
    """Section train of params.yaml with ``changes``; of a nested section, those of some keys."""
    content = YAML(typ="safe").load((RECIPE / "params.yaml").read_text(encoding="utf-8"))["train"]
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = content[key] | value if both else value
    return fitted(Train, content).model_validate(content)


def model_of(settings: Train, image_shape: tuple[int, int, int] = MNIST) -> Network:
    """The model for images of ten classes."""
    return network(ModelSpec.of(settings, image_shape, 10))


def dense_with_batch_norm(settings: Train) -> Network:
    """A small Keras model with batch normalization; unlike `keras_cnn`, it also runs outside of a graph."""
    layers = tf.keras.layers
    spec = ModelSpec.of(settings, MNIST, 10)
    parts = [layers.Flatten(), layers.Dense(6), layers.BatchNormalization(), layers.ReLU(), layers.Dense(10)]
    keras = KerasNetwork(spec, lambda spec: tf.keras.Sequential([layers.Input(MNIST), *parts]))
    return Network(
        spec,
        keras.shapes,
        keras.forward,
        keras.first_weights,
        keras.statistics,
        keras.batch_norm,
        keras.train_forward,
    )


def first_weights(settings: Train, image_shape: tuple[int, int, int] = MNIST) -> Weights:
    """Weights to start from."""
    return model_of(settings, image_shape).first_weights(np.random.default_rng(5))


def cohort_of(clients: Sequence[int] | Cohort) -> Cohort:
    """The cohort of these clients, who do all of their work; or the cohort itself."""
    if isinstance(clients, Cohort):
        return clients
    return Cohort(WorkRequest.of(clients))


class Ended(NamedTuple):
    """What a training ends with."""

    weights: Weights
    rounds: list[dict[str, Any]]  # the sums of what each round measured: `measured` without the kinds
    state: list[np.ndarray]  # all leaves of the server's state
    kept: dict[str, np.ndarray]  # what clients keep, flat, by the name of the file
    bytes: tuple[int, int]  # down to and up from a client in a round
    weights_by_round: list[Weights]
    measured: "list[Measurements]"


def run(
    worker: Worker,
    settings: Train,
    shards: Path,
    cohorts: Sequence[Sequence[int] | Cohort],
    *,
    algorithm: Any = None,
    aggregator: Any = None,
    first: Weights | None = None,
    model: Network | None = None,
    elsewhere: "Elsewhere | None" = None,
    kept_in: Path | None = None,
) -> Ended:
    """Runs one round per cohort.

    ``algorithm`` and ``aggregator`` stand in the place of the files that ``settings`` names; clients run ``elsewhere``
    if it is given, and keep their files in a folder in ``kept_in``.
    """
    (ended,) = runs(
        worker,
        settings,
        shards,
        [cohorts],
        algorithm=algorithm,
        aggregator=aggregator,
        first=first,
        model=model,
        elsewhere=elsewhere,
        kept_in=kept_in,
    )
    return ended


def runs(
    worker: Worker,
    settings: Train,
    shards: Path,
    trainings: Sequence[Sequence[Sequence[int] | Cohort]],
    *,
    algorithm: Any = None,
    aggregator: Any = None,
    first: Weights | None = None,
    model: Network | None = None,
    elsewhere: "Elsewhere | None" = None,
    kept_in: Path | None = None,
) -> list[Ended]:
    """Several trainings of one process, each from its first state: its graphs, which take most of the time, are one.

    Each is the cohorts of its rounds; the others are those of `run`.
    """
    from fedpipe.learning.wiring import Wiring
    from fedpipe.runtime.engine import Engine
    from fedpipe.runtime.kept_state import KeptFiles

    manifest = Manifest.read(shards)
    start = first_weights(settings, manifest.image_shape) if first is None else first
    network = model or model_of(settings, manifest.image_shape)
    with tempfile.TemporaryDirectory(dir=kept_in) as folder:
        wiring = Wiring.of(settings, shards, Path(folder), network=network, first=start)
        wiring = replace(wiring, algorithm=algorithm or wiring.algorithm, aggregator=aggregator or wiring.aggregator)
        ended: list[Ended] = []
        size, site_of = len(cohort_of(trainings[0][0]).clients), wiring.manifest.site_of
        rounded = wiring.simulated_rounding
        with Engine(wiring.process, worker, size, elsewhere, site_of=site_of, fixed_point=rounded) as engine:
            initial = engine.state() if trainings[1:] else []
            for cohorts in trainings:
                if ended:
                    engine.restore(initial)
                kept = None if wiring.kept is None else KeptFiles(wiring.kept, manifest.clients)
                if elsewhere is not None:
                    elsewhere.begin(kept.folder if kept else None, wiring.fixed_point)
                ended.append(_ended(engine, cohorts, kept, Path(folder), wiring.process.bytes[:2]))
        return ended


def _ended(
    engine: "Engine",
    cohorts: Sequence[Sequence[int] | Cohort],
    kept: "KeptFiles | None",
    folder: Path,
    message: tuple[int, int],
) -> Ended:
    from fedpipe.runtime.kept_state import is_client_file

    measured: list[Measurements] = []
    after: list[Weights] = []
    for number, cohort in enumerate(cohorts, 1):
        requested = cohort_of(cohort)
        measured.append(engine.run_round(requested.packed(kept)))
        after.append(engine.weights())
        if kept:
            kept.advance(requested.trained, number)
    files = sorted(path for path in folder.iterdir() if is_client_file(path))
    left = {path.name: kept_in_file(path) for path in files}
    rounds = [{name: each.total for name, each in sums.items()} for sums in measured]
    return Ended(engine.weights(), rounds, engine.state(), left, message, after, measured)


def measured_of_one_example() -> "Measurements":
    """What a client measures that saw an example and did not hit its label."""
    import tensorflow as tf

    from fedpipe.learning.measurements import Counted, MeanPerExample

    loss, hits, seen = tf.constant(0.0), tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    return {"loss": MeanPerExample(loss), "accuracy": MeanPerExample(hits), "seen": Counted(seen)}


def train(
    settings: Train,
    shards: Path,
    worker: Worker,
    folder: Path,
    *,
    on_round: "Callable[[CompletedRound], None] | None" = None,
    evaluate: Callable[[Weights], dict[str, float]] | None = None,
    checkpoints: "Checkpoints | None" = None,
    elsewhere: "Elsewhere | None" = None,
) -> "Trained":
    """A whole training, from `first_weights` or a checkpoint; ``on_round`` is called after each round."""
    from fedpipe.runtime.hooks import Callback
    from fedpipe.runtime.training import prepare

    shape = Manifest.read(shards).image_shape
    model, first = model_of(settings, shape), first_weights(settings, shape)
    weights = getattr(elsewhere, "all_weights", None)
    training = prepare(
        settings, shards, folder, network=model, first=first, checkpoints=checkpoints, all_weights=weights
    )
    hooks = [] if on_round is None else [Callback(on_round)]
    of_model = None if evaluate is None else lambda network, weights, settings: evaluate(weights)
    return training.run(worker, evaluate=of_model, hooks=hooks, elsewhere=elsewhere)


def kept_in_file(path: Path) -> np.ndarray:
    """What a client keeps in a file, flat."""
    import tensorflow as tf

    values: np.ndarray = tf.train.load_checkpoint(str(path)).get_tensor("kept")
    return values


def same_bits(first: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    """Whether two lists of arrays hold the same bytes."""
    return [array.tobytes() for array in first] == [array.tobytes() for array in other]
