"""Each client by itself with the same probability, from the seed and the round alone."""

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.runtime.cohort import cohort
from tests.fedpipe.training import train_settings

CLIENTS, ROUNDS, Q = 50, 2000, 0.04


def poisson(**changes: object) -> Train:
    return train_settings(cohort="poisson", poisson={"probability": Q}, **changes)


def draws(settings: Train) -> np.ndarray:
    """bool [rounds, clients]."""
    actual = np.zeros((ROUNDS, CLIENTS), bool)
    for number in range(1, ROUNDS + 1):
        clients = cohort(settings, np.full(CLIENTS, 7), number).clients
        assert clients.dtype == np.int32 and (np.diff(clients) > 0).all()
        actual[number - 1, clients] = True
    return actual


def test_clients_are_drawn_independently_with_the_given_probability() -> None:
    actual = draws(poisson())
    deviation = np.sqrt(Q * (1 - Q) / ROUNDS)
    assert np.abs(actual.mean(axis=0) - Q).max() < 4 * deviation
    sizes = actual.sum(axis=1)
    assert sizes.mean() == pytest.approx(CLIENTS * Q, abs=4 * np.sqrt(CLIENTS * Q / ROUNDS))
    assert sizes.var() == pytest.approx(CLIENTS * Q * (1 - Q), rel=0.15)  # a fixed size would have none
    assert (sizes == 0).mean() == pytest.approx((1 - Q) ** CLIENTS, abs=0.03)  # 13 % are empty
    together = actual.astype(float).T @ actual / ROUNDS
    assert np.abs(together[~np.eye(CLIENTS, dtype=bool)] - Q**2).max() < 6 * np.sqrt(Q**2 / ROUNDS)


def test_seed_and_round_decide() -> None:
    assert (draws(poisson()) == draws(poisson())).all()
    assert (draws(poisson()) != draws(poisson(seed=7))).any()


def test_who_is_available_changes_nobody_else() -> None:
    from fedpipe.cohorts import poisson as file

    settings = poisson()
    for number in range(1, 50):
        everyone = file.draw(settings, np.arange(CLIENTS), np.full(CLIENTS, 7), number)
        some = file.draw(settings, np.arange(0, CLIENTS, 2), np.full(CLIENTS, 7), number)
        assert some.tolist() == [client for client in everyone if client % 2 == 0]


def test_a_number_of_clients_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'train.clients_per_round' to all"):
        poisson(clients_per_round=5)
