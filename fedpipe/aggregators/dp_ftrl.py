"""DP-FTRL: the noise of all rounds so far is that of a few nodes of a binary tree, so it grows with log2 of the rounds.

The server moves along noisy sums S_t = sum over rounds of clipped updates + N_t. Node v of the tree is the sum over
2^l rounds in a row and has noise n_v of standard deviation z C of its own; N_t is the sum of n_v over the nodes that
t is made of (12 = 8 + 4). What a round returns is the difference

    mean = (sum_k u_k min(1, C / ||u_k||) + N_t - N_(t-1)) / m

so any server optimizer goes on from there, and with SGD at rate 1 the weights are w_0 - S_t / m. A node's noise is
drawn from (key, its last round, its level) whenever it is needed, so there is no state. Nothing is assumed of how
cohorts are drawn: fedpipe/privacy/mechanism.py counts in which rounds each client was. With ``restart_every`` a new
tree begins after so many rounds.

Source: Kairouz et al. 2021, "Practical and Private (Deep) Learning without Sampling or Shuffling", algorithms 1 and
B.1, https://arxiv.org/abs/2103.00039.
"""

from typing import Annotated, Any

from pydantic import Field

from fedpipe.config.section import Positive, Section
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.local_training import clip
from fedpipe.learning.task import Task
from fedpipe.privacy.mechanism import Tree
from fedpipe.privacy.noise import add_gaussian
from fedpipe.privacy.requirements import require_one_equal_message
from fedpipe.privacy.sampling import require_sampling, sampling_of

# Epsilon also holds if clients drop out or come in turn, whatever their data are (docs/privacy.md).
COUNTS_DROPOUTS = True


class Params(Section):
    """``norm``: C; ``noise_multiplier``: z, of each node; ``restart_every``: rounds of a tree, 0 for one tree."""

    norm: Positive = 1.0
    noise_multiplier: Positive = 1.0
    restart_every: Annotated[int, Field(ge=0, le=10**6)] = 0


def check(settings: Train) -> None:
    """Raises ValueError for what the accountant does not cover."""
    require_one_equal_message(settings)
    require_sampling(settings)


def mechanism(settings: Train, clients: int) -> Tree:
    """What is released: the whole nodes."""
    params = settings.params_of("aggregator")
    return Tree(params.noise_multiplier, params.restart_every, clients)


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """The clipped update."""
    return clip(update, task.aggregator.norm)


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The mean with this round's share of the tree's noise.

    The nodes of t and of t - 1 differ in those of the lowest bits: t gains the node of its lowest set bit, 2^l, which
    takes the place of the nodes 2^(l-1), ..., 1 that t - 1 ends with.
    """
    params = task.aggregator
    stddev = params.noise_multiplier * params.norm
    step = (round_number - 1) % params.restart_every + 1 if params.restart_every else round_number
    begin = round_number - step  # rounds of the trees before
    lowest = tf.bitwise.bitwise_and(step, -step)

    def noisy(parts: list[Any], last: Any, size: Any, sign: float) -> list[Any]:
        return add_gaussian(parts, sign * stddev, task.noise_seed(begin + last, size))

    def without_node(size: Any, *parts: Any) -> tuple[Any, ...]:
        # of t - 1 = ... + 2^(l-1) + ... + 1, the node of `size` ends when 1, 2, ..., size / 2 are still to come
        return size * 2, *noisy(list(parts), step - size, size, -1.0)

    gained = noisy(total, step, lowest, 1.0)
    _, *summed = tf.while_loop(lambda size, *_: size < lowest, without_node, (tf.constant(1), *gained))
    return [part / sampling_of(task.settings, task.clients).expected for part in summed], state
