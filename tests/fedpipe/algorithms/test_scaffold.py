"""SCAFFOLD against plain NumPy: weights, the server's control variate, and the files of the clients'."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import SIZES, TRAINING, Weights
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

Make = Callable[[list[int]], Path]
COHORTS = [[0, 1, 2], [1, 3, 4], [0, 2, 3]]  # client 4 takes part once, 0, 1, 2 and 3 twice, with and without a pause


@pytest.mark.parametrize(
    ("option", "weighting", "schedule", "momentum"),
    [
        (1, "uniform", {"name": "constant"}, 0.0),
        (2, "uniform", {"name": "constant"}, 0.0),
        (2, "examples", {"name": "constant"}, 0.0),
        (2, "uniform", {"name": "step", "factor": 0.5}, 0.0),
        (1, "uniform", {"name": "constant"}, 0.5),
        (2, "examples", {"name": "constant"}, 0.9),
    ],
)
def test_is_the_papers(
    worker: Worker, make_shards: Make, option: int, weighting: str, schedule: dict, momentum: float
) -> None:
    optimizer = {"learning_rate": 0.1, "momentum": momentum, "schedule": schedule}
    settings = train_settings(
        **TRAINING | {"client_optimizer": optimizer},
        algorithm="scaffold",
        scaffold={"option": option},
        client_weighting=weighting,
    )
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)

    weights = first_weights(settings)
    control: Weights = [np.zeros_like(w) for w in weights]
    controls = [[np.zeros_like(w) for w in weights] for _ in SIZES]
    for number, cohort in enumerate(COHORTS):
        rate = 0.1 if schedule["name"] == "constant" else 0.1 * 0.5**number
        updates, changes = [], []
        for client in cohort:
            samples, mine = reference.samples_of(shards, client), controls[client]

            def corrected(gradients: Weights, now: Weights, mine=mine, control=control) -> Weights:  # type: ignore[no-untyped-def]
                return [g + c - m for g, c, m in zip(gradients, control, mine, strict=True)]

            update, steps, _ = reference.sgd(weights, samples, settings, rate, corrected)
            updates.append(update)
            if steps and option == 1:
                controls[client] = reference.losses_and_gradient(weights, samples)[1]
            elif steps:
                # The gradient of step j counts 1 + momentum + ... + momentum^(steps - j) times.
                counts = [sum(momentum**power for power in range(steps - j + 1)) for j in range(1, steps + 1)]
                way = np.float32(sum(counts) * rate)
                controls[client] = [m - c + u / way for m, c, u in zip(mine, control, update, strict=True)]
            changes.append([new - old for new, old in zip(controls[client], mine, strict=True)])
        masses = [SIZES[k] if weighting == "examples" else float(SIZES[k] > 0) for k in cohort]
        weights = reference.moved(weights, reference.mean(updates, masses))
        summed = [sum(parts) for parts in zip(*changes, strict=True)]
        control = [c + total / np.float32(len(SIZES)) for c, total in zip(control, summed, strict=True)]

    reference.assert_close(ended.weights, weights)
    # A control variate is a quotient by steps x rate: its rounding is larger than that of weights by 1 / (0.1 x 2).
    found = [leaf for leaf in ended.state if leaf.shape in [(784, 10), (10,)]]
    for a, b in zip(found[len(weights) :][-2:], control, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)
    assert set(ended.kept) == {"0.3", "1.2", "2.3", "3.3", "4.2"}  # the last file of each client, and no other
    for name, kept in ended.kept.items():
        expected = np.concatenate([part.ravel() for part in controls[int(name.split(".")[0])]])
        np.testing.assert_allclose(kept, expected, atol=5e-6)
    assert not ended.kept["2.3"].any()


def test_the_first_round_is_that_of_fed_avg(worker: Worker, make_shards: Make) -> None:
    """All control variates are zeros then."""
    shards = make_shards(SIZES)
    scaffold = run(worker, train_settings(**TRAINING, algorithm="scaffold"), shards, [[0, 1]])
    assert same_bits(scaffold.weights, run(worker, train_settings(**TRAINING), shards, [[0, 1]]).weights)
    assert scaffold.bytes == (2 * 7_850 * 4, 2 * 7_850 * 4)


def test_other_optimizers_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"scaffold takes mean gradients from the steps of SGD, and 'train.* is adam: "
    ):
        train_settings(algorithm="scaffold", client_optimizer={"name": "adam"})


def test_clipped_steps_are_no_mean_gradients() -> None:
    clipped = {"client_optimizer": {"clip_norm": 1.0}}
    with pytest.raises(ValueError, match=r"clip_norm' makes shorter: set it to 0.0, or 'train.scaffold.option' to 1"):
        train_settings(algorithm="scaffold", **clipped)
    train_settings(algorithm="scaffold", scaffold={"option": 1}, **clipped)
