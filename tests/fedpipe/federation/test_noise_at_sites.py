"""Secret noise that sites add to a secure sum: its size, its epsilon, and what is told beside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from fedpipe.compatibility import round_size
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_secret_noise
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.federation.policy import Policy
from fedpipe.params import validate
from fedpipe.runtime.training import prepare
from fedpipe.runtime.worker import Worker
from fedpipe.secure_aggregation.noise import room
from fedpipe.secure_aggregation.setting import MOST_VARIANCE
from fedpipe.secure_aggregation.skellam_privacy import SkellamSum, sensitivity
from tests import RECIPE
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.sites import CLIENTS, Sites, small
from tests.fedpipe.training import first_weights, run, train_settings

NOISE, NORM = 0.5, 2.0


@pytest.fixture(scope="module")
def sites(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("federation"), *small(training_set))
    made.start()
    yield made
    made.stop()


def settings_of(noise: float = NOISE, **changes: Any) -> Train:
    own = {"norm": NORM, "noise_multiplier": noise} | changes.pop("secure_sum", {})
    chosen = {"aggregator": "secure_sum", "client_weighting": "uniform", "secure_sum": own}
    return train_settings(**TRAINING | chosen | changes)


def test_a_training_has_the_noise_of_its_params_and_tells_nothing_besides(
    worker: Worker, sites: Sites, tmp_path: Path
) -> None:
    """Beside the simulation without noise. The same first model again is refused, in any training."""
    chosen = settings_of(rounds=1)
    first = first_weights(chosen, (8, 8, 1))
    with sites.training(chosen) as federation:
        trained = prepare(chosen, sites.coordinator, tmp_path / "noisy", first=first).run(
            worker, elsewhere=federation, progress=False
        )
    assert federation.secure is not None and federation.secure._known().count == 0
    exact = run(worker, settings_of(0.0), sites.pooled, [range(12)], first=first).weights
    noise = np.concatenate([np.ravel(a - b) for a, b in zip(trained.weights, exact, strict=True)])
    assert noise.std() == pytest.approx(NOISE * NORM / sum(CLIENTS), rel=0.12)
    assert abs(noise.mean()) < 4 * noise.std() / len(noise) ** 0.5
    record, summary = trained.records[0], trained.summary()
    assert record.loss is record.accuracy is record.examples is record.clients is record.bytes_up is None
    scale = AGGREGATORS.of("secure_sum").integers_per_unit(chosen, 12)
    summed = SkellamSum((NOISE * NORM * scale) ** 2, sensitivity(NORM, scale, len(noise), max(CLIENTS)), len(noise))
    assert record.others["epsilon"] == pytest.approx(summed.epsilon(1, chosen.privacy.delta), rel=1e-6)
    assert summary["epsilon_rdp"] == record.others["epsilon"] and summary["noise"] == "secret"
    assert summary["neighbours"] == "leave out all updates of one site" and trained.end is None
    with (
        sites.training(chosen) as federation,
        pytest.raises(WorkersLostError, match="another sum would average its noise away"),
    ):
        prepare(chosen, sites.coordinator, tmp_path / "again", first=first).run(
            worker, elsewhere=federation, progress=False
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"client_weighting": "examples"}, "sums of clients' weights would leave without noise: set 'train.client_wei"),
        ({"secure_sum": {"rounding": "stochastic"}}, "'train.secure_sum.rounding' is stochastic"),
        (
            {"clients_per_round": 4, "availability": {"report_goal": 3, "devices": {"seconds_per_sample": 1.0}}},
            "'train.availability.report_goal' takes the fastest",
        ),
    ],
)
def test_what_would_leave_without_noise_is_refused(changes: dict[str, Any], sentence: str) -> None:
    assert has_secret_noise(settings_of()) and not has_secret_noise(settings_of(0.0))
    with pytest.raises(ValueError, match=sentence):
        settings_of(**changes)


def test_noise_without_sites_is_refused(sites: Sites, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="noise_multiplier' is for sites of a federation, which add this noise"):
        prepare(settings_of(), sites.pooled, tmp_path)
    content = YAML(typ="safe").load((RECIPE / "params.yaml").read_text(encoding="utf-8"))
    content["train"] |= {"aggregator": "secure_sum", "client_weighting": "uniform"}
    content["train"]["secure_sum"] |= {"noise_multiplier": NOISE}
    file = tmp_path / "params.yaml"
    YAML().dump(content, file)
    with pytest.raises(PipelineError, match=r"and sites of a federation add this noise: set 'partition\.scheme' to at"):
        validate(file)


def test_the_policy_of_a_site_has_a_least_noise() -> None:
    policy = Policy.model_validate({"least_clients": 1, "least_samples": 1, "least_noise": 0.6})
    (reason,) = policy.refused_settings(settings_of(), 3, 0)
    assert reason.startswith("its policy wants noise of sites (secure_sum or local_dp) with a noise_multiplier of at ")
    assert reason.endswith("0.6, and this training has 0.5")
    assert not policy.refused_settings(settings_of(0.6), 3, 0)
    assert policy.refused_settings(train_settings(**TRAINING), 3, 0)  # plain sums


@pytest.mark.parametrize(("bits", "clients", "noise"), [(32, 12, 0.5), (62, 600, 20.0), (24, 100, 4.0), (32, 3, 1e-3)])
def test_the_sum_of_all_clients_and_the_noise_of_all_sites_do_not_wrap(bits: int, clients: int, noise: float) -> None:
    """With as many sites as clients, of which two share the least noise; and one site's noise can be drawn."""
    chosen = settings_of(noise, secure_sum={"bits": bits})
    round_size.check_clients(chosen, clients)
    aggregator = AGGREGATORS.of("secure_sum")
    variance = aggregator.noise_variance(chosen, clients)
    most = clients * (aggregator.integers_per_unit(chosen, clients) * NORM + 1) + room(variance * clients // 2, 2**28)
    assert most < 2 ** (bits - 1) and variance // 2 < MOST_VARIANCE


def test_too_few_bits_for_noise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'train\.secure_sum\.bits' 8 has no room for noise"):
        round_size.check_clients(settings_of(secure_sum={"bits": 8}), 12)
