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
from fedpipe.datasets.shards import Manifest, read_held_out, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation import held_out, held_out_clients
from fedpipe.evaluation.answers import answers
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.global_model import attack_figures
from fedpipe.evaluation.identity import has_global_model, has_personal, require_same_data_set, require_trained
from fedpipe.evaluation.measures import goodness, logits_in_batches, mean_loss
from fedpipe.evaluation.own_models import on_own_samples, on_test
from fedpipe.evaluation.personal import TRAINED_ON_THEM, accuracy_of_own, fine_tuned
from fedpipe.evaluation.pictures import draw_clients
from fedpipe.json_model import json_text
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
    HELD_OUT_CLIENTS,
    PERSONAL,
    PREDICTIONS,
    RAW,
    TRAINING,
    WEIGHTS,
)

COPIES = layout.COPIES / "evaluate"
_HELD_OUT = (HELD_OUT_CLIENTS / "clients", HELD_OUT_CLIENTS / "tests")
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
    params.validate(layout.PARAMS)
    settings = params.load(params.Evaluate, layout.PARAMS)
    pinning.require_avx2()
    manifest = Manifest.read(CLIENTS)
    require_trained(WEIGHTS, TRAINING)
    model, weights = load_weights(WEIGHTS)
    spec = model.spec
    if spec.kind != manifest.kind:
        raise PipelineError(
            f"{WEIGHTS} takes {spec.kind}, but {CLIENTS} holds {manifest.kind}: run the train stage again"
        )
    if settings.metrics and spec.kind.label_kind == "numbers":
        raise PipelineError(
            f"params.yaml: 'evaluate.metrics' names {settings.metrics[0]}, which is for classes, and the data set's "
            "labels are numbers: set it to []"
        )
    dataset = RawDataset.read(RAW)
    require_same_data_set(dataset, manifest, RAW, CLIENTS)
    images, labels = dataset.read_test(RAW)
    verify_shards(CLIENTS, manifest)
    tests = read_held_out(CLIENT_TESTS, manifest)
    verify_shards(CLIENT_TESTS, tests)
    if settings.personalise.epochs and not tests.clients:
        raise PipelineError(
            f"params.yaml: 'evaluate.personalise.epochs' is {settings.personalise.epochs}, but {CLIENT_TESTS} holds no "
            "samples: set it to 0, or 'partition.client_test' to same_distribution or fraction"
        )

    at_sites = manifest.samples_at == "sites"
    withholds = layout.pipeline_files().withholds
    own_models = None if has_global_model(TRAINING) else _personal_models(model, manifest)
    # By what the figures are measured on: the test images and the clients' test samples, and what clients trained on.
    test: dict[str, Any]
    if own_models is None:
        logits = logits_in_batches(model.classifier(weights), images, settings.batch_size)
        of_test = answers(model, logits, labels, settings.metrics)
        test = {
            "loss": mean_loss(model, logits, labels),
            "accuracy": float(goodness(model, logits, labels).mean()),
        }
        shown_model, shown_accuracy = spec.model, test["accuracy"]
    else:
        every = on_test(model, own_models, images, labels, settings.batch_size, settings.metrics)
        test, of_test, shown_accuracy = every.figures, every.answers, every.accuracy
        shown_model = f"{spec.model} of client {every.client}, the median of {manifest.clients},"
    attacked = attack_figures(*_attack(), model, weights, images, labels, settings.batch_size)
    test |= {name.removeprefix("test_"): value for name, value in attacked.items()}
    if own_models is not None:
        own_tests = CLIENT_TESTS if tests.clients else None
        clients, of_clients = on_own_samples(model, own_models, CLIENTS, own_tests, settings.batch_size)
    elif withholds:
        clients, of_clients = _withheld(manifest)
    elif at_sites:
        clients, of_clients = _of_sites(model, weights, manifest, settings)
    else:
        clients, of_clients = _of_clients(model, weights, manifest, tests, settings)
    never_trained = _held_out(manifest)
    if never_trained.clients:
        rows, figures = held_out_clients.measured(model, weights, *_HELD_OUT, settings)
        clients, of_clients = held_out_clients.joined(clients, rows), of_clients | {"clients": {"held_out": figures}}
    test, train = test | of_clients["test"], of_clients["train"]
    test |= of_test.figures if own_models is None else {}
    metrics = {"test": test, "train": train, **{key: of_clients[key] for key in of_clients if key == "clients"}}

    if not math.isfinite(test["loss"]):
        raise PipelineError(f"the loss of {WEIGHTS} on the test images is not finite: train again with lower rates")

    with outputs.writing(EVALUATION) as path:
        write_text(path, json_text(metrics))
    tables = ((CLASS_TABLE, of_test.classes), (CLIENT_TABLE, clients), (PREDICTIONS, of_test.predictions))
    for output, table in tables:
        with outputs.writing(output) as path:
            table.to_csv(path, index=False)
    images_or_samples = "images" if spec.kind.is_image else "samples"
    title = f"{shown_model} on the {len(labels):,} test {images_or_samples}: accuracy {shown_accuracy:.4f}"
    with outputs.writing(CONFUSION_PICTURE) as path:
        of_test.draw(title, path)
    title = f"{spec.model} on each of {manifest.clients} clients' samples"
    with outputs.writing(CLIENT_PICTURE) as path:
        draw_clients(clients, {name: part.get("clients") for name, part in metrics.items()}, title, path)
    outputs.copy([EVALUATION, CLASS_TABLE, CLIENT_TABLE], COPIES)
    outputs.place()
    print(
        f"evaluate: test loss {test['loss']:.4f}, test accuracy {test['accuracy']:.4f} on {len(labels):,} "
        f"{images_or_samples}; {_of_each_client(train, test, withholds)}",
        file=sys.stderr,
    )
    if "mean" in (held_out_figures := of_clients.get("clients", {}).get("held_out", {})):
        print(
            f"evaluate: accuracy of {never_trained.clients} clients that never trained: {_summary(held_out_figures)}",
            file=sys.stderr,
        )
    if "personalisation" in train:
        print(f"evaluate: {TRAINED_ON_THEM}", file=sys.stderr)
    record.log_results(
        weights=WEIGHTS,
        params={"evaluate": params.used(settings)},
        metrics=metrics,
        tables=[EVALUATION, CLASS_TABLE, CLIENT_TABLE, PREDICTIONS],
        pictures=[CONFUSION_PICTURE, CLIENT_PICTURE],
    )
    params.require_unchanged(settings, layout.PARAMS)


def _held_out(manifest: Manifest) -> Manifest:
    """The manifest of the clients that never train, whose shards and tests are verified; there may be none."""
    shards, tests = (read_held_out(folder, manifest) for folder in _HELD_OUT)
    for folder, own in zip(_HELD_OUT, (shards, tests), strict=True):
        verify_shards(folder, own)
    return shards


def _of_clients(
    model: Network, weights: Weights, manifest: Manifest, tests: Manifest, settings: params.Evaluate
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The table of clients, and figures of it by what they are measured on: ``train`` and ``test``."""
    test: dict[str, Any] = {}
    clients = accuracy_per_client(model, weights, CLIENTS, manifest.clients, settings.batch_size).add_prefix("train_")
    clients = clients.rename(columns={"train_client": "client"}).assign(client=manifest.client_numbers)
    train: dict[str, Any] = {"clients": spread(clients["train_accuracy"].to_numpy())}
    if tests.clients:
        tested = accuracy_per_client(model, weights, CLIENT_TESTS, tests.clients, settings.batch_size)
        clients = clients.assign(test_samples=tested["samples"], test_accuracy=tested["accuracy"])
        test["clients"] = {"samples": tests.samples, **spread(clients["test_accuracy"].to_numpy())}
        test |= held_out.section(held_out.by_site(model, weights, CLIENT_TESTS, manifest, settings.batch_size))
    own, personalisation = _personalised(model, weights, manifest, settings, clients)
    if own:
        (test if tests.clients else train)["personalisation"] = personalisation
    return clients.assign(**own), {"train": train, "test": test}


def _of_sites(
    model: Network, weights: Weights, manifest: Manifest, settings: params.Evaluate
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The same where samples are at sites, as far as these tell it."""
    from fedpipe.federation.measuring import ask_sites
    from fedpipe.federation.secure_measuring import roster_of
    from fedpipe.links.opening import open_link
    from fedpipe.links.settings import LinkSettings

    link_settings = LinkSettings.read(layout.FEDERATION, layout.FEDERATION_CERTIFICATES)
    names = [site.name for site in manifest.sites or ()]
    roster = roster_of(layout.PARAMS, layout.ROSTER)
    with open_link(link_settings, names, lambda line: print(f"evaluate: {line}", file=sys.stderr)) as link:
        of_sites = ask_sites(link, manifest, model, weights, settings.batch_size, link_settings.quorum, roster)
    if of_sites.because:
        print(f"evaluate: not all sites measure held-out samples. {of_sites.sentence()}", file=sys.stderr)
    return of_sites.clients, of_sites.figures()


def _withheld(manifest: Manifest) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The same where the noise is secret: nothing is published on clients' data."""
    table = pd.DataFrame({"client": range(manifest.clients), "train_samples": None, "train_accuracy": math.nan})
    return table, {"train": {}, "test": {}}


def _personalised(
    model: Network, weights: Weights, manifest: Manifest, settings: params.Evaluate, clients: pd.DataFrame
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns for the table of clients, and how each kind of model serves them; empty if there are none but the global.

    A client's samples are the held-out ones if there are any, else those that it trained on; the columns' names say it.
    """
    samples, folder = ("test", CLIENT_TESTS) if "test_accuracy" in clients else ("train", CLIENTS)
    kinds = {"global": clients[f"{samples}_accuracy"].to_numpy()}
    if settings.personalise.epochs:
        tuned = fine_tuned(model, weights, CLIENTS, settings.personalise)
        kinds["personalised"] = accuracy_of_own(model, tuned, folder, settings.batch_size, "personalise")
    personal = _personal_models(model, manifest)
    if personal is not None:
        kinds["personal"] = accuracy_of_own(model, personal.of, folder, settings.batch_size)
    columns: dict[str, Any] = {f"{samples}_{kind}_accuracy": kinds[kind] for kind in kinds if kind != "global"}
    clusters = personal.client_model if personal is not None and personal.clusters else None
    if clusters is not None:
        columns["cluster"] = clusters
    return columns, {kind: spread(values, clusters) for kind, values in kinds.items()} if columns else {}


def _personal_models(model: Network, manifest: Manifest) -> PersonalModels | None:
    """The clients' own models; None if the training has none."""
    return PersonalModels.open(PERSONAL, model, manifest.clients) if has_personal(PERSONAL, TRAINING) else None


def _attack() -> tuple[str, Any]:
    """The attack of the training, and its params."""
    attack = json.loads(TRAINING.read_text(encoding="utf-8")).get("attack", {"no_attack": {}})
    ((name, section),) = attack.items()
    return name, ATTACKS.of(name).Params.model_validate(section)


def _of_each_client(train: dict[str, Any], test: dict[str, Any], withholds: bool) -> str:
    """What is printed of clients' own samples."""
    if "clients" in train:
        on_tests = f"; on their test samples: {_summary(test['clients'])}" if test.get("clients") else ""
        return f"clients' accuracy on their training samples: {_summary(train['clients'])}{on_tests}"
    if "held_out" in test:
        held = test["held_out"]
        sites = f"at {len(test['sites'])} sites" if "sites" in test else "by a secure sum over sites"
        return f"accuracy {held['accuracy']:.4f} on {held['samples']:,} held-out samples {sites}"
    why = "the noise is secret (docs/privacy.md)" if withholds else "their samples are at sites (docs/federation.md)"
    return f"clients' own accuracies are withheld, for {why}"


def _summary(summary: dict[str, float]) -> str:
    return f"mean {summary['mean']:.4f}, 10th percentile {summary['percentile_10']:.4f}, worst {summary['worst']:.4f}"


if __name__ == "__main__":
    run_stage(without_arguments(main), layout.FAILURE)
