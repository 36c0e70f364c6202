"""Combinations that make no sense are refused, with the key and the remedy."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.algorithm import ALGORITHMS, Algorithm
from fedpipe.contracts.cohort import COHORTS, ClientSampler
from fedpipe.errors import PipelineError
from fedpipe.learning.interface import Contribution
from fedpipe.privacy.sampling import sampling_of
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import first_weights, measured_of_one_example, run, train_settings

PRIVATE = ("dp_gaussian", "dp_ftrl", "local_dp", "secure_sum")


@pytest.mark.parametrize("aggregator", PRIVATE)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client_weighting": "examples"}, "set 'train.client_weighting' to uniform"),
        (
            {"algorithm": "scaffold"},
            "'train.algorithm' scaffold uses more than the updates .*: choose one of ditto, fed",
        ),
        ({"algorithm": "fed_dyn"}, "'train.algorithm' fed_dyn uses more than the updates"),
    ],
)
def test_one_message_of_equal_weight(aggregator: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_settings(**{"aggregator": aggregator, "client_weighting": "uniform", **changes})
    train_settings(aggregator=aggregator, client_weighting="uniform", algorithm="fed_prox")


def test_algorithms_are_refused_unless_they_say_that_they_fit() -> None:
    fitting = [name for name, algorithm in ALGORITHMS.all() if algorithm.ONE_MESSAGE]
    assert fitting == ["ditto", "fed_avg", "fed_bn", "fed_per", "fed_prox", "fed_rep", "fed_sgd"]


ONE_MESSAGE = ("ditto", "fed_per", "fed_rep", "fed_sgd")
# Each algorithm and each aggregator every day; all pairs where time allows.
PAIRS = [
    pytest.param(algorithm, aggregator, marks=[pytest.mark.slow] if (i - k) % len(PRIVATE) else [])
    for i, aggregator in enumerate(PRIVATE)
    for k, algorithm in enumerate(ONE_MESSAGE)
]


@pytest.mark.parametrize(("algorithm", "aggregator"), PAIRS)
def test_algorithms_with_one_message_train(worker: Worker, make_shards: Any, algorithm: str, aggregator: str) -> None:
    settings = train_settings(
        model="mcmahan_2nn", algorithm=algorithm, aggregator=aggregator, client_weighting="uniform", clients_per_round=2
    )
    ended = run(worker, settings, make_shards([5, 4, 6]), [[0, 1], [1, 2]])
    before = first_weights(settings)
    assert all(np.isfinite(part).all() for part in ended.weights)
    assert any((a != b).any() for a, b in zip(ended.weights, before, strict=True))


def test_an_algorithm_that_says_so_falsely_is_found_out(worker: Worker, make_shards: Any) -> None:
    def client_update(task: Any, server: Any, client: Any) -> Contribution:
        measured = measured_of_one_example()
        return Contribution(task.zeros(), tf.constant(1.0), measured, sums=tf.constant(3.0))

    liar = Algorithm(ONE_MESSAGE=True, client_update=client_update, server_update=lambda task, server, total: server)
    settings = train_settings(model="logistic_regression")
    with pytest.raises(PipelineError, match="says ONE_MESSAGE, and its clients send means or sums"):
        run(worker, settings, make_shards([1]), [[0]], algorithm=liar)


@pytest.mark.parametrize("aggregator", PRIVATE)
def test_a_cohort_that_does_not_say_how_it_is_drawn_is_refused(
    monkeypatch: pytest.MonkeyPatch, aggregator: str
) -> None:
    of, unknown = COHORTS.of, ClientSampler(draw=COHORTS.of("uniform").draw)
    monkeypatch.setattr(COHORTS, "of", lambda name: unknown if name == "uniform" else of(name))
    with pytest.raises(ValueError, match=r"'train.cohort' uniform does not say that it is: choose one of .*poisson"):
        train_settings(aggregator=aggregator, client_weighting="uniform")


DEVICES = {"seconds_per_sample": 0.1}
POISSON = {"cohort": "poisson", "clients_per_round": "all"}
SOME = {"cohort": "uniform", "clients_per_round": 20}
TURNS = {"cyclic": {"groups": 2, "period": 2}}
LOST = {"dropout_before": 0.2, "dropout_during": 0.3, "stragglers": {"share": 0.5}, "devices": DEVICES}


@pytest.mark.parametrize("aggregator", ["dp_gaussian", "dp_ftrl", "local_dp"])
def test_availability_that_depends_on_no_data_is_borne(aggregator: str) -> None:
    private = {"aggregator": aggregator, "client_weighting": "uniform"}
    for cohort in (POISSON, SOME, {}):
        train_settings(**private, **cohort, availability=LOST)
    train_settings(**private, **POISSON, availability=LOST | TURNS)
    train_settings(**private, availability=LOST | TURNS)
    goal = LOST | {"report_goal": 10}
    with pytest.raises(ValueError, match=r"report_goal' takes the fastest: .* remove the goal"):
        train_settings(**private, **SOME, availability=goal)


def test_turns_leave_fewer_clients_to_draw_a_number_from() -> None:
    private = {"client_weighting": "uniform", **SOME, "availability": TURNS}
    train_settings(aggregator="dp_ftrl", **private)  # counts who was there
    with pytest.raises(ValueError, match=r"so that each is drawn more often: set 'train.cohort' to poisson"):
        train_settings(aggregator="dp_gaussian", **private)


def test_too_little_noise_on_the_count_of_clipped_clients() -> None:
    own = {"clipping": "adaptive", "noise_multiplier": 1.0, "count_stddev": 0.5}
    with pytest.raises(ValueError, match=r"'train.dp_gaussian.count_stddev' 0.5 leaves no noise .* set it above 0.5"):
        train_settings(aggregator="dp_gaussian", client_weighting="uniform", dp_gaussian=own)


def test_integer_sums_cannot_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedpipe.aggregators import secure_sum

    settings = train_settings(aggregator="secure_sum", client_weighting="uniform")
    settings = settings.model_copy(update={"compressor": "top_k"})
    with pytest.raises(ValueError, match=r"'train.compressor' top_k would not make smaller: set it to no_compression"):
        secure_sum.check(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregator": "local_dp", "compressor": "top_k"}, "top_k has made smaller before and the noise makes whole"),
        *(
            (
                {"aggregator": name, "cohort": cohort},
                f"{name} needs a cohort that is drawn without .* {cohort} does not",
            )
            for name in PRIVATE
            for cohort in ("by_size", "power_of_choice")
        ),
    ],
)
def test_what_would_undo_the_protection_or_the_saving(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_settings(client_weighting="uniform", clients_per_round=5, **changes)


@pytest.mark.parametrize("aggregator", PRIVATE)
def test_clients_of_a_list_are_no_secret_and_fit(aggregator: str) -> None:
    settings = train_settings(aggregator=aggregator, client_weighting="uniform", cohort="fixed", fixed={"ids": [3, 5]})
    assert sampling_of(settings, 60) == ("all", 2, 60)
