"""The rules of section ``train``: those across its keys, and those that the chosen files say."""

from fedpipe.compatibility import aggregation, asynchrony, baselines, batch_norm, privacy, round_size
from fedpipe.config.train import Train
from fedpipe.contracts.train import chosen


def validate(settings: Train) -> None:
    """Checks a training before any stage runs.

    Raises:
      ValueError: Choices make no sense together; the message names the keys and the remedy.
    """
    asynchrony.validate(settings)
    baselines.validate(settings)
    for choice in chosen(settings):
        choice.check(settings)
    aggregation.validate(settings)
    batch_norm.validate(settings)
    privacy.validate(settings)
    round_size.validate(settings)
