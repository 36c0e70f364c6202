"""Noise from a target: the least of three digits, whatever is released, or a sentence."""

from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.errors import PipelineError
from fedpipe.privacy.calibration import calibrated
from fedpipe.privacy.ledger import Ledger
from fedpipe.runtime.training_key import _params
from tests.fedpipe.training import train_settings

CLIENTS = 60


def wanted(aggregator: str = "dp_gaussian", epsilon: float = 3.0, own: Any = None, **changes: Any) -> Train:
    noise = {"noise_multiplier": "auto"} | (own or {})
    privacy = {"epsilon": epsilon}
    return train_settings(
        **{"aggregator": aggregator, "client_weighting": "uniform", "privacy": privacy, aggregator: noise, **changes}
    )


def everyone(round_number: int) -> np.ndarray:
    return np.arange(CLIENTS)


def multiplier(settings: Train) -> float:
    value: float = calibrated(settings, CLIENTS, everyone).params_of("aggregator").noise_multiplier
    return value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("aggregator", "changes"),
    [
        ("dp_gaussian", {"cohort": "poisson", "poisson": {"probability": 0.3}, "rounds": 20}),
        ("dp_gaussian", {"clients_per_round": 10, "rounds": 2}),
        ("dp_gaussian", {}),
        ("dp_ftrl", {"rounds": 13}),
        ("local_dp", {}),
    ],
)
def test_the_noise_is_the_least_that_keeps_the_target(
    aggregator: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedpipe.privacy.ledger._TIGHT_UP_TO", 0.0)  # a tight epsilon takes two seconds
    settings = wanted(aggregator, **changes)
    chosen = calibrated(settings, CLIENTS, everyone)
    value = chosen.params_of("aggregator").noise_multiplier
    ledger = Ledger.of(chosen, CLIENTS, everyone)
    assert ledger is not None
    summary = ledger.summary(chosen.rounds)
    assert summary["epsilon_rdp"] <= 3.0 and summary["noise_multiplier"] == value == float(f"{value:.3g}")
    less = wanted(aggregator, **changes).params_of("aggregator").model_copy(update={"noise_multiplier": value * 0.98})
    ledger = Ledger.of(chosen.model_copy(update={aggregator: less}), CLIENTS, everyone)
    assert ledger is not None and ledger.epsilon(chosen.rounds) > 3.0


def test_noise_grows_with_the_rounds_and_falls_with_the_target() -> None:
    assert multiplier(wanted(rounds=4)) < multiplier(wanted(rounds=40))
    assert multiplier(wanted(epsilon=1.0)) > multiplier(wanted(epsilon=2.0))


def test_given_noise_stays() -> None:
    settings = train_settings(aggregator="dp_gaussian", client_weighting="uniform")
    assert calibrated(settings, CLIENTS, everyone) is settings


def test_a_target_that_no_noise_keeps_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"'train.privacy.epsilon' 0.001 with a delta of 1e-05: raise one of the"):
        multiplier(wanted(epsilon=0.001))


def test_noise_that_the_count_of_clipped_clients_leaves_no_room_for_is_refused() -> None:
    own = {"clipping": "adaptive", "count_stddev": 0.5}
    with pytest.raises(PipelineError, match=r"'train.privacy.epsilon' 3.0: 'train.dp_gaussian.count_stddev' 0.5 leav"):
        multiplier(wanted(own=own))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"privacy": {}}, r"'train.dp_gaussian.noise_multiplier' auto is .* set 'train.privacy.epsilon' to it"),
        ({"dp_gaussian": {"noise_multiplier": 1.0}}, "set the noise_multiplier of dp_gaussian, dp_ftrl or local_dp to"),
        ({"stop_at": {"epsilon": 2.0}}, r"'train.stop_at.epsilon' ends training before them: remove one"),
    ],
)
def test_a_target_and_auto_come_together(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        wanted(**changes)


def test_a_target_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'train.aggregator' mean has its noise from params.yaml, or none"):
        train_settings(privacy={"epsilon": 3.0})


def test_a_checkpoint_fits_another_number_of_rounds_only_if_the_noise_stays() -> None:
    inputs = {"aggregator": "dp_gaussian", "client_weighting": "uniform"}
    assert _params(train_settings(rounds=4, **inputs)) == _params(train_settings(rounds=5, **inputs))
    assert _params(wanted(rounds=4)) != _params(wanted(rounds=5))
