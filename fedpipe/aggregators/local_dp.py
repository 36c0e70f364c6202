"""Local DP, for comparison: each client clips its update and adds Gaussian noise before it sends it.

    mean = 1 / n sum_k (u_k min(1, C / ||u_k||) + N(0, (z C)^2))

over the n selected clients. The server need not be trusted; in return the noise of the mean is sqrt(n) times
that of `dp_gaussian` at the same ``noise_multiplier`` z. That holds in a federation, where each site draws the noise of
its clients with a key of its own. A simulation draws it from params.yaml, or from one key of the process that has all
samples.

Source: Duchi et al. 2013, "Local Privacy and Statistical Minimax Rates", https://arxiv.org/abs/1302.3203, for the
model; Dwork and Roth 2014, "The Algorithmic Foundations of Differential Privacy", appendix A, for Gaussian noise,
https://www.cis.upenn.edu/~aaroth/Papers/privacybook.pdf.
"""

from typing import Any

from fedpipe.config.privacy import NoiseMultiplier
from fedpipe.config.section import Positive, Section
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.local_training import clip
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import bytes_of
from fedpipe.privacy.mechanism import LocalGaussian
from fedpipe.privacy.noise import add_gaussian
from fedpipe.privacy.requirements import require_one_equal_message
from fedpipe.privacy.sampling import require_sampling

# Epsilon also holds if clients drop out or come in turn, whatever their data are (docs/privacy.md).
COUNTS_DROPOUTS = True
NOISE_AT_CLIENTS = True


class Params(Section):
    """``norm``: C; ``noise_multiplier``: z."""

    norm: Positive = 1.0
    noise_multiplier: NoiseMultiplier = 1.0


def check(settings: Train) -> None:
    """Raises ValueError for params that the accountant does not cover, and for a compressor."""
    require_one_equal_message(settings)
    require_sampling(settings)
    if settings.compressor != "no_compression":
        raise ValueError(
            "'train.aggregator' local_dp adds noise to what a client sends, which 'train.compressor' "
            f"{settings.compressor} has made smaller before and the noise makes whole again: set it to no_compression"
        )


def mechanism(settings: Train, clients: int) -> LocalGaussian:
    """A client's release in a round."""
    return LocalGaussian(settings.params_of("aggregator").noise_multiplier)


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """The noisy update, also of a client without samples, which would stand out otherwise; and a 1 to count it."""
    params = task.aggregator
    seed = task.noise_seed(client.round, client.id)
    return [*add_gaussian(clip(update, params.norm), params.noise_multiplier * params.norm, seed), tf.constant(1.0)]


def clip_norm(task: Task, state: Tensors) -> Any:
    """The norm of params."""
    return task.aggregator.norm


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The mean of the clients' messages."""
    *parts, count = total
    return [tf.math.divide_no_nan(part, count) for part in parts], state


def message_bytes(task: Task, encoded: Tensors) -> int:
    """Those of the noisy update; clients are counted by their messages."""
    return bytes_of(encoded[:-1])
