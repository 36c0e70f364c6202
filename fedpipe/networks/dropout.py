"""Dropout by stateless draws, so that a training step drops the same units whenever and wherever it runs."""

from typing import Any

from fedpipe.lazy import tf


class Dropout:
    """Leaves out units of one forward pass; without a seed, as in evaluation, it leaves all of them in."""

    def __init__(self, seed: Any = None) -> None:
        """``seed``: int32 [2], another one for each step of each client."""
        self._seed, self._calls = seed, 0

    @property
    def training(self) -> bool:
        """Whether it leaves units out."""
        return self._seed is not None

    def __call__(self, units: Any, rate: float) -> Any:
        """Sets each of ``units`` (float32, any shape) to 0 with probability ``rate``, and scales the others up.

        Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", scaled in
        training (by 1 / (1 - rate)) and not in evaluation.
        """
        if not self.training or not rate:
            return units
        self._calls += 1
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._calls, alg="philox")
        drawn = tf.random.stateless_uniform(tf.shape(units), seed, alg="philox")
        return tf.where(drawn >= rate, units / (1 - rate), tf.zeros_like(units))
