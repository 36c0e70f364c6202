"""A Dask cluster as the place where chunks are computed: hands them out, and again if a worker is lost with them.

Each part of a chunk goes to a worker that we choose, and the next one before the first is back. So a lost worker, one
that takes too long and one whose TFF worker ends cost the time of their parts, and nothing else: whoever computes a
part, its sums are the same.
"""

import math
import secrets
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.atomic import write_text
from fedpipe.cluster.member_side import Job, probe
from fedpipe.cluster.members import AT_ONCE, Member, Message
from fedpipe.cluster.parts import Chunk, Part, Waiting
from fedpipe.cluster.scheduler import Connection
from fedpipe.cluster.settings import ClusterSettings, require_fitting
from fedpipe.config.train import Train
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.runtime.facts import CLUSTER, facts

_ATTEMPTS = 4  # of a part that fails; then the run ends with its error
_LOSSES = 20  # workers that are lost with the same part; then it is taken to be the part's fault
_JOIN_SECONDS = 180.0
_GRACE_SECONDS = 30.0  # a worker ends a part in time by itself, unless it hangs
_LOOK_SECONDS = 0.5
_FETCHING = 8  # sums on their way here at once


def say(line: str) -> None:
    """One line for the person who waits."""
    print(f"train: {line}", file=sys.stderr, flush=True)


class Cluster:
    """The workers of a cluster, for one training: `Elsewhere` of fedpipe/runtime/chunks.py, and a context manager."""

    def __init__(self, settings: ClusterSettings, training: Train, data: str) -> None:
        """Connects to the scheduler.

        Args:
          settings: How the cluster is reached.
          training: Section train of params.yaml.
          data: The digest of the shards.

        Raises:
          PipelineError: The scheduler does not answer, or a certificate is missing.
        """
        self._settings, self._training, self._data = settings, training, data
        self._connection = Connection(settings)
        self._job: Job | None = None
        self._members: dict[str, Member] = {}
        self._waiting = Waiting()
        self._groups = 1  # of the last chunk
        self._message = Message(0, 0, [])
        self._wake = threading.Event()
        self._fetching = ThreadPoolExecutor(_FETCHING, thread_name_prefix="fetches-sums")
        self._looked = 0.0
        self._begun = False
        self._alone_since: float | None = None
        self._alone_said = False
        self._probe: Path | None = None

    @property
    def ahead(self) -> int:
        """As many as keep all workers busy."""
        return max(sum(AT_ONCE * math.ceil(member.slots / self._groups) for member in self._ready()), 1)

    def begin(self, kept: Path | None, fixed_point: FixedPoint | None = None) -> None:
        """Gets the workers ready and says who takes part, and who is refused.

        Raises:
          PipelineError: No worker may take part, or the folder of what clients keep is not shared.
        """
        token = secrets.token_hex()
        if kept is not None:
            self._share(kept, token)
        settings = self._training.model_dump(mode="json")
        here, seconds = facts(self._training, CLUSTER), self._settings.chunk_seconds
        self._job = Job(secrets.token_hex(8), settings, self._data, here, str(kept) if kept else None, token, seconds)
        while True:
            self._turn()
            states = [member.state for member in self._members.values()]
            if "joins" not in states and "ready" in states:
                break
            if states and all(state == "refused" for state in states):
                raise PipelineError(
                    f"the cluster at {self._settings.address} has no worker that may take part (see above): bring the "
                    "workers to the same commit, environment and shards"
                )
        self._begun = True
        count = states.count("ready")
        part = "1 worker takes part" if count == 1 else f"{count} workers take part"
        say(f"{part}, of the cluster at {self._settings.address}")

    def begin_round(self, number: int) -> None:
        """Nothing: workers do not count rounds."""

    def make_personal(self, state: list[np.ndarray], last: np.ndarray) -> bool:
        """Personal models are made by the driver, which has the clients' files."""
        return False

    def losses(self) -> None:
        """Clients' losses are measured on the driver's worker."""

    def send(self, number: int, leaves: list[np.ndarray], clients: int) -> Message:
        """Takes a pass's message, which goes to each worker with its first part."""
        self._waiting.begin(clients)
        for member in self._members.values():
            member.drop()  # a pass that was broken off may have left something
        self._message = Message(self._message.version + 1, number, leaves)
        return self._message

    def start(self, message: Message, groups: list[np.ndarray]) -> Chunk:
        """Queues a chunk."""
        chunk = Chunk(groups)
        self._groups = len(groups)
        self._waiting.add(chunk)
        self._hand_out()
        return chunk

    def result(self, started: Chunk) -> Sequence[Sequence[np.ndarray]]:
        """Waits for a chunk.

        Raises:
          PipelineError: It failed several times.
          WorkersLostError: There was no worker for too long.
        """
        while not started.is_done:
            self._turn()
        return started.sums()

    def close(self) -> None:
        """Leaves the cluster; its workers stay."""
        if self._connection.client is not None:
            for member in self._members.values():
                member.drop()
            self._connection.close()
        if self._probe is not None:
            self._probe.unlink(missing_ok=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _share(self, kept: Path, token: str) -> None:
        """Leaves a token in the folder of client state, by which workers know that it is the same folder."""
        require_fitting(self._settings, self._training)
        shared = self._settings.shared_folder
        if shared is not None and not kept.resolve().is_relative_to(shared.resolve()):
            raise PipelineError(
                f"clients keep files in {kept}, which is not in {shared}, the shared_folder of cluster.yaml: put the "
                "project there"
            )
        self._probe = probe(kept)
        write_text(self._probe, token)

    def _turn(self) -> None:
        """Sees what has happened, hands out chunks, and waits a moment if there was nothing."""
        self._wake.clear()
        self._look()
        moved = self._collect()
        self._hand_out()
        self._wait_for_company()
        if not moved:
            self._wake.wait(_LOOK_SECONDS)

    def _look(self) -> None:
        """Sees which workers are there, now and then."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        workers = self._connection.workers()
        for address in [address for address in self._members if address not in workers]:
            self._lose(self._members.pop(address), "is gone")
        client = self._connection.client
        for address, slots in workers.items():
            if address not in self._members and client is not None and self._job is not None:
                self._members[address] = Member(client, address, slots, self._job.to_json(), now)

    def _collect(self) -> bool:
        """Takes finished parts; returns whether there were any."""
        moved, now = False, time.monotonic()
        for member in list(self._members.values()):
            if member.state == "joins":
                moved |= self._admit(member, now)
            limit = AT_ONCE * self._settings.chunk_seconds + _GRACE_SECONDS
            for each in list(member.running):
                outcome, what = each.outcome(self._fetching, self._woken)
                if outcome == "waits" and now - each.since < limit:
                    continue
                moved = True
                if outcome in ("waits", "lost"):
                    self._lose(self._members.pop(member.address), "does not answer")
                    break
                member.running.remove(each)
                if outcome == "done":
                    each.part.sums = what
                else:
                    self._failed(member, each.part, what)
        return moved

    def _admit(self, member: Member, now: float) -> bool:
        """Lets a worker in, or refuses it, when it has answered; returns whether it has."""
        wrong = member.joined()
        if wrong is None and now - member.since > _JOIN_SECONDS:
            wrong = [f"it did not get ready within {_JOIN_SECONDS:.0f} s"]
        if wrong is None:
            return False
        member.state = "refused" if wrong else "ready"
        if wrong:
            say(f"the worker at {member.address} is refused: {'; '.join(wrong)}")
        elif self._alone_said:
            say(f"the worker at {member.address} is there: training continues")
        return True

    def _lose(self, member: Member, why: str) -> None:
        parts = member.drop()
        if member.state == "ready":
            say(f"the worker at {member.address} {why}" + ("; its chunks are computed again" if parts else ""))
        for part in parts:
            part.lost += 1
            if part.lost > _LOSSES:
                raise PipelineError(f"{_LOSSES} workers were lost with the same chunk: it may need more memory")
        self._waiting.give_back(parts)

    def _failed(self, member: Member, part: Part, error: Any) -> None:
        part.failed_at.append(member.address)
        if len(part.failed_at) >= _ATTEMPTS:
            raise PipelineError(f"the worker at {member.address}: {error} (after {_ATTEMPTS} attempts)")
        say(f"the worker at {member.address}: {error}; its chunk is computed again")
        self._waiting.give_back([part])

    def _hand_out(self) -> None:
        """Gives parts to the workers that have room, first to the least busy one."""
        ready = self._ready()
        slots = sum(member.slots for member in ready)
        while self._waiting:
            for member in sorted(filter(lambda each: each.has_room, ready), key=lambda each: each.load):
                others = [each.address for each in ready if each is not member]
                part = self._waiting.take(member.address, others, member.slots / slots)
                if part is not None:
                    member.run(part, self._message, time.monotonic(), self._woken)
                    break
            else:
                return

    def _ready(self) -> list[Member]:
        return [member for member in self._members.values() if member.state == "ready"]

    def _woken(self, _: Any) -> None:
        self._wake.set()

    def _wait_for_company(self) -> None:
        """Says that nobody is there; gives up after a while."""
        if self._members and not self._begun:
            return  # `begin` says why they are refused
        if any(member.state != "refused" for member in self._members.values()):
            if self._ready():
                self._alone_since, self._alone_said = None, False
            return
        now, limit = time.monotonic(), self._settings.wait_seconds
        if self._alone_since is None:
            self._alone_since = now
        alone = now - self._alone_since
        # It may not have seen yet that the scheduler is gone, and the next look may take seconds.
        if not self._alone_said and (alone > _LOOK_SECONDS or not self._connection.is_there):
            self._alone_said = True
            who = "worker is there in the cluster" if self._connection.is_there else "scheduler answers"
            say(f"no {who} at {self._settings.address}; waits for one, at most {limit:g} s")
        if alone > limit:
            raise WorkersLostError(
                f"the cluster at {self._settings.address} had no worker for {limit:g} s; start workers "
                "(docs/cluster.md) and run it again, which resumes from the last checkpoint"
            )


def opened(settings: ClusterSettings | None, training: Train, data: str) -> AbstractContextManager[Cluster | None]:
    """The cluster for a training on the shards with the digest ``data``; nothing for this machine alone.

    Raises:
      PipelineError: The scheduler does not let us in.
    """
    return nullcontext() if settings is None else Cluster(settings, training, data)
