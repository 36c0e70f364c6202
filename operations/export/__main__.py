"""``python -m operations.export FORMAT [FROM]``: a trained model as a file that other programs load.

FORMAT is keras, onnx, savedmodel or tflite. FROM is a file of weights, or "champion" for the model that the registry
has as champion; without it, the model of this checkout (models/weights.safetensors). The export has its preprocessing
inside: uint8 images go in as they are, class probabilities or numbers come out. Samples that are standardised or rows
of a table go in as data/clients has them; the card beside the export says how a row becomes such a sample.

Its own runtime predicts 1,000 test samples, and the largest difference from this project's predictions is printed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import layout
from fedpipe import params, pinning
from fedpipe.atomic import atomic_folder
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking.git_state import git_tags
from fedpipe.tracking.run_events import sha256

CHAMPION = "champion"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the export, after its predictions were compared."""
    options = _parse(arguments)
    pinning.require_avx2()
    pinning.pin()

    from fedpipe.networks.weights import load_weights
    from operations.export.card import CARD, ExportCard
    from operations.export.difference import difference, samples_for
    from operations.export.formats import FORMATS

    made = FORMATS.get(options.format)
    if made is None:
        raise PipelineError(f"there is no FORMAT {options.format!r}: choose one of {', '.join(FORMATS)}")
    weights = _weights(options.source, options.dataset)
    network, values = load_weights(weights)
    spec = network.spec
    folder: Path = options.output / options.format
    with atomic_folder(folder) as partial:
        made.write(network, values, partial / made.file)
        samples = samples_for(spec.kind)
        largest, labels = difference(made.load(partial / made.file), network.predictor(values), samples)
        card = ExportCard(
            format=options.format,
            file=made.file,
            weights_sha256=sha256(weights),
            model=spec.model,
            input=f"{spec.format.samples} [n, {', '.join(map(str, spec.image_shape))}]",
            output=f"float32 [n, {spec.outputs}]",
            classes=spec.classes,
            encoding=spec.format.model_dump(mode="json", include=_encoded(spec.format.samples), exclude_none=True),
            commit=git_tags(layout.WRITTEN)["mlflow.source.git.commit"],
            compared=samples.source,
            largest_difference=largest,
            other_labels=labels,
        )
        (partial / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    print(
        f"export: {folder / made.file} has {spec.model}: its predictions of {samples.source} differ by "
        f"{largest:.2g} at most, and {labels} labels are others",
        file=sys.stderr,
    )


def _weights(source: str, dataset: str | None) -> Path:
    """The file of weights that a FROM names.

    Raises:
      PipelineError: There is none.
    """
    if source == CHAMPION:
        registry = layout.registry()
        name = dataset or params.load(params.Download, layout.PARAMS).name
        return registry.kept_weights(registry.require_champion(name))
    if dataset:
        raise PipelineError(f"--dataset names the data set of a champion: give it with FROM={CHAMPION}")
    return Path(source)


def _encoded(samples: str) -> set[str]:
    """The parts of the description by which samples are made from a user's data; a model standardises uint8 itself."""
    return {"columns"} if samples == "uint8" else {"standard", "columns"}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("export", "FORMAT", "FROM"))
    parser.add_argument("format", metavar="FORMAT", help="keras, onnx, savedmodel or tflite")
    parser.add_argument("source", nargs="?", metavar="FROM", default=str(layout.WEIGHTS), help="the model")
    parser.add_argument("--output", type=Path, default=layout.EXPORTS, help=f"the folder ({layout.EXPORTS})")
    parser.add_argument("--dataset", help="with FROM=champion: the data set; else that of params.yaml")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_stage(main)
