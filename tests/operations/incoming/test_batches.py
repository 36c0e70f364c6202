"""What counts as a batch: real MNIST images in every form that is allowed, and each way of being wrong."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.batch_file import Batch, decode
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from operations.incoming.batches import batch_of, find, read
from tests.batches import add_clients, add_hash, add_idx, add_idx_clients, add_npz

Samples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def dataset(raw: Path) -> RawDataset:
    return RawDataset.read(raw)


def only(folder: Path, dataset: RawDataset) -> Samples:
    candidates, strays = find(folder)
    assert len(candidates) == 1 and not strays
    return read(candidates[0], dataset).labelled


@pytest.mark.parametrize("form", ["npz", "npz with channels", "npz with names", "idx3", "idx4"])
def test_every_form_gives_the_same_samples(
    tmp_path: Path, dataset: RawDataset, training_set: Samples, form: str
) -> None:
    images, labels = training_set[0][:20], training_set[1][:20]
    gray = images[..., 0]
    {
        "npz": lambda: add_npz(tmp_path, "a", gray, labels),
        "npz with channels": lambda: add_npz(tmp_path, "a", images, labels),
        "npz with names": lambda: add_npz(tmp_path, "a", gray, labels, ("images", "labels")),
        "idx3": lambda: add_idx(tmp_path, "a", gray, labels),
        "idx4": lambda: add_idx(tmp_path, "a", images, labels),
    }[form]()
    found_images, found_labels = only(tmp_path, dataset)
    assert (found_images == images).all() and (found_labels == labels).all() and found_images.dtype == np.uint8


@pytest.mark.parametrize(
    ("form", "clients", "names"),
    [
        ("npz", np.array(["zoe", "a b"] * 10), ["zoe", "a b"] * 10),
        ("npz", np.arange(20, dtype=np.int64) - 1, [str(number - 1) for number in range(20)]),
        ("int", np.arange(20, dtype=np.int32) + 70_000, [str(number + 70_000) for number in range(20)]),
        ("ubyte", np.arange(20, dtype=np.uint8), [str(number) for number in range(20)]),
    ],
)
def test_a_batch_may_name_each_samples_client(
    tmp_path: Path, dataset: RawDataset, training_set: Samples, form: str, clients: np.ndarray, names: list[str]
) -> None:
    images, labels = training_set[0][:20, :, :, 0], training_set[1][:20]
    if form == "npz":
        add_npz(tmp_path, "a", images, labels)
        add_clients(tmp_path, "a", clients)
    else:
        add_idx(tmp_path, "a", images, labels)
        add_idx_clients(tmp_path, "a", clients, form)
    ((candidate,), strays) = find(tmp_path)
    batch = read(candidate, dataset)
    assert batch.clients is not None and batch.clients.tolist() == names and not strays
    stored = decode(batch.encode())
    assert stored.clients is not None and stored.clients.tolist() == names
    shown = decode(Batch(batch.images, batch.labels).encode())
    assert shown.clients is None and shown.positions is None


def lying_header(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_npz(folder, "a", x, y)
    path = folder / "a.npz"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(20, 28, 28)", b"(90, 28, 28)"))
    add_hash(path)


def objects(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    np.savez(folder / "a.npz", x=x, y=np.array([{"a": 1}] * len(y), dtype=object))
    add_hash(folder / "a.npz")


def damaged_stream(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Whole by its hash, but what was compressed is none."""
    np.savez_compressed(folder / "a.npz", x=x, y=y)
    content = bytearray((folder / "a.npz").read_bytes())
    content[200:220] = b"\xff" * 20
    (folder / "a.npz").write_bytes(content)
    add_hash(folder / "a.npz")


def repacked(change: Callable[[str, bytes], bytes], packing: int = zipfile.ZIP_STORED) -> Callable[..., None]:
    """An npz whose members were changed by ``change(name, content)``."""

    def make(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
        add_npz(folder, "b", x, y)
        with zipfile.ZipFile(folder / "b.npz") as good, zipfile.ZipFile(folder / "a.npz", "w", packing) as bad:
            for name in good.namelist():
                bad.writestr(name, change(name, good.read(name)))
        for path in (folder / "b.npz", folder / "b.npz.sha256"):
            path.unlink()
        add_hash(folder / "a.npz")

    return make


def damaged_lzma(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    repacked(lambda _, content: content, zipfile.ZIP_LZMA)(folder, x, y)
    content = bytearray((folder / "a.npz").read_bytes())
    content[45:49] = b"\xff" * 4
    (folder / "a.npz").write_bytes(content)
    add_hash(folder / "a.npz")


def encrypted(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """By its flags, in each member's own header and in the archive's directory."""
    add_npz(folder, "a", x, y)
    content = bytearray((folder / "a.npz").read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(magic, at + 1)) >= 0:
            content[at + flags] |= 1
    (folder / "a.npz").write_bytes(content)
    add_hash(folder / "a.npz")


def unfinished_header(_: str, content: bytes) -> bytes:
    return content.replace(b"'descr'", b"(((((((")


def zeros_without_end(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """The archive's directory promises more than is read, so that the test need not pack it."""
    add_npz(folder, "a", x, y)
    content = bytearray((folder / "a.npz").read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 24 : at + 28] = (3 << 30).to_bytes(4, "little")
    (folder / "a.npz").write_bytes(content)
    add_hash(folder / "a.npz")


def larger_than_is_read(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_npz(folder, "a", x, y)
    os.truncate(folder / "a.npz", (1 << 30) + 1)


def not_npz(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    (folder / "a.npz").write_bytes(b"no archive")
    add_hash(folder / "a.npz")


def no_hash(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_npz(folder, "a", x, y)
    (folder / "a.npz.sha256").unlink()


def cut_short(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_npz(folder, "a", x, y)
    (folder / "a.npz").write_bytes((folder / "a.npz").read_bytes()[:-100])


def odd_hash(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_npz(folder, "a", x, y)
    (folder / "a.npz.sha256").write_text("abc  a.npz\n")


def half_a_pair(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_idx(folder, "a", x, y)
    (folder / "a-labels-idx1-ubyte").unlink()


def clients_of(clients: np.ndarray) -> Callable[..., None]:
    """A batch with these clients."""

    def make(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
        add_npz(folder, "a", x, y)
        add_clients(folder, "a", clients)

    return make


def short_idx_clients(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_idx(folder, "a", x, y)
    add_idx_clients(folder, "a", np.arange(20, dtype=np.int32), "int")
    path = folder / "a-clients-idx1-int"
    path.write_bytes(path.read_bytes()[:-1])
    add_hash(path)


def wrong_idx_clients(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    add_idx(folder, "a", x, y)
    (folder / "a-clients-idx1-int").write_bytes(b"nothing")
    add_hash(folder / "a-clients-idx1-int")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f, x, y: add_npz(f, "a", x[:, 1:], y), r"images of \(27, 28, 1\) .*; mnist has \(28, 28, 1\)"),
        (lambda f, x, y: add_npz(f, "a", x, y + 10), "it has label 19; mnist has labels 0 to 9"),
        (lambda f, x, y: add_npz(f, "a", x, y[:-1]), "holds 20 images, but 19 labels"),
        (lambda f, x, y: add_npz(f, "a", x[:0], y[:0]), "is empty"),
        (lambda f, x, y: add_npz(f, "a", x, y.astype(np.int64)), r"y\.npy is int64; uint8 is expected"),
        (lambda f, x, y: add_npz(f, "a", x, y, ("x", "labels")), "holds labels, x; images and labels"),
        (lambda f, x, y: add_npz(f, "a", x.reshape(20, -1), y), r"images of shape \(20, 784\)"),
        (lambda f, x, y: add_npz(f, "ä", x, y), "the name 'ä' is not possible"),
        (lambda f, x, y: (add_npz(f, "a", x, y), add_idx(f, "a", x, y)), "a batch is either"),
        (lambda f, x, y: add_idx(f, "a", x, y[:-1]), "holds 20 samples, but .* 19"),
        (half_a_pair, "there is a-images-idx3-ubyte; a batch is either"),
        (objects, r"a\.npz: y\.npy holds text or other objects \(object\); labels must be one integer per sample"),
        (lambda f, x, y: add_npz(f, "a", np.array([None] * 20), y), "holds Python objects"),
        (lambda f, x, y: add_npz(f, "a", x, y / 2), r"y\.npy has numbers of type float64; .*: store y.astype"),
        (lambda f, x, y: add_npz(f, "a", x, y.astype(str)), r"y\.npy holds text .*: number the classes"),
        (
            lambda f, x, y: add_npz(f, "a", x, np.eye(10, dtype=np.uint8)[y]),
            r"either one-hot labels of 10 .*y.argmax.*; or 10 ",
        ),
        (clients_of(np.arange(19)), "it has 20 samples, but 19 clients"),
        (clients_of(np.arange(20) / 2), r"a\.npz: clients\.npy is float64; clients are whole numbers or text"),
        (clients_of(np.array(["x"] * 19 + [""])), "it has the client ''; a client is a whole number, or a line"),
        (clients_of(np.array(["x"] * 19 + ["a\nb"])), r"it has the client 'a\\nb'"),
        (clients_of(np.array(["x"] * 19 + ["\ud800"])), "a line of 1 to 200 characters"),
        (clients_of(np.array([{}] * 20)), r"clients\.npy holds Python objects \(a pickle\), which is refused"),
        (clients_of(np.zeros((20, 2), int)), r"has shape \(20, 2\); one client for each sample is expected"),
        (short_idx_clients, "a-clients-idx1-int is longer or shorter than the 20 clients"),
        (wrong_idx_clients, "a-clients-idx1-int is no IDX file of one dimension: it does not start with 00 00 0c 01"),
        (lying_header, "than its header|Bad CRC"),
        (not_npz, "is not a readable npz file"),
        (damaged_stream, r"is not a readable npz file: Error -3"),
        (damaged_lzma, "is not a readable npz file: (Corrupt|Invalid|Unsupported|Memory)"),
        (encrypted, "is not a readable npz file: .* is encrypted"),
        (repacked(unfinished_header), "is not a readable npz file"),
        (zeros_without_end, r"a\.npz: x\.npy has 3,221,225,472 bytes; at most 1,073,741,824"),
        (larger_than_is_read, r"a\.npz has 1,073,741,825 bytes; at most"),
        (no_hash, r"a\.npz\.sha256 is missing: make it with `sha256sum a\.npz"),
        (cut_short, "damaged or cut short on its way"),
        (odd_hash, "does not start with a SHA-256"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, dataset: RawDataset, training_set: Samples, make: Callable[..., object], message: str
) -> None:
    make(tmp_path, training_set[0][:20, :, :, 0], training_set[1][:20])
    with pytest.raises(PipelineError, match=message) as caught:
        only(tmp_path, dataset)
    assert "\n" not in str(caught.value)


def test_files_on_their_way_are_not_seen_and_strays_are(tmp_path: Path) -> None:
    for name in (".a.npz.x7", "a.npz.partial", "late.npz.sha256", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "folder.npz.sha256").mkdir()
    candidates, strays = find(tmp_path)
    assert candidates == [] and [path.name for path in strays] == [*("folder.npz", "folder.npz.sha256", "notes.txt")]
    assert find(tmp_path / "missing") == ([], [])
    assert batch_of("week.1-images-idx3-ubyte.sha256") == "week.1" and batch_of("notes.txt") is None
