"""Whether a batch waits for a person: the limits of ``incoming.hold`` in params.yaml.

As in drift, a figure is beyond its limit only by more than twice what chance shows in so many samples, so that a small
batch does not wait for being small.

| limit         | what is compared                                                          | by chance           |
| ------------- | ------------------------------------------------------------------------- | ------------------- |
| drift         | each measure of operations/drift/measures.py by its name                  | as there            |
| accuracy      | the champion's accuracy on the batch                                      | sqrt(e (1 - e) / n) |
| accuracy_loss | e less that, e its accuracy on test images of the same mix of labels      | sqrt(e (1 - e) / n) |
| rare_labels   | share of samples with labels that are new or rare: of less than           | sqrt(q (1 - q) / n) |
|               | 0.1 / classes of the former data; q is the share of all such labels there |                     |
"""

from functools import cached_property

import numpy as np

import layout
from fedpipe.config.incoming import Hold
from fedpipe.datasets import pool
from fedpipe.datasets.batch_file import Batch
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import Labelled, RawDataset
from operations.drift.champion import Champion, load_champion
from operations.drift.measures import Profile, compare, profile, shares

_RARE = 0.1  # of an even share


class Limits:
    """Measures batches against the data before them; reads data and champion at the first batch only."""

    def __init__(self, dataset: RawDataset, hold: Hold) -> None:
        self._dataset, self._hold = dataset, hold

    def reasons(self, batch: Batch) -> list[str]:
        """Why the batch has to wait, a phrase for each limit that it is beyond.

        Raises:
          PipelineError: Data is missing or damaged, or MLflow cannot be reached.
        """
        labels = self._dataset.kind.binned(batch.labels)
        return [
            *self._drift(batch.images, labels),
            *self._rare_labels(labels),
            *self._accuracy(batch.images, labels),
        ]

    def _drift(self, images: np.ndarray, labels: np.ndarray) -> list[str]:
        limits = {name: limit for name, limit in self._hold.drift.model_dump().items() if limit is not None}
        if not limits:
            return []
        beyond = [
            figure
            for figure in compare(self._former, images, labels)
            if figure.name in limits and abs(figure.value) > limits[figure.name] + 2 * figure.chance
        ]
        return [
            f"its {figure.name} is {figure.value:.2f} from that of the data before it (incoming.hold.drift."
            f"{figure.name}: {limits[figure.name]})"
            for figure in beyond
        ]

    def _rare_labels(self, labels: np.ndarray) -> list[str]:
        limit = self._hold.rare_labels
        if limit is None:
            return []
        before = shares(self._former.counts)
        rare = before < _RARE / len(before)
        share, share_before = float(rare[labels].mean()), float(before[rare].sum())
        if share <= limit + 2 * _chance(share_before, len(labels)):
            return []
        names = ", ".join(map(str, np.unique(labels[rare[labels]])))
        return [
            f"{share:.0%} of its samples have labels that are new or rare, {names} (incoming.hold.rare_labels: {limit})"
        ]

    def _accuracy(self, images: np.ndarray, labels: np.ndarray) -> list[str]:
        least, most = self._hold.accuracy, self._hold.accuracy_loss
        if (least is None and most is None) or self._champion is None:
            return []
        accuracy, expected = self._champion.accuracy(images, labels), self._champion.expected(labels)
        chance = 2 * _chance(expected, len(labels))
        text = f"the accuracy of {self._champion.name} on it is {accuracy:.2f}"
        reasons = []
        if least is not None and accuracy < least - chance:
            reasons.append(f"{text} (incoming.hold.accuracy: {least})")
        if most is not None and expected - accuracy > most + chance:
            reasons.append(
                f"{text}, and {expected:.2f} on test images of the same labels (incoming.hold.accuracy_loss: {most})"
            )
        return reasons

    @cached_property
    def _former(self) -> Profile:
        ours = Pool(layout.POOL)
        entries = pool.present(pool.of_dataset(ours.read_ledger(), self._dataset))
        parts: list[Labelled] = [self._dataset.read_train(layout.RAW), *map(ours.read_batch, entries)]
        samples, labels = pool.join(parts)
        return profile(samples, self._dataset.kind.binned(labels), self._dataset.kind.bins)

    @cached_property
    def _champion(self) -> Champion | None:
        return load_champion(self._dataset, self._dataset.read_test(layout.RAW))


def _chance(share: float, samples: int) -> float:
    """The standard deviation of a share among so many samples."""
    return float(np.sqrt(share * (1 - share) / samples))
