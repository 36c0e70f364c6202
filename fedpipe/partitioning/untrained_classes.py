"""Classes that no client has a training sample of: no model learns them, whatever the params."""

from typing import Any

import numpy as np
import pandas as pd


class UntrainedClasses:
    """The classes without a training sample, and how many test samples have one of them."""

    def __init__(self, counts: pd.DataFrame, test_labels: np.ndarray) -> None:
        """Counts them.

        Args:
          counts: Clients x classes, how many training samples of each class each client has.
          test_labels: Labels of the test samples, integers [n].
        """
        self.classes = [int(label) for label in counts.columns[counts.sum() == 0]]
        self.test_samples = int(np.isin(test_labels, self.classes).sum())
        self._all_test_samples = len(test_labels)

    def figures(self) -> dict[str, Any]:
        """For the partition's metrics: how many classes, and how many test samples of them."""
        return {"untrained_classes": {"classes": len(self.classes), "test_samples": self.test_samples}}

    def __str__(self) -> str:
        """A clause that names the classes and says what that means for the test; empty if there is none."""
        if not self.classes:
            return ""
        named = ", ".join(map(str, self.classes))
        return (
            f"no client has a training sample of {'class' if len(self.classes) == 1 else 'classes'} {named}, but "
            f"{self.test_samples:,} of {self._all_test_samples:,} test samples are of them"
        )
