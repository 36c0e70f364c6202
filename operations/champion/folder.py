"""Writing the champion into a folder.

champion/
  weights.safetensors
  model/              the MLflow model: loaded with mlflow.pyfunc.load_model, without this project
  exports/            what `make export` made of these weights, if it has
  card.json, card.md  its description, and the SHA-256 of each file
"""

import shutil
from pathlib import Path

import layout
from fedpipe.atomic import atomic_folder
from fedpipe.tracking.ci import RUN_TAG
from fedpipe.tracking.registry import (
    ACCURACY_TAG,
    COMMIT_TAG,
    DATA_TAG,
    GIT_TAG,
    MODEL_TAG,
    ORIGIN_TAG,
    POOL_TAG,
    PULL_REQUEST_TAG,
    TEST_SET_TAG,
    Version,
    dataset_of,
)
from fedpipe.tracking.run_events import sha256
from fedpipe.tracking.version_run import read_run, read_table
from operations.champion.card import CARD, TEXT, WEIGHTS, Card, Data, table_of
from operations.export.card import CARD as EXPORT_CARD
from operations.export.card import ExportCard
from operations.promote import git_champion

FOLDER = Path("champion")
_ACCURACY = "test/accuracy"  # the metric


def write(version: Version, folder: Path = FOLDER) -> Card:
    """Writes ``version`` with its card, atomically.

    Raises:
      PipelineError: MLflow cannot be reached, lacks the model, or has other weights than were registered.
    """
    registry = layout.registry()
    weights, model = registry.kept_weights(version), registry.kept_model(version)
    with atomic_folder(folder) as partial:
        shutil.copyfile(weights, partial / WEIGHTS)
        shutil.copytree(model, partial / "model", ignore=shutil.ignore_patterns("__pycache__"))
        _copy_exports(version.weights_sha256, partial / layout.EXPORTS.name)
        files = {str(path.relative_to(partial)): sha256(path) for path in sorted(partial.rglob("*")) if path.is_file()}
        card = card_of(version, files)
        (partial / CARD).write_text(card.json_text(), encoding="utf-8")
        (partial / TEXT).write_text(card.markdown(), encoding="utf-8")
    return card


def _copy_exports(weights_sha256: str, folder: Path) -> None:
    for card in sorted(layout.EXPORTS.glob(f"*/{EXPORT_CARD}")):
        if ExportCard.read(card).weights_sha256 == weights_sha256:
            shutil.copytree(card.parent, folder / card.parent.name)


def card_of(version: Version, files: dict[str, str]) -> Card:
    """The card of a version, from the registry and its run.

    Args:
      version: The version.
      files: SHA-256 of each file that goes with it.

    Raises:
      PipelineError: MLflow cannot be reached, or the run was deleted.
    """
    registry, tags = layout.registry(), version.tags
    run = read_run(registry, version)
    accuracy = float(tags[ACCURACY_TAG]) if ACCURACY_TAG in tags else run.metrics.get(_ACCURACY)
    # Where the pool is withheld, its batches are, too.
    batches = git_champion.marker_of(version).batches if POOL_TAG in tags else {}
    return Card(
        dataset=dataset_of(version.name),
        version=version.number,
        weights_sha256=version.weights_sha256,
        model=tags.get(MODEL_TAG, "unknown"),
        accuracy=accuracy,
        metrics={name: value for name, value in run.metrics.items() if not name.startswith("system/")},
        classes=table_of(read_table(registry, version, layout.CLASS_TABLE.name)),
        data=Data(
            shards_sha256=tags.get(DATA_TAG, "unknown"),
            test_set_sha256=tags.get(TEST_SET_TAG, "unknown"),
            pool_sha256=tags.get(POOL_TAG),
            batches=batches,
        ),
        params=run.params,
        run=run.name,
        commit=tags.get(COMMIT_TAG, "unknown"),
        tag=tags.get(GIT_TAG),
        ci_run=tags.get(RUN_TAG),
        pull_request=tags.get(PULL_REQUEST_TAG),
        origin=tags.get(ORIGIN_TAG),
        files=files,
    )
