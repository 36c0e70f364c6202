"""The rules across the sections of params.yaml."""

from fedpipe.compatibility import round_size
from fedpipe.config.judge import Evaluate
from fedpipe.config.partition import Partition
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_secret_noise


def check(partition: Partition, train: Train, evaluate: Evaluate) -> None:
    """Checks what no section can check alone.

    Raises:
      ValueError: Sections make no sense together; the message names the keys and the remedy.
    """
    _require_unseen_tests(partition, train)
    _require_tests_for_personalising(partition, evaluate)
    _require_nothing_of_own_samples(train, evaluate)
    train.check_selection(["validation", "test"] if partition.validation else ["test"])
    round_size.check_clients(train, partition.clients)  # which is their number with every scheme, or it is refused


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
    """With secret noise, nothing is told of clients' own samples."""
    if has_secret_noise(train) and evaluate.personalise.epochs:
        raise ValueError(
            f"'evaluate.personalise.epochs' is {evaluate.personalise.epochs}, which measures models on "
            "clients' own samples, and 'train.privacy.noise' is secret: set 'evaluate.personalise.epochs' to 0"
        )
