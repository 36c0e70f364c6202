"""Scoring a folder of real test images as PNG files, among them whatever a folder may hold."""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import layout
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.networks.weights import load_weights
from operations.promote.__main__ import main as promote
from operations.score.__main__ import main
from operations.score.images import Unusable, read_image
from tests import ROOT
from tests.registry_workspace import Workspace

GRAY = (28, 28, 1)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def digits(workspace: Workspace) -> tuple[np.ndarray, np.ndarray]:
    """A folder pngs/ of 300 test images, a champion, and the images with their labels."""
    workspace.register("strong")
    promote([])
    images, labels = RawDataset.read(Path("data/raw")).read_test(Path("data/raw"))
    for number in range(300):
        save(Path(f"pngs/{number:03d}.png"), images[number, :, :, 0])
    return images[:300], labels[:300]


def read_table(path: str = "predictions.csv") -> pd.DataFrame:
    return pd.read_csv(path, dtype={"file": str}, keep_default_na=False)


def test_a_folder_of_digits(digits: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = digits
    main(["pngs"])
    table = read_table()
    assert list(table.columns) == ["file", "label", "probability", "problem"]
    assert table["file"].tolist() == [f"{number:03d}.png" for number in range(300)]
    model, weights = load_weights(layout.registry().kept_weights(layout.registry().champion("mnist")))
    expected = model.predictor(weights)(images)
    assert (table["label"] == expected.argmax(axis=1)).all() and (table["label"] == labels).mean() > 0.8
    assert np.allclose(table["probability"], expected.max(axis=1), atol=1e-6) and (table["problem"] == "").all()
    assert "300 images labelled by fedpipe-mnist version 1 in predictions.csv" in capsys.readouterr().err

    before = Path("predictions.csv").read_bytes()
    Path("mlartifacts").rename("away")  # the weights are here already
    shutil.rmtree("data")  # which data set it is, params.yaml says
    main(["pngs", "--output", "again/table.csv"])
    assert Path("again/table.csv").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras_cnn", "keras_file"])
def test_a_keras_model_labels(workspace: Workspace, kind: str) -> None:
    """Of a `.keras` file, the file itself is not needed any more: the file of weights holds the layers."""
    workspace.take_keras(kind)
    workspace.register("first")
    promote([])
    Path("data/start.keras").unlink(missing_ok=True)
    images, _ = RawDataset.read(layout.RAW).read_test(layout.RAW)
    for number in range(20):
        save(Path(f"pngs/{number:02d}.png"), images[number, :, :, 0])
    main(["pngs"])
    table = read_table()
    expected = workspace.network.predictor(workspace.models["first"])(images[:20])
    assert (table["label"] == expected.argmax(axis=1)).all() and (table["problem"] == "").all()
    assert np.allclose(table["probability"], expected.max(axis=1), atol=1e-6)


def test_bad_files_are_listed_with_the_reason(
    digits: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = digits[0][0, :, :, 0]
    whole = Path("pngs/000.png").read_bytes()
    Path("pngs/a_cut.png").write_bytes(whole[: len(whole) // 2])
    Path("pngs/b.txt").write_text("no image")
    Path("pngs/c.PNG").write_bytes(whole)
    Path("pngs/d.png").mkdir()
    save(Path("pngs/e_large.png"), np.zeros((32, 30), np.uint8))
    Path(os.fsdecode(b"pngs/f\xff.png")).write_bytes(whole)  # a name that is no UTF-8
    main(["pngs"])
    assert b"\nf\xff.png," in Path("predictions.csv").read_bytes()
    table = pd.read_csv("predictions.csv", encoding="latin-1", keep_default_na=False).set_index("file")
    assert len(table) == 304
    assert table.loc["a_cut.png", "problem"].startswith("is damaged")
    assert table.loc["e_large.png", "problem"] == "is 30 x 32 pixels; the model takes 28 x 28"
    assert table.loc["e_large.png", "label"] == table.loc["e_large.png", "probability"] == ""
    assert table.loc["c.PNG", "label"] == table.loc["000.png", "label"]
    assert "2 files could not be: the column problem says why" in capsys.readouterr().err
    assert pixels.shape == (28, 28)

    for file in Path("pngs").glob("*.*"):
        if file.name not in ("a_cut.png", "d.png"):  # d.png is a folder
            file.unlink()
    before = Path("predictions.csv").read_bytes()
    with pytest.raises(PipelineError, match=r"none of the 1 PNG files in pngs can be scored: .*a_cut\.png is damaged"):
        main(["pngs"])
    assert Path("predictions.csv").read_bytes() == before and not list(Path().glob("*.partial"))


def test_what_cannot_start_is_said(workspace: Workspace) -> None:
    with pytest.raises(PipelineError, match="'nowhere' is no folder"):
        main(["nowhere"])
    with pytest.raises(PipelineError, match=r"data holds no file whose name ends in \.png"):
        main(["data"])
    save(Path("one/a.png"), np.zeros((28, 28), np.uint8))
    with pytest.raises(PipelineError, match="fedpipe-mnist has no champion in sqlite"):
        main(["one"])
    done = subprocess.run(
        [sys.executable, "-m", "operations.score", "one", "--dataset", "other"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "fedpipe-other has no champion" in done.stderr and done.stderr.count("\n") == 1
    assert not Path("predictions.csv").exists()


def refusal(path: Path, shape: tuple[int, int, int] = GRAY) -> str:
    with pytest.raises(Unusable) as caught:
        read_image(path, shape)
    return str(caught.value)


def test_images_are_read_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for channels in (1, 2, 3, 4):
        pixels = rng.integers(0, 256, (9, 7, channels), np.uint8)
        path = save(tmp_path / "a.png", pixels[:, :, 0] if channels == 1 else pixels)
        assert np.array_equal(read_image(path, (9, 7, channels)), pixels)
    with pytest.raises(PipelineError, match="takes images of 5 channels, which no PNG file can hold"):
        read_image(path, (9, 7, 5))


def test_anything_else_is_refused_with_what_would_be_right(tmp_path: Path) -> None:
    gray = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28)
    colour = np.zeros((28, 28, 3), np.uint8)
    path = tmp_path / "a.png"
    assert refusal(save(path, gray)) == "has 16 bits per sample; the model takes 8"
    assert refusal(save(path, gray > 100)) == "has 1 bits per sample; the model takes 8"
    assert refusal(save(path, colour)) == "has pixels of RGB; the model takes gray"
    assert refusal(save(path, gray.astype(np.uint8)), (28, 28, 3)) == "has pixels of gray; the model takes RGB"
    assert refusal(save(path, np.zeros((28, 28, 4), np.uint8)), (28, 28, 3)).startswith("has pixels of RGB with alpha")
    Image.fromarray(gray.astype(np.uint8)).convert("P").save(path)
    assert refusal(path).startswith("has pixels of a palette")
    Image.fromarray(gray.astype(np.uint8)).save(path, transparency=3)
    assert "has a transparent colour" in refusal(path)
    Image.fromarray(colour).save(path, format="JPEG")
    assert refusal(path) == "is not a PNG file"
    path.write_bytes(b"")
    assert refusal(path) == "is not a PNG file"


def test_damage_anywhere_is_noticed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (28, 28), np.uint8)
    path = save(tmp_path / "a.png", pixels)
    whole = path.read_bytes()
    end = len(whole) - 12  # of all but the last chunk, which holds nothing
    for position in range(0, end, 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x20
        path.write_bytes(damaged)
        refusal(path)
        path.write_bytes(whole[:position])
        refusal(path)


def test_a_header_that_lies_costs_no_memory(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content)
    assert refusal(tmp_path / "a.png") == "is 2147483647 x 2147483647 pixels; the model takes 28 x 28"
