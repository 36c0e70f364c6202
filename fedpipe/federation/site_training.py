"""A training at a site: its own graphs, built from the settings, over its own clients."""

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_noise_at_clients
from fedpipe.contracts.cohort import COHORTS
from fedpipe.errors import PipelineError
from fedpipe.federation.messages import Join, Pass
from fedpipe.federation.site_folder import SiteFolder
from fedpipe.federation.site_key import SiteKey
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.learning.loss_process import loss_process
from fedpipe.learning.randomness import noise_file
from fedpipe.learning.structure import flat
from fedpipe.learning.wiring import Share, Wiring
from fedpipe.runtime.kept_state import digest_if_there, remove_later, remove_superseded
from fedpipe.runtime.pass_runner import LastingWorker, PassRunner
from fedpipe.runtime.personal import ClientModels
from fedpipe.runtime.tff_executor import Compiled, fitting

_building = threading.Lock()  # sites of a test share a process, and TFF builds one graph at a time


class SiteTraining:
    """A training that the site takes part in; it is built in the background."""

    def __init__(self, join: Join, settings: Train, folder: SiteFolder, worker: LastingWorker) -> None:
        """Starts to build.

        Args:
          join: The question that asked the site to take part.
          settings: The settings in it.
          folder: Of the site.
          worker: Runs the clients.

        Raises:
          PipelineError: The site's key of noise cannot be read or made, and the training needs it.
        """
        self.join = join
        self.settings, self._shards, self._worker = settings, folder.shards.resolve(), worker
        self._state = folder.state.resolve() / join.training
        self._noise = _noise_key(folder) if has_noise_at_clients(settings) else None
        self._version = 0
        self._runner: PassRunner | None = None
        self._kept: Path | None = None
        self._wiring: Wiring | None = None
        self._failure: PipelineError | None = None
        self._thread = threading.Thread(target=self._build, daemon=True)
        self._thread.start()

    def runner(self) -> PassRunner:
        """What runs passes, once it is built.

        Raises:
          PipelineError: It cannot be built; the model does not fit the images, for instance.
        """
        self._thread.join()
        if self._runner is None:
            # Why may name a file of the site; the coordinator builds the same graphs, and sees its own error.
            raise PipelineError("the training's graphs could not be built (the site's logs say why)") from self._failure
        return self._runner

    @property
    def sums_securely(self) -> bool:
        """Whether the site's sums leave it in secure sums only."""
        return AGGREGATORS.of(self.settings.aggregator).SUMS_INTEGERS

    def fixed_point(self) -> FixedPoint:
        """How the site's sums become integers.

        Raises:
          PipelineError: As of `runner`; or sums stay as they are in this training.
        """
        self.runner()
        fixed_point = None if self._wiring is None else self._wiring.fixed_point
        if fixed_point is None:
            raise PipelineError("this training has no secure sums")
        return fixed_point

    def sums(
        self, question: Pass, message: Sequence[np.ndarray], chunks: Sequence[np.ndarray], work: str
    ) -> list[np.ndarray]:
        """The leaves of the sum of each chunk, one after the other; with noise of clients, zeros besides their updates.

        Args:
          question: Which pass.
          message: Its leaves.
          chunks: int32 [n, 4] of each chunk.
          work: The digest of all that decides the answer.

        Raises:
          PipelineError: A client failed, or the TFF worker ended twice.
        """
        runner = self.runner()
        if self._kept is not None:
            remove_superseded(self._kept, question.released)
        number = question.number
        if question.process == "losses":
            if not COHORTS.of(self.settings.cohort).needs_losses:
                raise PipelineError(f"'train.cohort' {self.settings.cohort} needs no losses of clients")
            number = runner.passes - 1
        elif number >= runner.passes - COHORTS.of(self.settings.cohort).needs_losses:
            raise PipelineError(f"there is no pass {number} in this training")
        self._version += 1
        runner.receive(self._version, number, message)
        leaves: list[np.ndarray] = []
        with self._with_noise(message, work):
            for sizes, requests in zip(question.chunks, chunks, strict=True):
                groups = np.split(requests, np.cumsum(sizes)[:-1])
                leaves += self._leaving(self._sum(runner, groups))
        return leaves

    def remove_later(self, last: np.ndarray, up_to: int) -> None:
        """Removes own clients' files of rounds after ``last``, int32 [n], up to the round ``up_to``."""
        rounds = {self.join.first + place: written for place, written in enumerate(last.tolist())}
        remove_later(self._state, rounds, up_to)

    def kept_digests(self, last: np.ndarray) -> np.ndarray | None:
        """The SHA-256 of each own client's file of the round ``last``, uint8 [n, 32], zeros for -1.

        None if one is missing.
        """
        digests = np.zeros((len(last), 32), np.uint8)
        for place in np.flatnonzero(last >= 0):
            digest = digest_if_there(self._state, self.join.first + int(place), int(last[place]))
            if not digest.any():
                return None
            digests[place] = digest
        return digests

    def make_personal(self, state: Sequence[np.ndarray], last: np.ndarray, file: Path) -> None:
        """Writes the personal models of the site's clients.

        Args:
          state: The leaves of the server's state.
          last: int32 [own clients], the round of each client's file, or -1.
          file: Where they are written.

        Raises:
          PipelineError: The algorithm has none, or the state does not fit it.
        """
        self.runner()
        wiring = self._wiring
        if wiring is None or wiring.algorithm.personal is None:
            raise PipelineError(f"'train.algorithm' {self.settings.algorithm} has no personal models")
        fitting(state, wiring.process.server.type, "a state")
        with _building:
            ClientModels(wiring, wiring.algorithm.personal, list(state), last).write(file)

    def close(self) -> None:
        """Clears the worker; client state stays until another training begins."""
        self._thread.join()
        self._worker.forget()

    @contextmanager
    def _with_noise(self, message: Sequence[np.ndarray], work: str) -> Iterator[None]:
        """The key of the noise of clients is where graphs read it, for the work that follows, if they add noise."""
        if self._noise is None:
            yield
            return
        file = noise_file(self._noise_key, int(message[-1]))  # the last leaf of a message is the round
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
                output.write(self._noise.noise(work))
            yield
        finally:
            file.unlink(missing_ok=True)

    @property
    def _noise_key(self) -> Path:
        return self._state / "noise"

    def _leaving(self, leaves: list[np.ndarray]) -> list[np.ndarray]:
        """The figures of a sum that leave the site: where clients add noise, only those with noise."""
        if self._noise is None or self._wiring is None:
            return leaves
        updates = len(flat(self._wiring.process.passes[0].sums.specs.update))
        return [*leaves[:updates], *map(np.zeros_like, leaves[updates:])]

    def _sum(self, runner: PassRunner, groups: list[np.ndarray]) -> list[np.ndarray]:
        """A sum; an error says nothing of a client, for it goes to the coordinator."""
        try:
            try:
                return runner.compute(self._version, groups, "whole")[0]
            except PipelineError:
                if self._worker.is_alive():
                    raise
            return runner.compute(self._version, groups, "whole")[0]  # on another worker
        except PipelineError as error:
            raise PipelineError("a client failed there (the site's audit log says why)") from error

    def _build(self) -> None:
        try:
            with _building:
                self._runner = PassRunner(self._worker, self._passes)
        except PipelineError as error:
            self._failure = error

    def _passes(self) -> list[Compiled]:
        """The passes of the training, and that of clients' losses if its cohort needs them."""
        join, settings = self.join, self.settings
        share = Share(join.first, join.clients)
        # The coordinator has the server's weights; a client's work does not depend on those that are drawn here.
        noise_key = None if self._noise is None else self._noise_key
        wiring = Wiring.of(settings, self._shards, self._state, share=share, noise_key=noise_key)
        self._kept, self._wiring = wiring.kept, wiring
        if wiring.kept is not None:
            for other in set(self._state.parent.glob("*")) - {self._state}:
                shutil.rmtree(other, ignore_errors=True)
            wiring.kept.mkdir(parents=True, exist_ok=True)
        passes = list(wiring.process.passes)
        if COHORTS.of(settings.cohort).needs_losses:
            passes += loss_process(wiring.task, ClientReader(self._shards, first=join.first)).passes
        return [Compiled(each) for each in passes]


def _noise_key(folder: SiteFolder) -> SiteKey:
    """The key of the noise of clients; an error names no file of the site, for the coordinator reads it."""
    try:
        return SiteKey.of_noise(folder.noise_key)
    except PipelineError as error:
        raise PipelineError(
            "its key for the noise of clients cannot be read or made (its audit log says why)"
        ) from error
