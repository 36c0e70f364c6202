"""``python -m operations.score FOLDER``: label a folder's PNG files, or a table's rows, with the champion.

Where samples are images, it writes a table with one row per file, in the order of their names: file, label,
probability, problem. A file that cannot be scored has a problem instead of label and probability, so one damaged file
does not stop the others. Of a model of tables, FOLDER is a CSV or Parquet file with the columns of the model; of
other samples, a .npy file. Then the table has a row per sample: row, label, probability; or row and the numbers.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

import layout
from fedpipe import params, pinning
from fedpipe.atomic import atomic_file
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.networks.weights import read_spec
from operations.score.images import Unusable, list_images, read_image
from operations.score.rows import predictions_table, read_samples

_BATCH = 256
_COLUMNS = ("file", "label", "probability", "problem")

Row = tuple[str, str, str, str]


def main(arguments: list[str] | None = None) -> None:
    """Fetches the champion's weights, then reads, labels and writes a batch of images at a time."""
    options = _parse(arguments)
    files = [] if options.folder.is_file() else list_images(options.folder)
    pinning.require_avx2()
    registry = layout.registry()
    champion = registry.require_champion(options.dataset or params.load(params.Download, layout.PARAMS).name)
    weights = registry.kept_weights(champion)
    if not read_spec(weights).kind.is_image:
        _score_samples(options.folder, options.output, weights)
        return
    files = files or list_images(options.folder)
    problems = 0
    with (
        atomic_file(options.output) as partial,
        # A file's name may be any bytes, and is written as it is.
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as table,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in tqdm(_label(files, weights), "score", len(files), unit="image", disable=None):
            problems += bool(row[-1])
            writer.writerow(row)
        if problems == len(files):
            raise PipelineError(
                f"none of the {len(files)} PNG files in {options.folder} can be scored: {files[-1]} {row[-1]}"
            )
    print(f"score: {len(files) - problems} images labelled by {champion} in {options.output}", file=sys.stderr)
    if problems:
        print(f"score: {problems} files could not be: the column problem says why", file=sys.stderr)


def _score_samples(path: Path, output: Path, weights: Path) -> None:
    """Predicts for all samples of a file at once."""
    from fedpipe.evaluation.measures import logits_in_batches
    from fedpipe.networks.weights import load_weights

    model, tensors = load_weights(weights)
    samples = read_samples(path, model.spec.kind)
    predictions = logits_in_batches(model.predictor(tensors), samples, _BATCH)
    table = predictions_table(model.spec.kind, predictions)
    with atomic_file(output) as partial:
        table.to_csv(partial, index=False)
    print(f"score: {len(table)} samples of {path} predicted in {output}", file=sys.stderr)


def _label(files: list[Path], weights: Path) -> Iterator[Row]:
    """Rows of the table, in the order of ``files``; a batch of images is in memory at a time."""
    from fedpipe.networks.weights import load_weights

    model, tensors = load_weights(weights)
    spec, predict = model.spec, model.predictor(tensors)
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        height, width, channels = spec.image_shape
        contents = [_read(path, (height, width, channels)) for path in batch]
        images = [image for image, _ in contents if image is not None]
        probabilities = iter(predict(np.stack(images)) if images else ())
        for path, (image, problem) in zip(batch, contents, strict=True):
            if image is None:
                yield path.name, "", "", problem
            else:
                row = next(probabilities)
                yield path.name, str(row.argmax()), f"{row.max():.6f}", ""


def _read(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray | None, str]:
    """The image, or None and the problem with it."""
    try:
        return read_image(path, shape), ""
    except Unusable as problem:
        return None, str(problem)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("score", "FOLDER"))
    parser.add_argument("folder", type=Path, help="the folder with the PNG files, or the file with the samples")
    parser.add_argument("--output", type=Path, default=Path("predictions.csv"), help="the table (predictions.csv)")
    parser.add_argument("--dataset", help="the data set whose champion to use; else that of params.yaml")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_stage(main)
