"""``python -m stages.partition``: split the training images into client shards."""

import json
import sys
from pathlib import Path

from fedpipe import config as params
from fedpipe import pinning
from fedpipe.atomic import atomic_file, atomic_folder
from fedpipe.command_line import without_arguments
from fedpipe.datasets import pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import write_shards
from fedpipe.errors import run_stage
from fedpipe.partitioning import held_out, measures
from fedpipe.partitioning.examples import examples
from fedpipe.partitioning.picture import draw
from fedpipe.partitioning.schemes import assign, client_names, scheme_name
from fedpipe.partitioning.skew import Skew
from fedpipe.partitioning.tables import assignment_table, client_test_table, label_table, samples_by_client
from fedpipe.seeds import Purpose

RAW = Path("data/raw")
CLIENTS = Path("data/clients")
CLIENT_TESTS = Path("data/client_tests")
METRICS = Path("metrics/partition.json")
CLIENT_TABLE = Path("plots/partition.csv")
PICTURE = Path("plots/partition.png")


def main() -> None:
    """Reads params and images, assigns samples to clients, writes shards, tables, figures and the picture."""
    settings = params.load(params.Partition)
    pinning.require_avx2()
    dataset = RawDataset.read(RAW)
    images, labels = pool.with_batches(dataset, dataset.read_train(RAW))
    test_images, test_labels = dataset.read_test(RAW)

    assignment, tested = held_out.split(assign(labels, settings), labels, test_labels, settings)
    members = samples_by_client(assignment, settings.clients)
    counts = label_table(labels, assignment, settings.clients, dataset.classes)
    names = client_names(settings)
    skew = Skew.draw(settings, dataset.classes)
    per_client = measures.client_measures(counts)
    figures = measures.summary(counts, per_client) | {"permuted_clients": len(skew.permutations)}
    # Nothing takes its place before everything is there.
    with (
        atomic_folder(CLIENTS) as clients,
        atomic_folder(CLIENT_TESTS) as tests,
        atomic_file(METRICS) as metrics,
        atomic_file(CLIENT_TABLE) as client_table,
        atomic_file(PICTURE) as picture,
    ):
        own = settings.client_test == "fraction"
        transform = skew.transform(Purpose.TRAIN_NOISE)
        manifest = write_shards(
            clients,
            dataset.name,
            images,
            labels,
            members,
            dataset.classes,
            transform,
            held_out="fraction" if own else None,
        )
        assignment_table(labels, assignment).to_csv(clients / "assignment.csv", index=False)
        counts.to_csv(clients / "labels.csv")
        if names is not None:
            names.to_csv(clients / "names.csv", index=False)
        if skew:
            skew.table(settings.clients).to_csv(clients / "skew.csv", index=False)

        source = (images, labels) if own else (test_images, test_labels)
        transform = skew.transform(Purpose.TEST_NOISE)
        of = manifest.digest if tested else None
        client_tests = write_shards(tests, dataset.name, *source, tested, dataset.classes, transform, of=of)
        drawn_from = "training_sample" if own else "test_sample"
        client_test_table(source[1], tested, drawn_from).to_csv(tests / "assignment.csv", index=False)

        metrics.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        per_client.to_csv(client_table, index=False)
        title = f"{manifest.dataset}, scheme {scheme_name(settings)}, {manifest.clients:,} clients"
        draw(counts, figures, title, picture, examples(clients, skew, per_client["samples"].to_numpy()))

    tests_said = f", {client_tests.samples:,} test samples of their own in {CLIENT_TESTS}" if tested else ""
    print(
        f"partition: {manifest.samples:,} samples over {manifest.clients} clients (scheme {settings.scheme}) "
        f"in {CLIENTS}{tests_said}",
        file=sys.stderr,
    )
    params.require_unchanged(settings)


if __name__ == "__main__":
    run_stage(without_arguments(main))
