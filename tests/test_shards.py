"""The shard format: what is written is read, by NumPy and by TensorFlow; what was damaged is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import shards
from stages.errors import PipelineError

Make = Callable[[list[int]], Path]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.sampled_from([(2, 3, 1), (4, 4, 3), (1, 1, 1)]))
@settings(max_examples=25)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shape: tuple[int, int, int]) -> None:
    import tensorflow as tf

    rng = np.random.default_rng(sum(sizes))
    images = rng.integers(0, 256, (sum(sizes), *shape), np.uint8)
    labels = rng.integers(0, 10, sum(sizes), np.uint8)
    members = np.split(rng.permutation(sum(sizes)), np.cumsum(sizes)[:-1])
    folder = tmp_path_factory.mktemp("shards")
    manifest = shards.write_shards(folder, "noise", images, labels, members, 10)
    assert shards.Manifest.read(folder) == manifest
    assert (manifest.clients, manifest.samples, manifest.image_shape) == (len(sizes), sum(sizes), shape)
    shards.verify_shards(folder, manifest)
    for client, indices in enumerate(members):
        for read in (
            shards.read_shard(folder, client),
            [t.numpy() for t in shards.read_shard_in_graph(folder, tf.constant(client), shape)],
        ):
            np.testing.assert_array_equal(read[0], images[indices])
            np.testing.assert_array_equal(read[1], labels[indices])


def test_equal_data_gives_equal_bytes(make_shards: Make) -> None:
    one, two = make_shards([5, 5]), make_shards([5, 5])
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:4], lambda _: b"", lambda c: flip(c, len(c) // 2)])
def test_damage_is_named(make_shards: Make, damage: Callable[[bytes], bytes]) -> None:
    folder = make_shards([4, 4, 4])
    path = shards.shard_path(folder, 1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PipelineError, match=r"shards/000001.safetensors is cut short or changed .*dvc checkout"):
        shards.verify_shards(folder, shards.Manifest.read(folder))


def test_missing_pieces_are_named(make_shards: Make, tmp_path: Path) -> None:
    folder = make_shards([4, 4])
    shards.shard_path(folder, 0).unlink()
    with pytest.raises(PipelineError, match=r"000000.safetensors is missing"):
        shards.verify_shards(folder, shards.Manifest.read(folder))
    with pytest.raises(PipelineError, match=r"000000.safetensors is missing"):
        shards.read_shard(folder, 0)
    shards.shard_path(folder, 1).write_bytes(b"nonsense")
    with pytest.raises(PipelineError, match=r"000001.safetensors is not a shard"):
        shards.read_shard(folder, 1)
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
