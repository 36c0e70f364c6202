"""The choices that go with a model whose batch normalization is trained.

Its statistics are weights that no gradient moves. Either an algorithm averages them over the cohort, as a part of the
update, or clients keep them (`fed_bn`). All else is rejected by name: control variates, gradients of all samples,
staleness and scaled updates have no meaning for them, and clipping or rounding would take them for gradients.
"""

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.model import MODELS


def validate(settings: Train) -> None:
    """Checks what is known before the model is built; errors as of `train.validate`."""
    if MODELS.of(settings.model).has_batch_norm(settings):
        require_fit(settings)


def require_fit(settings: Train) -> None:
    """Checks the choices beside a model whose batch normalization is trained.

    Raises:
      ValueError: One of them cannot carry its statistics; the message names it and the remedy.
    """
    beginning = f"'train.model' {settings.model} trains batch normalization"
    role = ALGORITHMS.of(settings.algorithm).BATCH_NORM
    if role == "kept":
        return
    if role != "averaged":
        fitting = [name for name, algorithm in ALGORITHMS.all() if algorithm.BATCH_NORM]
        raise ValueError(
            f"{beginning}, whose statistics 'train.algorithm' {settings.algorithm} would not average over the clients: "
            f"choose one of {', '.join(fitting)}"
        )
    if not AGGREGATORS.of(settings.aggregator).AVERAGES_BATCH_NORM:
        fitting = [name for name, aggregator in AGGREGATORS.all() if aggregator.AVERAGES_BATCH_NORM]
        raise ValueError(
            f"{beginning}, whose statistics 'train.aggregator' {settings.aggregator} would take for gradients: choose "
            f"one of {', '.join(fitting)}, or 'train.algorithm' fed_bn, whose clients keep them"
        )
    if settings.compressor != "no_compression":
        raise ValueError(
            f"{beginning}, whose statistics 'train.compressor' {settings.compressor} would change: set it to "
            "no_compression, or choose 'train.algorithm' fed_bn, whose clients keep them"
        )
