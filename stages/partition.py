"""``python -m stages.partition``: split the training images into client shards."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

import layout
from fedpipe import params, pinning
from fedpipe.atomic import write_text
from fedpipe.command_line import without_arguments
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, write_at_sites, write_shards
from fedpipe.errors import PipelineError
from fedpipe.json_model import json_text
from fedpipe.outputs.staging import StagedOutputs
from fedpipe.outputs.writer import only_writer
from fedpipe.partitioning import (
    growth,
    held_out_clients,
    held_out_samples,
    site_report,
    skew_measures,
    validation_samples,
)
from fedpipe.partitioning.client_skew import Skew, require_skew_fits
from fedpipe.partitioning.example_images import examples
from fedpipe.partitioning.own_clients import with_own_clients
from fedpipe.partitioning.partition_picture import plot
from fedpipe.partitioning.partition_tables import assignment_table, client_test_table, label_table, samples_by_client
from fedpipe.partitioning.untrained_classes import UntrainedClasses
from fedpipe.seeds import Purpose
from fedpipe.stage_process import run_stage
from layout import (
    CLIENT_TESTS,
    CLIENTS,
    HELD_OUT_CLIENTS,
    PARTITION,
    PARTITION_PICTURE,
    PARTITION_TABLE,
    RAW,
    SKEW_TABLE,
    VALIDATION,
)

COPIES = layout.COPIES / "partition"
OUTPUTS = (CLIENTS, CLIENT_TESTS, HELD_OUT_CLIENTS, VALIDATION, PARTITION, PARTITION_TABLE, PARTITION_PICTURE, COPIES)


def main() -> None:
    """Splits the training images, with the folder's outputs to itself."""
    with (
        only_writer("partition", layout.stage_lock("partition")),
        StagedOutputs("partition", dict.fromkeys(OUTPUTS, 0)) as outputs,
    ):
        _split(outputs)


def _split(outputs: StagedOutputs) -> None:
    """Reads params and images, assigns samples to clients, writes shards, tables, figures and the picture."""
    params.validate(layout.PARAMS)
    requested = params.load(params.Partition, layout.PARAMS)
    evaluation = params.load(params.Evaluate, layout.PARAMS)
    pinning.require_avx2()
    dataset = RawDataset.read(RAW)
    if PARTITIONERS.of(requested.scheme).AT_SITES:
        _ask_sites(requested, dataset, outputs)
        params.require_unchanged(requested, layout.PARAMS)
        return
    samples = Pool(layout.POOL).training_samples(dataset, dataset.read_train(RAW))
    kind = dataset.kind
    require_skew_fits(requested, kind)
    images, values = samples.images, samples.labels  # values are what shards hold: classes, or numbers
    test_images, test_values = dataset.read_test(RAW)
    # Labels that are numbers are dealt, counted and drawn by their bins.
    labels, test_labels = kind.binned(values), kind.binned(test_values)

    with_clients = with_own_clients(requested, dataset, RAW)
    dealt = growth.deal(samples.binned(kind), with_clients)
    settings = with_clients.model_copy(update={"clients": dealt.clients})  # with those that are new since it was asked
    validation = dealt.validation
    assignment, tested = held_out_samples.split(dealt.assignment, labels, test_labels, settings)
    division = held_out_clients.divided(
        evaluation.held_out_clients, with_clients.clients, settings.clients, requested.seed
    )
    members = samples_by_client(assignment, settings.clients)
    counts = label_table(labels, assignment, settings.clients, kind.bins)
    skew = Skew.sample(settings, kind.bins)
    per_client = skew_measures.client_measures(counts)
    untrained = UntrainedClasses(counts.loc[division.training], test_labels)
    figures = skew_measures.summary(counts, per_client)
    figures |= {"permuted_clients": len(skew.permutations)} | untrained.figures()
    figures |= {"held_out_clients": len(division.held_out)} if len(division.held_out) else {}
    chosen = settings.scheme if settings.quantity == "even" else f"{settings.scheme}, quantity {settings.quantity}"
    from_training = settings.client_test == "fraction"

    of_training = images, values
    of_tests = of_training if from_training else (test_images, test_values)

    def write(folder: Path, source: tuple[np.ndarray, np.ndarray], parts: list[np.ndarray], **others: Any) -> Manifest:
        """Shards of ``source`` in a new folder; ``others`` as of `write_shards`."""
        folder.mkdir(parents=True)
        return write_shards(
            folder, dataset.name, *source, parts, dataset.classes, sample_format=dataset.format, **others
        )

    with outputs.writing(CLIENTS) as clients:
        manifest = write(
            clients,
            of_training,
            [members[client] for client in division.training],
            transform=skew.transform(Purpose.TRAIN_NOISE),
            held_out="fraction" if from_training else None,
            sites=settings.sites,
            numbers=division.numbers(),
        )
        trained_on = division.assigned(assignment, division.training)
        assignment_table(labels, trained_on).to_csv(clients / "assignment.csv", index=False)
        counts.loc[division.training].to_csv(clients / "labels.csv")
        if dealt.names is not None:
            dealt.names.to_csv(clients / "names.csv", index=False)
        if skew:
            skew.table(settings.clients).to_csv(clients / SKEW_TABLE, index=False)
    drawn_from = "training_sample" if from_training else "test_sample"

    def write_tests(tests: Path, mine: np.ndarray) -> Manifest:
        """The test samples of some clients, none where no client has any."""
        parts = [tested[client] for client in mine] if tested else []
        written = write(
            tests,
            of_tests,
            parts,
            transform=skew.transform(Purpose.TEST_NOISE),
            clients_digest=manifest.digest if parts else None,
            numbers=mine if len(division.held_out) and parts else None,
        )
        table = client_test_table(labels if from_training else test_labels, parts, drawn_from)
        table.assign(client=mine[table["client"]] if parts else table["client"]).to_csv(
            tests / "assignment.csv", index=False
        )
        return written

    with outputs.writing(CLIENT_TESTS) as tests:
        client_tests = write_tests(tests, division.training)
    with outputs.writing(HELD_OUT_CLIENTS) as folder:
        shards = folder / "clients"
        write(
            shards,
            of_training,
            [members[client] for client in division.held_out],
            transform=skew.transform(Purpose.TRAIN_NOISE),
            clients_digest=manifest.digest if len(division.held_out) else None,
            numbers=division.held_out if len(division.held_out) else None,
        )
        never = division.assigned(assignment, division.held_out)
        assignment_table(labels, never).dropna().to_csv(shards / "assignment.csv", index=False)
        write_tests(folder / "tests", division.held_out)
    with outputs.writing(VALIDATION) as folder:
        parts = [validation] if len(validation) else []
        write(folder, of_training, parts, clients_digest=manifest.digest if parts else None)
        validation_samples.table(labels, validation).to_csv(folder / "assignment.csv", index=False)
        figures |= {"validation_samples": len(validation)} if parts else {}
    with outputs.writing(PARTITION) as path:
        write_text(path, json_text(figures))
    if len(division.held_out):
        per_client = per_client.assign(held_out=per_client["client"].isin(division.held_out).astype(int))
    with outputs.writing(PARTITION_TABLE) as path:
        per_client.to_csv(path, index=False)
    with outputs.writing(PARTITION_PICTURE) as path:
        title = f"{manifest.dataset}, scheme {chosen}, {settings.clients:,} clients"
        sizes = per_client["samples"].to_numpy()[division.training]
        shown = examples(clients, skew, sizes, division.training) if kind.is_image else []
        plot(counts, figures, title, path, shown)
    outputs.copy([PARTITION], COPIES)
    outputs.place()

    tests_said = f", {client_tests.samples:,} test samples of their own in {CLIENT_TESTS}" if tested else ""
    held_out = f", {len(division.held_out)} clients that never train in {HELD_OUT_CLIENTS}"
    tests_said += held_out if len(division.held_out) else ""
    tests_said += f", {len(validation):,} validation samples in {VALIDATION}" if len(validation) else ""
    print(
        f"partition: {manifest.samples:,} samples over {manifest.clients} clients (scheme {chosen}) "
        f"in {CLIENTS}{tests_said}{f'; {untrained}' if untrained.classes else ''}",
        file=sys.stderr,
    )
    params.require_unchanged(requested, layout.PARAMS)
    params.require_unchanged(evaluation, layout.PARAMS, "partition", ["held_out_clients"])


def _ask_sites(settings: params.Partition, dataset: RawDataset, outputs: StagedOutputs) -> None:
    """Asks the sites what they have, and writes that: no sample, and no label."""
    from fedpipe.federation.answers import described
    from fedpipe.federation.fitting import require_fitting_params
    from fedpipe.links.opening import open_link
    from fedpipe.links.settings import LinkSettings

    names = settings.params_of("scheme").sites
    link_settings = LinkSettings.read(layout.FEDERATION, layout.FEDERATION_CERTIFICATES)
    with open_link(link_settings, names, lambda line: print(f"partition: {line}", file=sys.stderr)) as link:
        (first, *_), sites = described(link, names, samples=dataset.format)
    ours, theirs = (dataset.image_shape, dataset.classes), (tuple(first.image_shape), first.classes)
    table = site_report.table(sites)
    if (dataset.name, *ours) != (first.dataset, *theirs):
        raise PipelineError(
            f"the sites have {first.dataset}, samples {theirs[0]} of {theirs[1]} classes, and {RAW} has "
            f"{dataset.name}, samples {ours[0]} of {ours[1]} classes: they must be equal"
        )
    if len(table) != settings.clients:
        raise PipelineError(
            f"params.yaml: 'partition.clients' is {settings.clients}, and the sites have {len(table)}: set it to that"
        )
    require_fitting_params(layout.PARAMS, sites)
    with outputs.writing(CLIENTS) as clients:
        clients.mkdir()
        write_at_sites(clients, dataset.name, dataset.image_shape, dataset.classes, sites, dataset.format)
    kind = dataset.kind
    samples, labels = np.dtype(kind.format.samples), kind.format.label_type
    nothing = np.zeros((0, *kind.shape), samples), np.zeros((0, *kind.label_shape), labels)
    for output, folders in ((CLIENT_TESTS, [""]), (HELD_OUT_CLIENTS, ["clients", "tests"]), (VALIDATION, [""])):
        with outputs.writing(output) as path:
            for folder in folders:
                (path / folder).mkdir(parents=True)
                write_shards(path / folder, dataset.name, *nothing, [], dataset.classes, sample_format=dataset.format)
    with outputs.writing(PARTITION) as path:
        write_text(path, json_text(site_report.figures(table)))
    with outputs.writing(PARTITION_TABLE) as path:
        table.to_csv(path, index=False)
    with outputs.writing(PARTITION_PICTURE) as path:
        title = f"{dataset.name}, {len(names)} sites, {len(table):,} clients"
        site_report.plot(table, title, path)
    outputs.copy([PARTITION], COPIES)
    outputs.place()
    known = f"{table['samples'].sum():,} samples of " if table["samples"].notna().all() else ""
    print(f"partition: {known}{len(table)} clients at {', '.join(names)}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(without_arguments(main), layout.FAILURE)
