"""DP-FTRL: the noise of all rounds so far is that of a few nodes of a binary tree, so it grows with log2 of the rounds.

The server moves along noisy sums S_t = sum over rounds of clipped updates + N_t. A round returns the difference

    mean = (sum_k u_k min(1, C / ||u_k||) + N_t - N_(t-1)) / m

so any server optimizer can apply it, and with SGD at rate 1 the weights are w_0 - S_t / m. m is the expected
number of updates of a round (`fedpipe.privacy.sampling.expected_updates`).

A node of the tree is the sum over 2^l rounds in a row, released with noise of standard deviation z C of its own. N_t is
the noise of Honaker's estimates of the nodes that t is made of (12 = 8 + 4), each from all noisy sums below it. The
estimate of a node is a mean with weights 2^level / (2^(l+1) - 1) of the sums of each level. Sums that end with the same
round s always come together, as one normal draw xi_s:

    G_s = z C sqrt(4^0 + ... + 4^l(s)) xi_s            l(s) = number of trailing zeros of s
    R_t = (G_s summed over the 2^l(t) rounds that end with t) / (2^(l(t)+1) - 1)
    N_t = R_t + N_(t - 2^l(t))                         N_0 = 0

So the variance of N_t is (z C)^2 sum over the bits 2^l of t of 1 / (2 - 2^-l): 1.99 (z C)^2 on average over 100 rounds
and 2.87 over 1,000, where the nodes' own noise has 3.19 and 4.94. xi_s is drawn from (key, s) whenever it is needed, so
there is no state; round t draws 2^l(t) times, which is 1 + log2(t) / 2 on average.

Nothing is assumed of how cohorts are drawn: fedpipe/privacy/mechanism.py counts in which rounds each client was. With
``restart_every`` a new tree begins after so many rounds.

Sources: Kairouz et al. 2021, "Practical and Private (Deep) Learning without Sampling or Shuffling", algorithms 1 and
B.1, https://arxiv.org/abs/2103.00039; Honaker 2015, "Efficient Use of Differentially Private Binary Trees", section 3.2
(estimation from below).
"""

from typing import Annotated, Any

from pydantic import Field

from fedpipe.config.privacy import NoiseMultiplier
from fedpipe.config.section import Positive, Section
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.local_training import clip
from fedpipe.learning.task import Task
from fedpipe.privacy.mechanism import Tree
from fedpipe.privacy.noise import add_gaussian
from fedpipe.privacy.requirements import require_one_equal_message
from fedpipe.privacy.sampling import expected_updates, require_sampling

# Epsilon also holds if clients drop out or come in turn, whatever their data are (docs/privacy.md).
COUNTS_DROPOUTS = True


class Params(Section):
    """``norm``: C; ``noise_multiplier``: z, of each node; ``restart_every``: rounds of a tree, 0 for one tree."""

    norm: Positive = 1.0
    noise_multiplier: NoiseMultiplier = 1.0
    restart_every: Annotated[int, Field(ge=0, le=10**6)] = 0


def check(settings: Train) -> None:
    """Raises ValueError for params that the accountant does not cover."""
    require_one_equal_message(settings)
    require_sampling(settings)


def mechanism(settings: Train, clients: int) -> Tree:
    """The released quantities: the sums."""
    params = settings.params_of("aggregator")
    return Tree(params.noise_multiplier, params.restart_every, clients)


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """The clipped update."""
    return clip(update, task.aggregator.norm)


def clip_norm(task: Task, state: Tensors) -> Any:
    """The norm of params."""
    return task.aggregator.norm


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The mean with this round's share of the tree's noise: N_t - N_(t-1).

    With n = 2^l(t), R_t takes the place of the estimates that N_(t-1) ends with. They cover the n - 1 rounds before t:
    of size 2^i, those from 2^i to 2^(i+1) - 1 rounds ago.
    """
    params = task.aggregator
    deviation = params.noise_multiplier * params.norm
    step = (round_number - 1) % params.restart_every + 1 if params.restart_every else round_number
    size = _lowest_bit(step)

    def share(size: Any) -> Any:
        return 1 / (2 * tf.cast(size, tf.float64) - 1)

    def with_noise(parts: list[Any], ago: Any, factor: Any) -> list[Any]:
        ends = tf.cast(_lowest_bit(step - ago), tf.float64)
        own = deviation * tf.sqrt((4 * ends**2 - 1) / 3)
        return add_gaussian(parts, tf.cast(factor * own, tf.float32), task.noise_seed(round_number - ago))

    def replaced(ago: Any, before: Any, *parts: Any) -> tuple[Any, ...]:
        before = tf.where(ago == 2 * before, ago, before)
        return ago + 1, before, *with_noise(list(parts), ago, share(size) - share(before))

    single = tf.constant(1)
    _, _, *summed = tf.while_loop(
        lambda ago, *_: ago < size, replaced, (single, single, *with_noise(total, tf.constant(0), share(size)))
    )
    return [part / expected_updates(task.settings, task.clients) for part in summed], state


def _lowest_bit(number: Any) -> Any:
    return tf.bitwise.bitwise_and(number, -number)
