"""Secure aggregation: clipped updates as integers, summed modulo 2^k; the server sees the sum only.

    i_k = round(s w_k u_k min(1, C / ||u_k||)) mod 2^k    sum = i_1 + i_2 + ... mod 2^k    mean = sum / (s sum of w_k)

Sums from 2^(k-1) on stand for negative ones. The scale s is the largest with which n clients cannot leave the range:
s = (2^(k-1) - 1 - n) / (n C W), for the largest cohort that there can be. A weight w_k is 1, or with weights by
examples the client's number of samples, of which there are at most W. Integers add to the same bits in any order.

The arithmetic and its error are here. In a federation, sites add their clients' integers with the protocol of
fedpipe/secure_aggregation, and the coordinator sees the sum of all sites only. A simulation adds the same integers in
the open: there are no keys and no masks, and one process holds all updates.

With a ``noise_multiplier`` z above 0, each site of a federation adds secret Skellam noise to its integers. All of it
together has at least the standard deviation s z C. The scale s is then smaller, for the noise has to fit, too:

    s = min( (2^(k-1) - 1 - n) / ((n + 10 z sqrt(clients / 2)) C),  2^23 / (z C) )

for the noise of all sites has at most clients / 2 times the least variance (there are no more sites than clients, and
two at least add it), and noise is drawn in float64, where 2^23 keeps integers whole.

Source: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", section 4,
https://eprint.iacr.org/2017/281.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from fedpipe.compatibility import round_size
from fedpipe.config.section import Count, NotNegative, Positive, Section
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.local_training import clip
from fedpipe.learning.task import Task
from fedpipe.privacy.requirements import require_one_equal_message, require_one_message
from fedpipe.privacy.sampling import require_sampling

SUMS_INTEGERS = True
_LARGEST_BITS = 62  # two such numbers add up in an int64
_MOST_WEIGHTS = 2**28  # of a secure sum
_DEVIATIONS = 10.0  # of noise that have room
_LARGEST_DEVIATION = 2.0**23  # of the least noise, in units of the integers


class Params(Section):
    """``norm``: C; ``bits``: k; ``rounding`` to the nearest integer, or up and down at random with the right mean.

    ``most_examples``: W, the most samples of a client, for weights by examples; without it weights are uniform.
    ``noise_multiplier``: z, of the noise that sites add; 0 is none.
    """

    norm: Positive = 1.0
    bits: Annotated[int, Field(ge=8, le=_LARGEST_BITS)] = 32
    rounding: Literal["nearest", "stochastic"] = "nearest"
    most_examples: Count | None = None
    noise_multiplier: NotNegative = 0.0


def check(settings: Train) -> None:
    """Raises ValueError for params that need more than the sum of one message per client."""
    own = settings.params_of("aggregator")
    if own.noise_multiplier:
        _check_noise(settings, own)
    if settings.client_weighting == "uniform" and own.most_examples is not None:
        raise ValueError(
            f"'train.secure_sum.most_examples' is {own.most_examples}, a bound on weights by examples, and "
            "'train.client_weighting' is uniform: remove the bound, or set it to examples"
        )
    if settings.client_weighting == "examples" and own.most_examples is not None:
        require_one_message(settings)
    else:
        require_one_equal_message(settings)
    require_sampling(settings)  # the server must not get sizes or losses one by one
    if settings.compressor != "no_compression":
        raise ValueError(
            f"'train.aggregator' secure_sum sums integers of a fixed size, which 'train.compressor' "
            f"{settings.compressor} would not make smaller: set it to no_compression"
        )


def _check_noise(settings: Train, own: Params) -> None:
    """Raises ValueError for params that would leave sites without noise, or for which epsilon does not hold."""
    if settings.client_weighting != "uniform":
        raise ValueError(
            f"'train.secure_sum.noise_multiplier' is {own.noise_multiplier}, and sums of clients' weights would leave "
            "without noise: set 'train.client_weighting' to uniform"
        )
    if own.rounding != "nearest":
        raise ValueError(
            f"'train.secure_sum.rounding' is {own.rounding}, and with 'train.secure_sum.noise_multiplier' epsilon "
            "holds for integers rounded to the nearest: set it to nearest"
        )
    if settings.availability.report_goal is not None:
        raise ValueError(
            "'train.secure_sum.noise_multiplier' accounts for clients whose part in a round depends on no data, and "
            "'train.availability.report_goal' takes the fastest, which depends on their data: remove the goal"
        )


def encode(task: Task, state: Tensors, update: list[Any], weight: Any, client: Client) -> list[Any]:
    """Integers int64 in [0, 2^k); zeros for a client without samples."""
    scale = integers_per_unit(task.settings, task.clients)
    scaled = [tf.cast(part * weight, tf.float64) * scale for part in clip(update, task.aggregator.norm)]
    if task.aggregator.rounding == "stochastic":
        sizes = [part.shape.num_elements() for part in scaled]
        seed = task.client_seed(client)
        drawn = tf.split(tf.random.stateless_uniform([sum(sizes)], seed, dtype=tf.float64, alg="philox"), sizes)
        whole = [tf.floor(part + tf.reshape(u, part.shape)) for part, u in zip(scaled, drawn, strict=True)]
    else:
        whole = [tf.round(part) for part in scaled]
    return [tf.math.floormod(tf.cast(part, tf.int64), 2**task.aggregator.bits) for part in whole]


def merge(a: Any, b: Any) -> Any:
    """Their sum, modulo the largest modulus, of which every other one is a divisor: int64 never overflows."""
    return tf.math.floormod(a + b, 2**_LARGEST_BITS)


def clip_norm(task: Task, state: Tensors) -> Any:
    """The norm of params."""
    return task.aggregator.norm


def finish(task: Task, state: Tensors, total: list[Any], weight: Any, round_number: Any) -> tuple[list[Any], Tensors]:
    """The mean; zeros if no client has samples."""
    modulus, scale = 2**task.aggregator.bits, integers_per_unit(task.settings, task.clients)
    reduced = [tf.math.floormod(part, modulus) for part in total]
    signed = [tf.where(part >= modulus // 2, part - modulus, part) for part in reduced]
    sums = [tf.cast(tf.cast(part, tf.float64) / scale, tf.float32) for part in signed]
    return [tf.math.divide_no_nan(part, weight) for part in sums], state


def check_clients(settings: Train, clients: int) -> None:
    """Raises ValueError if the integers have too few bits for the sum of the largest cohort, and for its noise."""
    scale, params = integers_per_unit(settings, clients), settings.params_of("aggregator")
    if not params.noise_multiplier:
        return
    from fedpipe.secure_aggregation.noise import room  # here, since cryptography takes time to import

    largest = round_size.cohort_sizes(settings, clients).most
    most = math.ceil(noise_variance(settings, clients) * max(clients, 2) / 2) + clients  # each share is rounded up
    if largest * (scale * params.norm + 1) + room(most, _MOST_WEIGHTS) > 2 ** (params.bits - 1) - 1:
        raise ValueError(
            f"'train.secure_sum.bits' {params.bits} has no room for noise with 'train.secure_sum.noise_multiplier' "
            f"{params.noise_multiplier} beside the sum of {largest} clients: set it to 32, or to more"
        )


def noise_variance(settings: Train, clients: int) -> int:
    """(s z C)^2, rounded up."""
    params = settings.params_of("aggregator")
    return math.ceil((params.noise_multiplier * params.norm * integers_per_unit(settings, clients)) ** 2)


def check_sizes(settings: Train, sizes: np.ndarray) -> None:
    """Raises ValueError if a client has more samples than its weight has room for."""
    most = settings.params_of("aggregator").most_examples
    if settings.client_weighting == "examples" and most is not None and len(sizes) and sizes.max() > most:
        raise ValueError(
            f"'train.secure_sum.most_examples' is {most}, and a client has {sizes.max()} samples: raise it to that or "
            "more, which makes all integers coarser"
        )


def integers_per_unit(settings: Train, clients: int) -> float:
    """s, for the largest cohort that there can be."""
    params, largest = settings.params_of("aggregator"), round_size.cohort_sizes(settings, clients).most
    room = 2 ** (params.bits - 1) - 1 - largest
    if room <= 0:
        raise ValueError(
            f"'train.secure_sum.bits' {params.bits} has no room for the sum of {largest} clients; set it to "
            f"{largest.bit_length() + 8} or more"
        )
    if params.noise_multiplier:
        noise = _DEVIATIONS * params.noise_multiplier * math.sqrt(max(clients, 2) / 2)
        fitting = room / ((largest + noise) * params.norm)
        return float(min(fitting, _LARGEST_DEVIATION / (params.noise_multiplier * params.norm)))
    heaviest = params.most_examples or 1 if settings.client_weighting == "examples" else 1
    return float(room / (largest * params.norm * heaviest))


def message_bytes(task: Task, encoded: Tensors) -> int:
    """Integers of ``bits`` bits, packed."""
    integers = sum(part.shape.num_elements() for part in encoded)
    return int(-(-integers * task.aggregator.bits // 8))
