"""Feature and concept skew: what is done to images and labels, for whom, and that the table says it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from fedpipe.config.partition import Features
from fedpipe.partitioning import concept_skew, feature_skew
from fedpipe.partitioning.client_skew import Skew
from fedpipe.partitioning.feature_skew import Look, apply, looks, noisy, rotated, with_contrast
from fedpipe.seeds import Purpose
from tests.fedpipe.partitioning.settings import partition

OFF = {"values": "drawn", "rotation": 0.0, "contrast": 0.0, "background": 0.0, "noise": 0.0}
shapes = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))


def images_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def features(**values: object) -> Features:
    return Features.model_validate(OFF | values)


@given(
    shapes,
    st.builds(
        Look,
        rotation=st.floats(-180, 180),
        contrast=st.floats(0, 2),
        background=st.integers(0, 255),
        noise=st.floats(0, 1),
    ),
)
def test_any_look_on_any_images(shape: tuple[int, ...], look: Look) -> None:
    images = images_of(shape)
    before = images.copy()
    changed = apply(look, images, np.random.default_rng(1))
    assert changed.shape == shape and changed.dtype == np.uint8
    np.testing.assert_array_equal(changed, apply(look, images, np.random.default_rng(1)))
    np.testing.assert_array_equal(images, before)
    if not look.noise:
        assert (changed >= look.background).all()


@given(shapes)
def test_the_default_look_changes_nothing(shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(apply(Look(), images_of(shape), np.random.default_rng(0)), images_of(shape))


def test_rotation_is_counter_clockwise_about_the_centre() -> None:
    square, oblong = images_of((5, 8, 8, 3)), images_of((5, 6, 9, 1))
    np.testing.assert_array_equal(rotated(square, 90), np.rot90(square, axes=(1, 2)))
    np.testing.assert_array_equal(rotated(oblong, 180), oblong[:, ::-1, ::-1])


def test_rotation_is_rounded_and_each_image_is_turned_alone() -> None:
    images = images_of((3, 12, 12, 2))
    exact = ndimage.rotate(images[1, :, :, 0].astype(np.float64), 33, reshape=False, order=1)
    assert np.abs(rotated(images, 33)[1, :, :, 0] - exact).max() <= 0.5 + 1e-9


def test_contrast() -> None:
    images = np.array([[100, 110], [120, 130]], np.uint8).reshape(1, 2, 2, 1)  # mean 115
    assert with_contrast(images, 2.0).ravel().tolist() == [85, 105, 125, 145]
    assert with_contrast(images, 0.0).ravel().tolist() == [115] * 4
    assert with_contrast(images, 0.5).ravel().tolist() == [108, 113, 118, 123]  # halves are rounded up
    assert with_contrast(np.array([0, 250], np.uint8).reshape(1, 1, 2, 1), 2.0).ravel().tolist() == [0, 255]


def test_noise_has_the_stated_deviation() -> None:
    gray = np.full((50, 20, 20, 1), 128, np.uint8)
    difference = noisy(gray, 0.1, np.random.default_rng(0)).astype(int) - 128
    assert abs(difference.mean()) < 0.5 and difference.std() == pytest.approx(25.5, rel=0.02)


def test_values_grow_with_the_client_as_in_niid_bench() -> None:
    by_client = looks(features(values="by_client", noise=0.5, rotation=30.0, contrast=0.5, background=1.0), 5, seed=1)
    assert [look.noise for look in by_client] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert [look.rotation for look in by_client] == [-30, -15, 0, 15, 30]
    assert [look.contrast for look in by_client] == [0.5, 0.75, 1.0, 1.25, 1.5]
    assert [look.background for look in by_client] == [0, 64, 128, 191, 255]
    assert looks(features(values="by_client", noise=0.5), 1, seed=1) == [Look()]


@given(
    clients=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    rotation=st.floats(0, 180),
    contrast=st.floats(0, 1),
    background=st.floats(0, 1),
    noise=st.floats(0, 1),
)
def test_drawn_values_stay_in_their_range(clients: int, seed: int, **ranges: float) -> None:
    drawn = looks(features(**ranges), clients, seed)
    assert drawn == looks(features(**ranges), clients, seed)
    for look in drawn:
        assert abs(look.rotation) <= ranges["rotation"] + 1e-4 and abs(look.contrast - 1) <= ranges["contrast"] + 1e-4
        assert 0 <= look.background <= 255 * ranges["background"] + 0.5 and 0 <= look.noise <= ranges["noise"] + 1e-4
    # A client keeps its values when others join, and when another kind of skew is switched on.
    assert looks(features(**ranges), clients + 3, seed)[:clients] == drawn
    alone = looks(features(noise=ranges["noise"]), clients, seed)
    assert [look.noise for look in alone] == [look.noise for look in drawn]


def test_clients_and_seeds_differ() -> None:
    wanted = features(rotation=45.0, contrast=0.5, background=0.5, noise=0.3)
    assert len(set(looks(wanted, 100, seed=1))) == 100
    assert looks(wanted, 100, seed=1) != looks(wanted, 100, seed=2)


@given(share=st.floats(0, 1), clients=st.integers(1, 60), classes=st.integers(2, 256), seed=st.integers(0, 2**32 - 1))
def test_concept_skew(share: float, clients: int, classes: int, seed: int) -> None:
    actual = concept_skew.permutations(share, clients, classes, seed)
    assert len(actual) == (0 if share == 0 else max(1, int(share * clients + 0.5)))
    for permutation in actual.values():
        assert sorted(permutation) == list(range(classes)) and permutation.dtype == np.uint8
        assert (permutation != np.arange(classes)).any()
    more = concept_skew.permutations(1.0, clients, classes, seed)
    assert all((more[client] == permutation).all() for client, permutation in actual.items())


def test_clients_that_join_change_few_permutations() -> None:
    """The share is of all, so a newcomer may take a place; nobody else's place or permutation changes."""
    before, after = (concept_skew.permutations(0.3, clients, 10, seed=1) for clients in (100, 101))
    assert len(before) == len(after) == 30 and len(before.keys() - after.keys()) <= 1
    assert all((after[client] == before[client]).all() for client in before.keys() & after.keys())


def test_permutations_are_the_clients_own() -> None:
    actual = concept_skew.permutations(1.0, 20, 10, seed=1)
    assert len({tuple(permutation) for permutation in actual.values()}) == 20


def test_the_transform_does_what_the_table_says() -> None:
    params = partition(
        clients=6, features=features(rotation=40.0, contrast=0.5, background=0.3), concept={"share": 0.5}
    )
    skew = Skew.sample(params, classes=10)
    images, labels = images_of((10, 8, 8, 1)), np.arange(10, dtype=np.uint8)
    transform = skew.transform(Purpose.TRAIN_NOISE)
    assert transform is not None
    table = skew.table(6)
    assert table["client"].tolist() == list(range(6)) and (table["permutation"] != "").sum() == 3
    for row in table.itertuples():
        look = Look(row.rotation, row.contrast, row.background, row.noise)
        changed = transform(row.client, images, labels)
        np.testing.assert_array_equal(changed[0], apply(look, images, np.random.default_rng(0)))
        assert changed[1].tolist() == [int(label) for label in row.permutation.split() or range(10)]


def test_training_and_test_noise_differ() -> None:
    skew = Skew.sample(partition(features=features(noise=0.5)), classes=10)
    images, labels = images_of((4, 8, 8, 1)), np.zeros(4, np.uint8)
    train, again, test = (
        skew.transform(purpose)(3, images, labels)[0]  # type: ignore[misc]
        for purpose in (Purpose.TRAIN_NOISE, Purpose.TRAIN_NOISE, Purpose.TEST_NOISE)
    )
    assert (train == again).all() and (train != test).any()


def test_no_skew_is_no_transform() -> None:
    skew = Skew.sample(partition(), classes=10)
    assert not skew and skew.transform(Purpose.TRAIN_NOISE) is None
    assert feature_skew.is_on(features(noise=0.1)) and not feature_skew.is_on(features(values="by_client"))
