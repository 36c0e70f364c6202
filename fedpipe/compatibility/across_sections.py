"""The rules across the sections of params.yaml."""

from typing import Any

from fedpipe.compatibility import round_size
from fedpipe.compatibility.privacy import seeded_noise_at_sites
from fedpipe.config.download import Download
from fedpipe.config.judge import Evaluate, held_out_count
from fedpipe.config.partition import Partition
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_noise_at_clients, has_noise_at_sites, has_secret_noise
from fedpipe.contracts.algorithm import ALGORITHMS


def validate(download: Download, partition: Partition, train: Train, evaluate: Evaluate) -> None:
    """The checks that no section can make alone.

    Raises:
      ValueError: Sections make no sense together; the message names the keys and the remedy.
    """
    _require_clients(download, partition)
    _require_unseen_tests(partition, train)
    _require_tests_for_personalising(partition, evaluate)
    _require_nothing_of_own_samples(train, evaluate)
    _require_samples_to_select_on(partition, train)
    _require_sites_for_their_noise(partition, train)
    _require_secret_noise_at_sites(partition, train)
    _require_a_weight_per_client(partition, train)
    _require_samples_here(partition, train)
    _require_a_global_model(train, evaluate)
    held_out = _held_out(partition, train, evaluate)
    # `partition.clients` is their number with every scheme, or it is refused.
    round_size.check_clients(train, partition.clients - held_out)


def _held_out(partition: Partition, train: Train, evaluate: Evaluate) -> int:
    """How many clients never train."""
    requested, clients = evaluate.held_out_clients, partition.clients
    if not requested:
        return 0
    count = held_out_count(requested, clients)
    if partition.scheme == "at_sites" or partition.sites is not None:
        key = "scheme' at_sites" if partition.sites is None else "sites'"
        raise ValueError(
            f"'evaluate.held_out_clients' is {requested}, and with 'partition.{key} each site decides which of its "
            "clients train: set it to 0, and let sites measure held-out samples (docs/federation.md)"
        )
    if has_secret_noise(train):
        raise ValueError(
            f"'evaluate.held_out_clients' is {requested}, which publishes accuracies on clients' own samples, and the "
            "training's noise is secret: set 'evaluate.held_out_clients' to 0"
        )
    if train.cohort == "fixed":
        raise ValueError(
            f"'evaluate.held_out_clients' is {requested}, a draw of clients that never train, and 'train.cohort' fixed "
            "names those that do: set one of them back (0, or 'train.cohort' uniform)"
        )
    if not count or count >= clients:
        trains = "holds out no client" if not count else "leaves none to train"
        raise ValueError(f"'evaluate.held_out_clients' is {requested}, which {trains} of {clients} 'partition.clients'")
    return count


def _require_clients(download: Download, partition: Partition) -> None:
    """Scheme by_column reads a table of its own, or the data set's column of clients."""
    named = download.dataset == "table" and download.table is not None and download.table.client is not None
    section: Any = partition.params_of("scheme")
    if partition.scheme == "by_column" and not section.table and not named:
        raise ValueError(
            "scheme by_column reads a CSV file: set 'partition.by_column.table' and its 'sha256' (or take dataset "
            "table, with a column of clients in 'download.table.client')"
        )


def _require_unseen_tests(partition: Partition, train: Train) -> None:
    """Which samples are held out depends on how many a client has, so a pool that has grown holds out others."""
    if train.init == "champion" and partition.client_test == "fraction":
        raise ValueError(
            "'train.init' is champion, but with 'partition.client_test' fraction the champion may have been "
            "trained on samples that are held out now: set 'partition.client_test' to same_distribution, or "
            "'train.init' to fresh"
        )


def _require_tests_for_personalising(partition: Partition, evaluate: Evaluate) -> None:
    """A model that trained on a client's samples is not measured on the same samples."""
    if evaluate.personalise.epochs and partition.client_test == "none":
        raise ValueError(
            f"'evaluate.personalise.epochs' is {evaluate.personalise.epochs}, which needs test samples of each "
            "client's own: set 'partition.client_test' to same_distribution or fraction, or "
            "'evaluate.personalise.epochs' to 0"
        )


def _require_nothing_of_own_samples(train: Train, evaluate: Evaluate) -> None:
    """With secret noise, nothing is published on clients' own samples."""
    if has_secret_noise(train) and evaluate.personalise.epochs:
        raise ValueError(
            f"'evaluate.personalise.epochs' is {evaluate.personalise.epochs}, which measures models on "
            "clients' own samples, and the training's noise is secret: set 'evaluate.personalise.epochs' to 0"
        )


def _require_sites_for_their_noise(partition: Partition, train: Train) -> None:
    if has_noise_at_sites(train) and partition.scheme != "at_sites":
        noise = train.params_of("aggregator").noise_multiplier
        raise ValueError(
            f"'train.{train.aggregator}.noise_multiplier' is {noise}, and sites of a federation add this noise: "
            "set 'partition.scheme' to at_sites, or the key to 0.0 (with noise in a simulation, take "
            "'train.aggregator' dp_gaussian)"
        )


def _require_secret_noise_at_sites(partition: Partition, train: Train) -> None:
    if partition.scheme == "at_sites" and has_noise_at_clients(train) and not has_secret_noise(train):
        raise ValueError(seeded_noise_at_sites(train))


def _require_a_weight_per_client(partition: Partition, train: Train) -> None:
    values = train.client_weights.values
    if values and len(values) != partition.clients:
        raise ValueError(
            f"'train.client_weights.values' has {len(values)} numbers, and 'partition.clients' is {partition.clients}: "
            "give one number for each client"
        )
    if train.client_rounds and partition.scheme == "at_sites":
        raise ValueError(
            "'train.client_rounds' is true, and sites of a federation ('partition.scheme' at_sites) send sums over "
            "their clients only: set it to false"
        )
    if train.client_weighting == "per_client" and partition.scheme == "at_sites":
        raise ValueError(
            "'train.client_weighting' is per_client, with which a coordinator could single out a client of a site "
            "('partition.scheme' at_sites): set it to examples or uniform"
        )


def _require_samples_here(partition: Partition, train: Train) -> None:
    """A baseline has no coordinator."""
    if partition.scheme == "at_sites" and ALGORITHMS.of(train.algorithm).is_baseline:
        raise ValueError(
            f"'train.algorithm' {train.algorithm} is a baseline without a federation, and 'partition.scheme' at_sites "
            "leaves the samples at the sites of one: set 'train.algorithm' to fed_avg, or let 'partition.sites' "
            "simulate the sites"
        )


def _require_a_global_model(train: Train, evaluate: Evaluate) -> None:
    """Raises ValueError for figures of a global model where none is trained."""
    if not ALGORITHMS.of(train.algorithm).HAS_NO_GLOBAL_MODEL:
        return
    measured = {
        "personalise.epochs": (evaluate.personalise.epochs, "trains a global model further at each client"),
        "held_out_clients": (evaluate.held_out_clients, "measures the global model at clients that have none"),
    }
    for key, (value, effect) in measured.items():
        if value:
            raise ValueError(
                f"'evaluate.{key}' is {value}, which {effect}, and 'train.algorithm' {train.algorithm} has no global "
                f"model: set 'evaluate.{key}' to 0"
            )


def _require_samples_to_select_on(partition: Partition, train: Train) -> None:
    if train.selecting and train.selection == "validation" and not partition.validation:
        raise ValueError(
            f"'train.{train.selecting[0]}' chooses a round by its validation accuracy, and 'partition.validation' is "
            "0: set 'partition.validation' to a number of samples, or 'train.selection' to test to choose by the test "
            "images, as many papers do, whose test accuracy then flatters the model"
        )
