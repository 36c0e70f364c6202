"""``python -m stages.evaluate``: measure the trained model globally and for each client."""

import json
import math
import sys
from typing import Any

import pandas as pd

import layout
from fedpipe import params, pinning
from fedpipe.atomic import write_text
from fedpipe.command_line import without_arguments
from fedpipe.contracts.attack import ATTACKS
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_client_tests, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.global_model import attack_figures
from fedpipe.evaluation.identity import has_personal, require_same_data_set, require_trained
from fedpipe.evaluation.measures import confusion, logits_in_batches, mean_loss, per_class
from fedpipe.evaluation.personal import accuracy_of_own, fine_tuned
from fedpipe.evaluation.pictures import draw_clients, draw_confusion
from fedpipe.networks.network import Network, Weights
from fedpipe.networks.personal_weights import PersonalModels
from fedpipe.networks.weights import load_weights
from fedpipe.outputs.staging import StagedOutputs
from fedpipe.outputs.writer import only_writer
from fedpipe.stage_process import run_stage
from fedpipe.tracking import journal
from layout import (
    CLASS_TABLE,
    CLIENT_PICTURE,
    CLIENT_TABLE,
    CLIENT_TESTS,
    CLIENTS,
    CONFUSION_PICTURE,
    EVALUATION,
    PERSONAL,
    PREDICTIONS,
    RAW,
    TRAINING,
    WEIGHTS,
)

COPIES = layout.COPIES / "evaluate"
OUTPUTS = (EVALUATION, CLASS_TABLE, CLIENT_TABLE, PREDICTIONS, CONFUSION_PICTURE, CLIENT_PICTURE, COPIES)


def main() -> None:
    """Measures the model, with the folder's outputs to itself."""
    with (
        only_writer("evaluate", layout.stage_lock("evaluate")),
        StagedOutputs("evaluate", dict.fromkeys(OUTPUTS, 0)) as outputs,
        journal.EvaluationRecord(layout.outbox(), layout.pipeline_files()) as record,
    ):
        _measure(outputs, record)


def _measure(outputs: StagedOutputs, record: journal.EvaluationRecord) -> None:
    """Reads weights, test images and shards, predicts, writes metrics, tables and pictures."""
    params.check(layout.PARAMS)
    settings = params.load(params.Evaluate, layout.PARAMS)
    pinning.require_avx2()
    manifest = Manifest.read(CLIENTS)
    require_trained(WEIGHTS, TRAINING)
    model, weights = load_weights(WEIGHTS)
    spec = model.spec
    if (spec.image_shape, spec.classes) != (manifest.image_shape, manifest.classes):
        raise PipelineError(
            f"{WEIGHTS} takes images {spec.image_shape} of {spec.classes} classes, but {CLIENTS} holds "
            f"{manifest.image_shape} of {manifest.classes}: run the train stage again"
        )
    dataset = RawDataset.read(RAW)
    require_same_data_set(dataset, manifest, RAW, CLIENTS)
    images, labels = dataset.read_test(RAW)
    verify_shards(CLIENTS, manifest)
    tests = read_client_tests(CLIENT_TESTS, manifest)
    verify_shards(CLIENT_TESTS, tests)
    if settings.personalise.epochs and not tests.clients:
        raise PipelineError(
            f"params.yaml: 'evaluate.personalise.epochs' is {settings.personalise.epochs}, but {CLIENT_TESTS} holds no "
            "samples: set it to 0, or 'partition.client_test' to same_distribution or fraction"
        )

    classify = model.classifier(weights)
    logits = logits_in_batches(classify, images, settings.batch_size)
    predicted = logits.argmax(axis=1)
    counts = confusion(labels, predicted, spec.classes)
    classes = per_class(counts)
    clients = accuracy_per_client(classify, CLIENTS, manifest.clients, settings.batch_size)
    summary = spread(clients["accuracy"].to_numpy())
    test_summary = None
    if tests.clients:
        tested = accuracy_per_client(classify, CLIENT_TESTS, tests.clients, settings.batch_size)
        clients = clients.assign(test_samples=tested["samples"], test_accuracy=tested["accuracy"])
        test_summary = spread(clients["test_accuracy"].to_numpy())
    own, personalisation = _personalised(model, weights, manifest, settings, clients)
    clients = clients.assign(**own)
    metrics: dict[str, Any] = {
        "loss": mean_loss(model, logits, labels),
        "accuracy": float((predicted == labels).mean()),
        "clients": summary,
        **({"clients_test": {"samples": tests.samples, **test_summary}} if test_summary else {}),
        **({"personalisation": personalisation} if own else {}),
        "precision": {str(row["class"]): row["precision"] for row in classes.to_dict("records")},
        "recall": {str(row["class"]): row["recall"] for row in classes.to_dict("records")},
    }

    metrics |= attack_figures(*_attack(), model, weights, images, labels, settings.batch_size)

    if not math.isfinite(metrics["loss"]):
        raise PipelineError(f"the loss of {WEIGHTS} on the test images is not finite: train again with lower rates")

    with outputs.writing(EVALUATION) as path:
        write_text(path, json.dumps(metrics, indent=2) + "\n")
    predictions = pd.DataFrame({"actual": labels, "predicted": predicted})
    for output, table in ((CLASS_TABLE, classes), (CLIENT_TABLE, clients), (PREDICTIONS, predictions)):
        with outputs.writing(output) as path:
            table.to_csv(path, index=False)
    title = f"{spec.model} on the {len(labels):,} test images: accuracy {metrics['accuracy']:.4f}"
    with outputs.writing(CONFUSION_PICTURE) as path:
        draw_confusion(counts, title, path)
    title = f"{spec.model} on each of {manifest.clients} clients' shards"
    with outputs.writing(CLIENT_PICTURE) as path:
        draw_clients(clients, summary, title, path, test_summary, personalisation)
    outputs.copy([EVALUATION, CLASS_TABLE, CLIENT_TABLE], COPIES)
    outputs.place()
    on_tests = f"; on their test samples: {_said(test_summary)}" if test_summary else ""
    print(
        f"evaluate: loss {metrics['loss']:.4f}, accuracy {metrics['accuracy']:.4f} on {len(labels):,} test images; "
        f"clients: {_said(summary)}{on_tests}",
        file=sys.stderr,
    )
    record.log_results(
        weights=WEIGHTS,
        params={"evaluate": params.used(settings)},
        metrics={"test": metrics},  # beside the training's own loss and accuracy in the same run
        tables=[EVALUATION, CLASS_TABLE, CLIENT_TABLE, PREDICTIONS],
        pictures=[CONFUSION_PICTURE, CLIENT_PICTURE],
    )
    params.require_unchanged(settings, layout.PARAMS)


def _personalised(
    model: Network, weights: Weights, manifest: Manifest, settings: params.Evaluate, clients: pd.DataFrame
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns for the table of clients, and how each kind of model serves them; empty if there are none but the global.

    A client's samples are the held-out ones if there are any, else those of its shard, as for the global model.
    """
    folder, of_global = (CLIENT_TESTS, "test_accuracy") if "test_accuracy" in clients else (CLIENTS, "accuracy")
    columns: dict[str, Any] = {}
    if settings.personalise.epochs:
        tuned = fine_tuned(model, weights, CLIENTS, settings.personalise)
        columns["personalised_accuracy"] = accuracy_of_own(model, tuned, folder, settings.batch_size, "personalise")
    found = PersonalModels.open(PERSONAL, model, manifest.clients) if has_personal(PERSONAL, TRAINING) else None
    if found is not None:
        columns["personal_accuracy"] = accuracy_of_own(model, found.of, folder, settings.batch_size)
    clusters = found.client_model if found is not None and found.clusters else None
    kinds = {"global": clients[of_global].to_numpy()}
    kinds |= {name.removesuffix("_accuracy"): values for name, values in columns.items()}
    if clusters is not None:
        columns["cluster"] = clusters
    return columns, {kind: spread(values, clusters) for kind, values in kinds.items()} if columns else {}


def _attack() -> tuple[str, Any]:
    """The attack of the training, and its params."""
    said = json.loads(TRAINING.read_text(encoding="utf-8")).get("attack", {"no_attack": {}})
    ((name, section),) = said.items()
    return name, ATTACKS.params(name).model_validate(section)


def _said(summary: dict[str, float]) -> str:
    return f"mean {summary['mean']:.4f}, 10th percentile {summary['percentile_10']:.4f}, worst {summary['worst']:.4f}"


if __name__ == "__main__":
    run_stage(without_arguments(main))
