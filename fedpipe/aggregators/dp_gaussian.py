"""DP-FedAvg: updates are clipped and summed with equal weights, and the server adds Gaussian noise.

    mean = (sum_k u_k min(1, C / ||u_k||) + N(0, (z_u C)^2)) / m

where m is the expected number of updates of a round, dropouts left out (`fedpipe.privacy.sampling.expected_updates`; a
constant, for the real number would tell who took part), and z_u is ``noise_multiplier`` z. With ``clipping: adaptive``,
C follows a quantile of the updates' norms:

    b = 1/2 + (sum_k (b_k - 1/2) + N(0, count_stddev^2)) / m     b_k = 1 if ||u_k|| <= C, else 0
    C' = C exp(-quantile_rate (b - quantile))

The count is a release of its own, and ``noise_multiplier`` stays that of both together, so the updates get the noise
z_u = (z^-2 - (2 count_stddev)^-2)^(-1/2).

Sources: McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models", algorithm 1,
https://arxiv.org/abs/1710.06963; Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping",
algorithm 1 and theorem 1, https://arxiv.org/abs/1905.03871.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from fedpipe.config.privacy import AUTO, NoiseMultiplier
from fedpipe.config.section import NotNegative, Positive, Section
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Nothing, Tensors
from fedpipe.learning.local_training import clip
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import norm
from fedpipe.privacy.mechanism import SampledGaussian
from fedpipe.privacy.noise import add_gaussian
from fedpipe.privacy.requirements import require_one_equal_message
from fedpipe.privacy.sampling import expected_updates, require_sampling, sampling_of

# Epsilon also holds if clients drop out or come in turn, whatever their data are (docs/privacy.md).
COUNTS_DROPOUTS = True


class Params(Section):
    """``norm`` is C, at first if clipping is adaptive; ``count_stddev`` of the noise on the count of clipped clients.

    The paper takes a twentieth of the cohort for ``count_stddev``.
    """

    norm: Positive = 1.0
    noise_multiplier: NoiseMultiplier = 1.0
    clipping: Literal["fixed", "adaptive"] = "fixed"
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    quantile_rate: NotNegative = 0.2
    count_stddev: Positive = 5.0

    def check_chosen(self) -> None:
        """Raises ValueError for a key of adaptive clipping where the norm is fixed."""
        if self.clipping == "fixed":
            for key in self.changed("quantile", "quantile_rate", "count_stddev"):
                raise ValueError(
                    f"'train.dp_gaussian.{key}' is for adaptive clipping, and 'clipping' is fixed: leave '{key}' out, "
                    "or set 'clipping' to adaptive"
                )


def check(settings: Train) -> None:
    """Raises ValueError for params that the accountant does not cover, and for noise that does not suffice."""
    require_one_equal_message(settings)
    require_sampling(settings)
    if settings.availability.cyclic.groups > 1 and settings.clients_per_round != "all":
        raise ValueError(
            "'train.dp_gaussian' accounts for 'train.clients_per_round' out of all clients, and "
            "'train.availability.cyclic' leaves fewer to draw from, so that each is drawn more often: set "
            "'train.cohort' to poisson with 'train.clients_per_round' all, or cyclic.groups to 1"
        )
    params = settings.params_of("aggregator")
    if params.noise_multiplier == AUTO:  # is checked with the number
        return
    if params.clipping == "adaptive" and 2 * params.count_stddev <= params.noise_multiplier:
        raise ValueError(
            f"'train.dp_gaussian.count_stddev' {params.count_stddev} leaves no noise multiplier of "
            f"{params.noise_multiplier} for both releases of adaptive clipping: set it above "
            f"{params.noise_multiplier / 2} (a twentieth of the cohort is usual)"
        )


def mechanism(settings: Train, clients: int) -> SampledGaussian:
    """The release of a round; both Gaussians of adaptive clipping are one of ``noise_multiplier``."""
    return SampledGaussian(settings.params_of("aggregator").noise_multiplier, sampling_of(settings, clients))


def server_init(task: Task) -> Tensors:
    """The norm, if it adapts."""
    return tf.constant(task.aggregator.norm) if _adapts(task) else Nothing


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """The clipped update; if the norm adapts, also whether it is within the norm, less 1/2."""
    clipped = clip(update, clip_norm(task, state))
    return [*clipped, tf.cast(norm(update) <= state, tf.float32) - 0.5] if _adapts(task) else clipped


def clip_norm(task: Task, state: Tensors) -> Any:
    """The norm of params, or the one that adapts."""
    return state if _adapts(task) else task.aggregator.norm


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The noisy mean, and the next norm."""
    params = task.aggregator
    expected = expected_updates(task.settings, task.clients)
    seed = task.noise_seed(round_number)
    if not _adapts(task):
        noisy = add_gaussian(total, params.noise_multiplier * params.norm, seed)
        return [part / expected for part in noisy], state
    for_updates = (params.noise_multiplier**-2 - (2 * params.count_stddev) ** -2) ** -0.5
    *noisy, count = add_gaussian(total, [for_updates * state] * (len(total) - 1) + [params.count_stddev], seed)
    share = 0.5 + count / expected
    return [part / expected for part in noisy], state * tf.exp(-params.quantile_rate * (share - params.quantile))


def _adapts(task: Task) -> bool:
    return bool(task.aggregator.clipping == "adaptive")
