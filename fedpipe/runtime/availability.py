"""Devices that cannot be asked, drop out, do less or are late: a function of (seed, round), the same after a resume.

In a round t (1, 2, ...), each client k by itself, with draws that do not depend on the cohort:

    group          cyclic: g_k = place of k in a seeded permutation mod groups; there if
                   g_k = floor(((t - 1) mod period) x groups / period)
    before         not there with probability dropout_before
    work           with probability stragglers.share a fraction w ~ U[least_work, 1] of the local steps, else w = 1
    during         the result is lost with probability dropout_during
    time           exchanges x latency + (w x local x b_k + full x n_k) x seconds_per_sample x exp(spread x z_k)
                   + (bits down / bandwidth.down + bits up / bandwidth.up) x exp(bandwidth.spread x y_k),
                   z_k, y_k ~ N(0, 1) once for the training
    report goal    of the results that are not lost, the first `report_goal` by time count (ties by id); clients that
                   can take no step have none to wait for, and come last

n_k are the samples (0 if they make no batch), b_k those in batches of an epoch. The algorithm's `cost` says how many
epochs are local steps, how many are computed whole besides, and how often messages go down and up
(fedpipe/contracts/cost.py). Clients that are measured for a cohort get the model first, and take a forward pass and an
exchange more; training starts when the last of them is done.

Sources: Eichner et al. 2019, "Semi-Cyclic Stochastic Gradient Descent", https://arxiv.org/abs/1904.10120 (groups);
Li et al. 2020, "Federated Optimization in Heterogeneous Networks", section 5.2, https://arxiv.org/abs/1812.06127
(partial work); Bonawitz et al. 2019, "Towards Federated Learning at Scale: System Design", section 2.2,
https://arxiv.org/abs/1902.01046 (report goal, asking 1.3 times as many).
"""

from typing import NamedTuple

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.cost import FORWARD
from fedpipe.learning.local_training import batch_count
from fedpipe.learning.work_request import WHOLE
from fedpipe.seeds import Purpose, generator

_ONCE = 0  # the round number of draws that happen once in a training
HOUR = 3600.0
BITS = 8 / 1e6  # megabits of a byte


class Message(NamedTuple):
    """Bytes to and from a client in a round."""

    down: int = 0
    up: int = 0


NO_BYTES = Message()


class RoundAvailability:
    """The events of each client in a round, selected or not.

    Of each client, by id: ``lost`` says whether its result would be lost, ``work`` how much of its local steps it does,
    in thousandths, and ``seconds`` how long it takes.
    """

    def __init__(self, settings: Train, sizes: np.ndarray, round_number: int, message: Message = NO_BYTES) -> None:
        """Draws it; ``sizes``: int64 [clients], the number of samples of every client; rounds count from 1."""
        params = self._params = settings.availability
        self._clients = len(sizes)
        once = generator(settings.seed, Purpose.AVAILABILITY, _ONCE)
        order, speed = once.permutation(self._clients), once.standard_normal(self._clients)
        before, during, straggles, work = generator(settings.seed, Purpose.AVAILABILITY, round_number).random(
            (4, self._clients)
        )
        group = (round_number - 1) % params.cyclic.period * params.cyclic.groups // params.cyclic.period
        self._present = (before >= params.dropout_before) & (order % params.cyclic.groups == group)
        self.lost = during < params.dropout_during
        least = params.stragglers.least_work
        part = np.ceil((least + (1 - least) * work) * WHOLE)
        self.work = np.where(straggles < params.stragglers.share, part, WHOLE).astype(np.int32)
        cost, devices, line = ALGORITHMS.of(settings.algorithm).cost(settings), params.devices, params.devices.bandwidth
        batched = np.minimum(batch_count(settings, sizes) * settings.batch_size, sizes)
        self._can_train = batched > 0
        slowness = devices.seconds_per_sample * np.exp(devices.spread * speed)
        computing = slowness * batched * cost.local * self.work / WHOLE + slowness * sizes * self._can_train * cost.full
        directions = (message.down, line.down), (message.up, line.up)
        down, up = (bytes_sent * BITS / rate if rate else 0.0 for bytes_sent, rate in directions)
        slow_line = np.exp(line.spread * once.standard_normal(self._clients))
        self.seconds = cost.exchanges * devices.latency + computing + (down + up) * slow_line
        self._measuring = devices.latency + slowness * sizes * FORWARD + down * slow_line
        self._after_measuring = self.seconds - down * slow_line

    @property
    def available(self) -> np.ndarray:
        """The clients that can be asked: ids, ascending."""
        return np.flatnonzero(self._present)

    @property
    def unavailable(self) -> int:
        """How many clients cannot be asked."""
        return self._clients - int(self._present.sum())

    def finish(
        self, selected: np.ndarray, counts: dict[str, float], measured: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """Who of the ``selected`` clients counts.

        Args:
          selected: Their ids.
          counts: Columns of the round's record so far.
          measured: Ids of the clients that sent a loss before.

        Returns:
          Their ids, ascending; how much of its work each does, in thousandths; all columns.
        """
        seconds = self.seconds.copy()
        seconds[measured] = self._after_measuring[measured]
        reported = selected[~self.lost[selected]]
        counted, goal = reported, self._params.report_goal
        if goal is not None:
            first = np.lexsort((seconds[reported], ~self._can_train[reported]))[:goal]
            counted = np.sort(reported[first])
        work = self.work[counted]
        columns: dict[str, float] = {
            **counts,
            "asked": len(selected),
            "unavailable": self.unavailable,
            "dropped": len(selected) - len(reported),
            "late": len(reported) - len(counted),
            "stragglers": int((work < WHOLE).sum()),
        }
        if self._params.devices.seconds_per_sample:
            waited = float(self._measuring[measured].max(initial=0.0)) + float(seconds[counted].max(initial=0.0))
            columns["simulated_hours"] = waited / HOUR
        return counted, work, columns
