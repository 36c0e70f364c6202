"""The rules of section ``train``: those across its keys, and those that the chosen files say."""

from fedpipe.compatibility import aggregation, asynchrony, privacy, round_size
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS, asynchrony_of
from fedpipe.contracts.cohort import COHORTS
from fedpipe.contracts.train import chosen


def check(settings: Train) -> None:
    """Checks a training before any stage runs.

    Raises:
      ValueError: Choices make no sense together; the message names the keys and the remedy.
    """
    aggregator = AGGREGATORS.of(settings.aggregator)
    if (rules := asynchrony_of(settings)) is not None:
        asynchrony.check(settings, rules, aggregator)
    for choice in chosen(settings):
        choice.check(settings)
    aggregation.check(settings, ALGORITHMS.of(settings.algorithm), COHORTS.of(settings.cohort), aggregator)
    privacy.check(settings)
    round_size.check(settings)
