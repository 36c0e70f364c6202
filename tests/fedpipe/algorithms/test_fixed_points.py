"""Where each algorithm ends on a convex problem: where the objective that docs/algorithms.md claims has gradient zero.

Logistic regression over five clients with 5, 5, 5, 5 and 40 samples and unlike labels, so that the minima of the
weighted and of the unweighted objective are far apart. F_k is the mean loss of client k, with weight decay.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.datasets.shards import write_shards
from fedpipe.networks.network import Network, Weights
from fedpipe.networks.spec import ModelSpec
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import Samples
from tests.fedpipe.training import FEDERATED, Ended, run, train_settings

SIZES = [5, 5, 5, 5, 40]
CLASSES, DECAY = 3, 0.3
WEIGHTINGS = ("examples", "uniform")
# Layers of their own for kernel and bias, so that the bias may be personal: the problem stays convex.
SHAPES = {"shared/kernel": (4, CLASSES), "head/bias": (CLASSES,)}
NETWORK = Network(
    ModelSpec("logistic_regression", (2, 2, 1), CLASSES),
    SHAPES,
    lambda weights, images, dropout: tf.reshape(images, [-1, 4]) @ weights[0] + weights[1],
)


class Problem(NamedTuple):
    settings: Train
    samples: list[Samples]

    def losses(self, weights: Weights) -> np.ndarray:
        """F_k without the decay: [clients]."""
        return np.array([reference.losses_and_gradient(weights, samples)[0].mean() for samples in self.samples])

    def gradients(self, weights: Weights) -> np.ndarray:
        """Of each F_k: [clients, entries]."""
        exact = [np.asarray(w, np.float64) for w in weights]
        decay = self.settings.client_optimizer.weight_decay * flat(exact)
        return np.stack([flat(reference.losses_and_gradient(exact, s)[1]) + decay for s in self.samples])

    def shares(self, weighting: str) -> np.ndarray:
        """p_k, by which the objective sum_k p_k F_k weighs the clients."""
        sizes = np.array(SIZES if weighting == "examples" else [1] * len(SIZES))
        return sizes / sizes.sum()


def flat(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in parts])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("convex")
    images = (255 * rng.integers(0, 2, (sum(SIZES), 2, 2, 1))).astype(np.uint8)
    # Every client has every class, or its own bias would have no minimum.
    labels = np.concatenate(
        [
            [*range(CLASSES), *rng.choice(CLASSES, size - CLASSES, p=np.roll([0.8, 0.2, 0.0], k))]
            for k, size in enumerate(SIZES)
        ]
    )
    members = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    write_shards(folder, "convex", images, labels.astype(np.uint8), members, CLASSES)
    return folder


def end(worker: Worker, shards: Path, settings: Train, cohorts: Sequence[Sequence[int] | Cohort]) -> Ended:
    first = [np.zeros(shape, np.float32) for shape in SHAPES.values()]
    return run(worker, settings, shards, cohorts, first=first, model=NETWORK)


# --- What is zero at the end: (problem, what training ended with, weighting) -> a vector.

Zero = Callable[[Problem, Ended, str], np.ndarray]


def objective(problem: Problem, ended: Ended, weighting: str) -> np.ndarray:
    """The gradient of sum_k p_k F_k."""
    return problem.shares(weighting) @ problem.gradients(ended.weights)


def fair_objective(problem: Problem, ended: Ended, weighting: str) -> np.ndarray:
    """The gradient of sum_k F_k^(q + 1) / (q + 1), but for the decay, which has the factor F_k^q of each client."""
    factors = problem.losses(ended.weights) ** problem.settings.params_of("algorithm").q
    return factors @ problem.gradients(ended.weights)


def worst_mixture(problem: Problem, ended: Ended, weighting: str) -> np.ndarray:
    """A saddle point: the mixture is at its minimum, and no other mixture is worse."""
    mixture = next(leaf for leaf in ended.state if leaf.shape == (len(SIZES),))
    losses = problem.losses(ended.weights)
    return np.array([*mixture @ problem.gradients(ended.weights), losses.max() - mixture @ losses, mixture.sum() - 1])


def each_cluster(problem: Problem, ended: Ended, weighting: str) -> np.ndarray:
    """The gradient of each model's own objective, over the clients that it fits best."""
    clusters = problem.settings.params_of("algorithm").clusters
    stacked = [leaf for leaf in ended.state if leaf.shape[:1] == (clusters,) and leaf.ndim > 1]
    models = [[part[j] for part in stacked] for j in range(clusters)]
    chosen = np.argmin([problem.losses(model) for model in models], axis=0)
    assert len(set(chosen)) == clusters
    mine = [problem.shares(weighting) * (chosen == j) for j in range(clusters)]
    return flat([share @ problem.gradients(model) for share, model in zip(mine, models, strict=True)])


def with_personal_models(problem: Problem, ended: Ended, weighting: str) -> np.ndarray:
    """The global objective's gradient, and that of F_k(v) + lam / 2 ||v - w||^2 of each client's own v."""
    lam, w = problem.settings.params_of("algorithm").lam, ended.weights
    parts = [objective(problem, ended, weighting)]
    for client, kept in kept_by_client(ended).items():
        own = [v.reshape(part.shape) for v, part in zip(np.split(kept, [w[0].size]), w, strict=True)]
        parts.append(problem.gradients(own)[client] + lam * (kept - flat(w)))
    return flat(parts)


def with_own_heads(problem: Problem, ended: Ended, weighting: str) -> np.ndarray:
    """The gradient of sum_k p_k F_k(base, h_k) with respect to the base, and of each F_k with respect to h_k."""
    base = ended.weights[0]
    own = np.stack([problem.gradients([base, head])[k] for k, head in sorted(kept_by_client(ended).items())])
    return flat([problem.shares(weighting) @ own[:, : base.size], own[:, base.size :]])


def kept_by_client(ended: Ended) -> dict[int, np.ndarray]:
    """What each client keeps, after the flag that it has kept something."""
    own = {int(name.split(".")[0]): kept for name, kept in ended.kept.items()}
    assert sorted(own) == list(range(len(SIZES))) and all(kept[0] == 1.0 for kept in own.values())
    return {client: kept[1:] for client, kept in own.items()}


# --- What each algorithm claims.

EVERYBODY = range(len(SIZES))
ALL = [EVERYBODY] * 60
# Two of the five at a time, each of them two times in five rounds.
PAIRS = [[0, 1], [2, 3], [0, 4], [1, 2], [3, 4]] * 30


def sgd(rate: float, decay: float = DECAY) -> dict[str, Any]:
    return {"client_optimizer": {"learning_rate": rate, "weight_decay": decay}}


ONE_STEP = {"model": "logistic_regression", "batch_size": 100, "local_epochs": 1, **sgd(1.0)}
FIVE_STEPS = ONE_STEP | {"local_epochs": 5, **sgd(0.2)}
UNEQUAL_STEPS = ONE_STEP | {"batch_size": 5, **sgd(0.05)}
UNIFORM = {"client_weighting": "uniform"}
DEVICES = {"availability": {"devices": {"seconds_per_sample": 1.0}}}


class Claim(NamedTuple):
    """``zero`` is shorter than ``tolerance`` after ``rounds``; None for the events of an asynchronous training."""

    zero: Zero
    changes: dict[str, Any]
    rounds: Sequence[Sequence[int]] | None = ALL
    tolerance: float = 1e-6


# Every algorithm must be here: a new one says where it ends.
CLAIMS: dict[str, dict[str, Claim]] = {
    "fed_avg": {"one local step": Claim(objective, ONE_STEP)},
    "fed_prox": {"one local step": Claim(objective, ONE_STEP | {"fed_prox": {"mu": 0.5}})},
    "fed_sgd": {
        "": Claim(objective, ONE_STEP | sgd(1.0, 0.0) | {"server_optimizer": {"learning_rate": 2.0}}, ALL * 6, 1e-5)
    },
    # Exact as the rate goes to 0: 0.016 here, 0.0064 at rate 0.02, where FedAvg keeps 0.19.
    "fed_nova": {"a small rate": Claim(objective, UNEQUAL_STEPS, ALL * 2, 0.02)},
    "scaffold": {
        f"option {option}, {name}": Claim(objective, FIVE_STEPS | {"scaffold": {"option": option}}, cohorts)
        for option in (1, 2)
        for name, cohorts in (("all", ALL), ("pairs", PAIRS))
    },
    "fed_dyn": {
        name: Claim(objective, FIVE_STEPS | {"fed_dyn": {"alpha": 1.0}}, cohorts)
        for name, cohorts in (("all", ALL), ("pairs", PAIRS))
    },
    "mime": {"": Claim(objective, FIVE_STEPS | {"mime": {"beta": 0.5}})},
    "mime_lite": {"one local step": Claim(objective, ONE_STEP | {"mime_lite": {"beta": 0.5}}, ALL * 2)},
    "q_fed_avg": {
        "q 0, one local step": Claim(objective, ONE_STEP | UNIFORM | {"q_fed_avg": {"q": 0.0}}),
        "q 2, one local step": Claim(fair_objective, ONE_STEP | UNIFORM | {"q_fed_avg": {"q": 2.0}}, ALL * 2),
    },
    "afl": {"one local step": Claim(worst_mixture, ONE_STEP | UNIFORM | {"afl": {"rate": 0.3}}, ALL * 2)},
    "ifca": {"one local step": Claim(each_cluster, ONE_STEP | {"ifca": {"clusters": 2}, "seed": 1})},
    "ditto": {"one local step": Claim(with_personal_models, ONE_STEP | sgd(0.5) | {"ditto": {"lam": 0.5}}, ALL * 2)},
    "fed_per": {"one local step": Claim(with_own_heads, ONE_STEP | {"fed_per": {"layers": 1}})},
    "fed_bn": {},  # a batch's statistics make no sum over samples of its loss: test_papers.py alone
    "fed_rep": {
        "one local step": Claim(
            with_own_heads, ONE_STEP | sgd(2.0, 0.0) | {"fed_rep": {"layers": 1, "head_epochs": 5}}, ALL * 5, 1e-4
        )
    },
    "fed_buff": {
        "everybody in each buffer, one local step": Claim(
            objective, ONE_STEP | DEVICES | {"fed_buff": {"buffer_size": len(SIZES)}}, None
        )
    },
    # One update at a time, so that weights have no effect: test_one_update_at_a_time_counts_by_arrivals.
    "fed_async": {},
}


def test_every_algorithm_says_where_it_ends() -> None:
    assert set(CLAIMS) == set(FEDERATED)


EVERY_DAY = ("fed_prox", "fed_dyn", "scaffold")


def cases() -> Iterator[Any]:
    """Equal weights are slow where weights by samples are fast: test_papers.py compares both, a few rounds of each."""
    for algorithm, claims in CLAIMS.items():
        for case, claim in claims.items():
            if "client_weighting" in claim.changes:
                yield pytest.param(algorithm, case, "uniform", marks=pytest.mark.slow, id=f"{algorithm} {case} uniform")
                continue
            for weighting in WEIGHTINGS:
                daily = algorithm == "fed_avg" or (algorithm in EVERY_DAY and weighting == "examples")
                marks = [] if daily else [pytest.mark.slow]
                yield pytest.param(algorithm, case, weighting, marks=marks, id=f"{algorithm} {case} {weighting}")


@pytest.mark.parametrize(("algorithm", "case", "weighting"), cases())
def test_ends_where_its_objective_has_gradient_zero(
    worker: Worker, shards: Path, algorithm: str, case: str, weighting: str
) -> None:
    claim = CLAIMS[algorithm][case]
    settings = train_settings(**claim.changes | {"algorithm": algorithm, "client_weighting": weighting})
    problem = Problem(settings, [reference.samples_of(shards, k) for k in EVERYBODY])
    ended = end(worker, shards, settings, events(settings, 60) if claim.rounds is None else claim.rounds)
    assert np.linalg.norm(claim.zero(problem, ended, weighting)) < claim.tolerance
    other = next(name for name in WEIGHTINGS if name != weighting)
    far = np.linalg.norm(objective(problem, ended, other))
    assert far > 0.1, "both weightings end at the same point: nothing was tested"


def events(settings: Train, rounds: int) -> list[Cohort]:
    assert asynchrony_of(settings)
    schedule = Schedule(settings, asynchrony_of(settings), np.array(SIZES))
    return [schedule.cohort(number) for number in range(1, rounds + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("algorithm", ["fed_async", "fed_buff"])
def test_one_update_at_a_time_counts_by_arrivals(worker: Worker, shards: Path, algorithm: str, weighting: str) -> None:
    """A mean over one update has no weights: whichever are set, each client counts as often as it arrives.

    Here all arrive equally often, one at a time in a random order; the weights' mean over the last rounds is compared.
    """
    section = {"fed_async": {"concurrency": 1, "alpha": 0.1}, "fed_buff": {"concurrency": 1, "buffer_size": 1}}
    settings = train_settings(
        **ONE_STEP | DEVICES | sgd(0.1 if algorithm == "fed_buff" else 1.0),
        algorithm=algorithm,
        client_weighting=weighting,
        **{algorithm: section[algorithm]},
    )
    cohorts = events(settings, 400)
    assert all(len(cohort.clients) == 1 for cohort in cohorts)
    arrivals = np.bincount([int(cohort.clients[0]) for cohort in cohorts[100:]]) / 300
    ended = end(worker, shards, settings, cohorts)
    mean = [np.mean(parts, axis=0) for parts in zip(*ended.weights_by_round[100:], strict=True)]
    gradients = Problem(settings, [reference.samples_of(shards, k) for k in EVERYBODY]).gradients(mean)
    assert np.linalg.norm(arrivals @ gradients) < 0.03 < 0.1 < np.linalg.norm(np.array(SIZES) / sum(SIZES) @ gradients)


def test_the_control_variate_has_the_weights_of_the_clients_with_every_aggregator(worker: Worker, shards: Path) -> None:
    """The median counts all alike, and yet SCAFFOLD ends at the minimum of the weighted objective with it."""
    settings = train_settings(**FIVE_STEPS, algorithm="scaffold", aggregator="median", client_weighting="examples")
    problem = Problem(settings, [reference.samples_of(shards, k) for k in EVERYBODY])
    assert np.linalg.norm(objective(problem, end(worker, shards, settings, ALL), "examples")) < 1e-6


def test_several_local_steps_of_fed_avg_end_elsewhere(worker: Worker, shards: Path) -> None:
    """The drift that the others take out; and clients with more steps pull harder, which FedNova takes out."""
    for changes, least in ((FIVE_STEPS, 0.01), (UNEQUAL_STEPS, 0.15)):
        settings = train_settings(**changes, client_weighting="examples")
        problem = Problem(settings, [reference.samples_of(shards, k) for k in EVERYBODY])
        ended = end(worker, shards, settings, ALL * 2)
        assert np.linalg.norm(objective(problem, ended, "examples")) > least
