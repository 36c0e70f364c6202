"""The comparison of new batches with the data before them: figures, and what they say in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpipe.datasets.raw import Labelled
from operations.drift.champion import Champion
from operations.drift.measures import Figure, Profile, accuracy_loss, compare, share_among, shares

_WORDS = {
    "label_mix": "its label mix is another one (total variation distance {value:.2f}; by chance {chance:.2f})",
    "brightness": "its images are {brighter} ({value:+.2f} standard deviations)",
    "contrast": "its images have {more} contrast ({value:+.2f} standard deviations)",
    "ink": "{more} of its pixels are not 0 ({value:+.2f} standard deviations)",
    "mean_image": "the mean images of its labels look different (distance {value:.3f}; by chance {chance:.3f})",
    "shift": "the mean of one of its values is {value:.2f} standard deviations away (by chance {chance:.2f})",
    "accuracy": "the champion does worse on it, by {value:.2f}",
}


@dataclass(frozen=True)
class Compared:
    """A batch, or all new batches together, against the former data."""

    name: str
    counts: np.ndarray  # int [classes]
    figures: list[Figure]
    accuracy: float | None  # the champion's
    in_training: float  # share of its images that the former training data has
    in_test: float

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return int(self.counts.sum())

    def findings(self, former_counts: np.ndarray) -> list[str]:
        """What stands out, a phrase each."""
        sentences = [_in_words(figure) for figure in self.figures if figure.stands_out]
        if unseen := [str(label) for label in np.flatnonzero((self.counts > 0) & (former_counts == 0))]:
            sentences.append(f"it has labels that were not there before: {', '.join(unseen)}")
        if self.in_test:
            sentences.append(
                f"{self.in_test:.1%} of its samples are test samples: accuracy on them would flatter the model"
            )
        if self.in_training > 0.01:
            sentences.append(f"{self.in_training:.1%} of its samples are in the training data already")
        return sentences

    def as_dict(self, former_counts: np.ndarray) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return {
            "name": self.name,
            "samples": self.samples,
            "labels": self.counts.tolist(),
            "figures": {
                f.name: {"value": f.value, "chance": f.chance, "stands_out": f.stands_out} for f in self.figures
            },
            "champion_accuracy": self.accuracy,
            "in_training": self.in_training,
            "in_test": self.in_test,
            "findings": self.findings(former_counts),
        }


def _in_words(figure: Figure) -> str:
    brighter, more = ("brighter", "more") if figure.value > 0 else ("darker", "less")
    return _WORDS[figure.name].format(value=figure.value, chance=figure.chance, brighter=brighter, more=more)


def compare_batch(
    name: str, batch: Labelled, former: Profile, known: tuple[np.ndarray, np.ndarray], champion: Champion | None
) -> Compared:
    """Compares one batch.

    Args:
      name: Its name.
      batch: Its images and labels.
      former: The training data before it.
      known: The training images before it, and the test images.
      champion: The model in use, if there is one that takes such samples and classifies them.
    """
    images, labels = batch
    figures = compare(former, images, labels)
    accuracy = None
    if champion:
        accuracy = champion.accuracy(images, labels)
        figures.append(accuracy_loss(champion.on_test, accuracy, len(labels)))
    counts = np.bincount(labels, minlength=len(former.counts))
    return Compared(name, counts, figures, accuracy, share_among(images, known[0]), share_among(images, known[1]))


def markdown(compared: Sequence[Compared], former: Profile, dataset: str, champion: Champion | None) -> str:
    """The report as a person reads it: first in words, then the figures, then how they are made."""
    *batches, everything = compared
    shown = compared if len(batches) > 1 else batches
    lines = [
        "## Drift: the new data against the data before it",
        "",
        f"New batches: {len(batches)}, with {everything.samples:,} samples of {dataset} after {former.counts.sum():,}.",
        "",
    ]
    for part in shown:
        findings = part.findings(former.counts)
        lines.append(f"- **{part.name}**: {'; '.join(findings) if findings else 'nothing stands out'}")
    measures = [figure.name.replace("_", " ") for figure in everything.figures if figure.name != "accuracy"]
    head = ["", "samples", *measures, "champion's accuracy"]
    lines += ["", _row(head), _row(["---"] * len(head))]
    for part in shown:
        cells = [_cell(figure) for figure in part.figures if figure.name != "accuracy"]
        lines.append(_row([part.name, f"{part.samples:,}", *cells, _accuracy(part)]))
    if champion:
        lines.append(_row(["test samples", "", *[""] * len(measures), f"{champion.on_test:.4f}"]))
    labels = [str(label) for label in range(len(former.counts))]
    lines += ["", "Share of each label:", "", _row(["", *labels]), _row(["---"] * (len(labels) + 1))]
    for name, counts in [("before", former.counts), *((part.name, part.counts) for part in shown)]:
        lines.append(_row([name, *(f"{share:.3f}" for share in shares(counts))]))
    model = (
        f"The champion is {champion.name}."
        if champion
        else "There is no champion that takes such samples and classifies them."
    )
    lines += [
        "",
        f"**Bold** stands out: above its threshold by more than twice what chance shows in so many samples. {model} "
        "Formulas and thresholds are in `operations/drift/measures.py`.",
        "",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(figure: Figure) -> str:
    return f"**{figure.value:.3f}**" if figure.stands_out else f"{figure.value:.3f}"


def _accuracy(part: Compared) -> str:
    if part.accuracy is None:
        return "-"
    worse = any(figure.name == "accuracy" and figure.stands_out for figure in part.figures)
    return f"**{part.accuracy:.4f}**" if worse else f"{part.accuracy:.4f}"
