"""The shards: what is written is read, by NumPy, TensorFlow and safetensors; what was damaged is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fedpipe.datasets import shards
from fedpipe.errors import PipelineError

Make = Callable[[list[int]], Path]


def noise(samples: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(samples)
    return rng.integers(0, 256, (samples, *shape), np.uint8), rng.integers(0, 10, samples, np.uint8)


def consecutive(sizes: list[int]) -> list[np.ndarray]:
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.sampled_from([(2, 3, 1), (4, 4, 3), (1, 1, 1)]))
@settings(max_examples=25)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shape: tuple[int, int, int]) -> None:
    import tensorflow as tf

    images, labels = noise(sum(sizes), shape)
    members = np.split(np.random.default_rng(1).permutation(sum(sizes)), np.cumsum(sizes)[:-1])
    folder = tmp_path_factory.mktemp("shards")
    manifest = shards.write_shards(folder, "noise", images, labels, members, 10)
    assert shards.Manifest.read(folder) == manifest
    assert (manifest.clients, manifest.samples, manifest.image_shape) == (len(sizes), sum(sizes), shape)
    shards.verify_shards(folder, manifest)
    opened, anyones = shards.Shards.open(folder), load_file(shards.shards_path(folder))
    for client, indices in enumerate(members):
        mine = slice(*anyones["offsets"][client : client + 2])
        for read in (
            shards.read_shard(folder, client),
            [t.numpy() for t in shards.read_shard_in_graph(opened, tf.constant(client))],
            (anyones["images"][mine], anyones["labels"][mine]),
        ):
            np.testing.assert_array_equal(read[0], images[indices])
            np.testing.assert_array_equal(read[1], labels[indices])


def test_transform_changes_what_a_client_sees(tmp_path: Path) -> None:
    images, labels = noise(9, (3, 3, 1))

    def rotate(client: int, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.rot90(images, client, axes=(1, 2)), (labels + client) % 10

    (tmp_path / "changed").mkdir()
    members = consecutive([4, 0, 5])
    manifest = shards.write_shards(tmp_path / "changed", "noise", images, labels, members, 10, rotate)
    shards.verify_shards(tmp_path / "changed", manifest)
    for client, indices in enumerate(members):
        read = shards.read_shard(tmp_path / "changed", client)
        np.testing.assert_array_equal(read[0], np.rot90(images[indices], client, axes=(1, 2)))
        np.testing.assert_array_equal(read[1], (labels[indices] + client) % 10)
    (tmp_path / "as-is").mkdir()
    as_is = shards.write_shards(tmp_path / "as-is", "noise", images, labels, members, 10)
    assert as_is.digest != manifest.digest


def test_equal_data_gives_equal_bytes(make_shards: Make) -> None:
    first, two = make_shards([5, 5]), make_shards([5, 5])
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((first / name).read_bytes() == (two / name).read_bytes() for name in names)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_changed_shard_is_named(make_shards: Make, part: str) -> None:
    folder = make_shards([4, 4, 4])
    opened = shards.Shards.open(folder)
    flip(opened.path, opened.images_start + 5 * 784 if part == "images" else opened.labels_start + 5)
    with pytest.raises(PipelineError, match=r"shards.safetensors: the shard of client 1 is changed .*dvc checkout"):
        shards.verify_shards(folder, shards.Manifest.read(folder))


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:4], lambda _: b"", lambda c: b"x" * len(c)])
def test_a_cut_file_is_named(make_shards: Make, damage: Callable[[bytes], bytes]) -> None:
    folder = make_shards([4, 4])
    path = shards.shards_path(folder)
    path.write_bytes(damage(path.read_bytes()))
    reason = r"shards.safetensors is cut short or changed .*dvc checkout"
    with pytest.raises(PipelineError, match=reason):
        shards.verify_shards(folder, shards.Manifest.read(folder))
    with pytest.raises(PipelineError, match=reason):
        shards.read_shard(folder, 0)


def test_changed_offsets_are_named(make_shards: Make) -> None:
    folder = make_shards([4, 4])
    opened = shards.Shards.open(folder)
    flip(opened.path, opened.offsets_start + 8)  # client 0 ends at sample 5
    with pytest.raises(PipelineError, match=r"shards.safetensors and shards.csv do not belong together"):
        shards.verify_shards(folder, shards.Manifest.read(folder))
    flip(opened.path, opened.offsets_start)  # client 0 starts at sample 1
    with pytest.raises(PipelineError, match=r"its offsets do not divide its 8 samples"):
        shards.read_shard(folder, 0)


def test_missing_pieces_are_named(make_shards: Make, tmp_path: Path) -> None:
    folder = make_shards([4, 4])
    shards.shards_path(folder).unlink()
    with pytest.raises(PipelineError, match=r"shards.safetensors is missing"):
        shards.verify_shards(folder, shards.Manifest.read(folder))
    with pytest.raises(PipelineError, match=r"shards.safetensors is missing"):
        shards.read_shard(folder, 0)
    with pytest.raises(PipelineError, match=r"manifest.json is missing: run the partition stage"):
        shards.Manifest.read(tmp_path)
    with pytest.raises(PipelineError, match=r"shards.csv is missing"):
        shards.read_index(tmp_path)
    (tmp_path / "manifest.json").write_text('{"dataset": "x"}', encoding="utf-8")
    with pytest.raises(PipelineError, match="is not a manifest"):
        shards.Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:-1], lines[-1].replace(lines[-1][-9:-1], "00000000")],
    ],
)
def test_an_index_of_another_partition_is_named(make_shards: Make, edit: Callable[[list[str]], list[str]]) -> None:
    folder = make_shards([4, 4])
    lines = (folder / "shards.csv").read_text().splitlines(keepends=True)
    (folder / "shards.csv").write_text("".join(edit(lines)))
    with pytest.raises(PipelineError, match=r"shards.csv and manifest.json do not belong together"):
        shards.verify_shards(folder, shards.Manifest.read(folder))


def test_shards_that_cannot_be_read_are_not_called_missing(make_shards: Make) -> None:
    folder = make_shards([3, 4])
    path = shards.shards_path(folder)
    path.unlink()
    path.symlink_to(path.name)  # a circle, which holds root back as permissions do others
    with pytest.raises(PipelineError, match=r"is there but cannot be read \(Too many levels"):
        shards.verify_shards(folder, shards.Manifest.read(folder))
    path.unlink()
    path.mkdir()
    with pytest.raises(PipelineError, match=r"is there but cannot be read \(Is a directory"):
        shards.read_shard(folder, 0)
    path.rmdir()
    with pytest.raises(PipelineError, match="is missing"):
        shards.read_shard(folder, 0)


def test_the_digest_of_a_site_is_that_of_a_folder_with_its_shards_alone(tmp_path: Path) -> None:
    images, labels = noise(30, (2, 2, 1))
    members, folders = consecutive([4, 6, 5, 7, 8]), [tmp_path / name for name in ("all", "one", "two")]
    for folder in folders:
        folder.mkdir()
    both = shards.write_shards(folders[0], "noise", images, labels, members, 10, sites=[2, 3])
    alone = [
        shards.write_shards(folder, "noise", images, labels, own, 10)
        for folder, own in zip(folders[1:], (members[:2], members[2:]), strict=True)
    ]
    read = shards.Manifest.read(folders[0])
    assert read == both and [site.digest for site in read.sites or ()] == [each.digest for each in alone]
    assert [(site.name, list(own)) for site, own in read.ranges()] == [("site-1", [0, 1]), ("site-2", [2, 3, 4])]
    assert read.site_of is not None and read.site_of.tolist() == [0, 0, 1, 1, 1]
    shards.verify_shards(folders[0], read)
    other = read.model_copy(update={"sites": tuple(reversed(read.sites or ()))})
    with pytest.raises(PipelineError, match=r"shards.csv and manifest.json do not belong together"):
        shards.verify_shards(folders[0], other)
