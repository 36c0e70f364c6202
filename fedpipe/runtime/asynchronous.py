"""Which clients train when, in asynchronous training: events in simulated time, which depend on no training.

    start     Whenever fewer than M clients are training, one starts: the first in a random order of the round that is
              there, is not training, has samples, and has not started in this round. It gets the model of the round.
    end       after the seconds of RoundAvailability; of two that end at once, the one with the lower id comes first.
              The update is in the buffer then, unless it is lost.
    step      when K updates are in the buffer: they are the round's, and the next round begins at that moment.
              If no client is training and none can start, the server steps with the updates it has.

A client starts once in a round at most: the second time it would train the same model on the same samples. After its
update of an earlier round has arrived it can start in the same round, and end again in it. Then the buffer has two
updates of this client: the paper counts updates, not clients. Whether it is there, how much it does and whether its
result is lost are those of the round in which it starts (availability.py). So the events follow from params, seed and
sizes, and a resume computes those of a round again by going through all rounds before it.

Source: Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", algorithm 1,
https://arxiv.org/abs/2106.06639; with K = 1, Xie et al. 2019, https://arxiv.org/abs/1903.03934.
"""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import Asynchrony
from fedpipe.errors import PipelineError
from fedpipe.learning.attackers import attackers
from fedpipe.learning.local_training import batch_count
from fedpipe.learning.work_request import WHOLE, WorkRequest
from fedpipe.runtime.availability import HOUR, NO_BYTES, Message, RoundAvailability
from fedpipe.runtime.cohort import Cohort, Losses
from fedpipe.seeds import Purpose, generator


class _Start(NamedTuple):
    """A client that is training."""

    round: int
    work: int  # thousandths of its local steps
    lost: bool  # whether its update will not arrive


class Schedule:
    """The rounds of an asynchronous training, one after the other."""

    def __init__(self, settings: Train, rules: Asynchrony, sizes: np.ndarray, message: Message = NO_BYTES) -> None:
        """Begins before the first round.

        Args:
          settings: Section train of params.yaml.
          rules: `asynchrony_of` the settings.
          sizes: int64 [clients], the number of samples of every client.
          message: What goes to and from a client, for the time that it takes.

        Raises:
          PipelineError: No client has a sample to train on.
        """
        self._can_train = batch_count(settings, sizes) > 0
        if not sizes.any():
            raise PipelineError("no client has a sample: raise the min_size of the partition's scheme in params.yaml")
        if not self._can_train.any():
            raise PipelineError(
                "no client has a whole batch, and 'train.last_batch' drops smaller ones; set it to keep, or lower "
                "'train.batch_size' in params.yaml"
            )
        self._settings, self._rules, self._sizes, self._message = settings, rules, sizes, message
        self._rounds = self._in_turn()
        self._number = 0

    def cohort(self, round_number: int, losses: Losses | None = None) -> Cohort:
        """Who starts in a round (1, 2, ...) and whose update arrives; ``losses`` are for cohorts that are drawn."""
        if round_number <= self._number:
            self._rounds, self._number = self._in_turn(), 0
        while True:
            cohort, self._number = next(self._rounds), self._number + 1
            if self._number == round_number:
                return cohort

    def _in_turn(self) -> Iterator[Cohort]:
        rules = self._rules
        most = len(self._sizes) if rules.concurrency == "all" else rules.concurrency
        ends: list[tuple[float, int]] = []  # a heap: end of each client that is training, in seconds, and its id
        at_work: dict[int, _Start] = {}
        now, number = 0.0, 0
        while True:
            number, begun = number + 1, now
            devices = RoundAvailability(self._settings, self._sizes, number, self._message)
            waiting = self._order(devices, number)
            started: list[int] = []
            arrived: list[tuple[int, _Start]] = []
            dropped = 0
            while len(arrived) < rules.buffer_size:
                while len(at_work) < most and (client := _next(waiting, at_work)) is not None:
                    at_work[client] = _Start(number, int(devices.work[client]), bool(devices.lost[client]))
                    heapq.heappush(ends, (now + float(devices.seconds[client]), client))
                    started.append(client)
                if not ends:
                    break
                now, client = heapq.heappop(ends)
                start = at_work.pop(client)
                dropped += start.lost
                if not start.lost:
                    arrived.append((client, start))
            counts: dict[str, float] = {
                "asked": len(started),
                "unavailable": devices.unavailable,
                "dropped": dropped,
                "stragglers": sum(start.work < WHOLE for _, start in arrived),
                "simulated_hours": (now - begun) / HOUR,
                **_staleness([number - start.round for _, start in arrived]),
            }
            if self._settings.attack != "no_attack":
                ids = [client for client, _ in arrived]
                counts["attackers"] = int(attackers(self._settings, len(self._sizes))[ids].sum())
            yield _cohort(number, [each for each in started if not devices.lost[each]], arrived, devices.work, counts)

    def _order(self, devices: RoundAvailability, number: int) -> list[int]:
        """The clients that may start in a round, in the order in which they do unless they are training."""
        order = generator(self._settings.seed, Purpose.COHORT, number).permutation(len(self._sizes))
        can = np.zeros(len(self._sizes), bool)
        can[devices.available] = True
        able: list[int] = order[(can & self._can_train)[order]].tolist()
        return able


def _next(waiting: list[int], at_work: dict[int, _Start]) -> int | None:
    """Takes the first client out of ``waiting`` that is not training."""
    for place, client in enumerate(waiting):
        if client not in at_work:
            return waiting.pop(place)
    return None


def _staleness(rounds: list[int]) -> dict[str, float]:
    """Columns on how many rounds ago the clients started whose updates arrive; none if none arrives."""
    return {"staleness_mean": sum(rounds) / len(rounds), "staleness_max": max(rounds)} if rounds else {}


def _cohort(
    number: int, started: list[int], arrived: list[tuple[int, _Start]], work: np.ndarray, counts: dict[str, float]
) -> Cohort:
    """By client; of a client with two requests, the update that arrives comes before the start."""
    at_once = {client for client, start in arrived if start.round == number}
    rows = [(client, False, True, WHOLE) for client, start in arrived if start.round < number]
    rows += [(client, True, client in at_once, int(work[client])) for client in started]
    clients, trains, reports, thousandths = np.array(sorted(rows), np.int32).reshape(-1, 4).T
    return Cohort(WorkRequest.of(clients, work=thousandths, trains=trains > 0, reports=reports > 0), counts)
