"""A training: `prepare` connects its parts, `Training.run` runs its rounds.

The stage, `fedpipe.simulate`, `make profile` and the benchmarks all train in this way.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fedpipe.compatibility import round_size
from fedpipe.config.train import Dropout, Train
from fedpipe.contracts.aggregator import has_noise_at_clients, has_noise_at_sites, has_secret_noise
from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.contracts.cohort import COHORTS
from fedpipe.datasets.shards import Manifest, open_shards
from fedpipe.errors import PipelineError
from fedpipe.learning.local_training import batch_count
from fedpipe.learning.measurements import CLIENT_ROWS, Measurements
from fedpipe.learning.process import Process
from fedpipe.learning.wiring import Wiring
from fedpipe.learning.work_request import WorkRequest
from fedpipe.networks.network import Network, Weights
from fedpipe.pinning import require_avx2
from fedpipe.privacy.calibration import calibrated
from fedpipe.privacy.ledger import Ledger
from fedpipe.privacy.noise import secret_key
from fedpipe.privacy.requirements import require_no_secret
from fedpipe.privacy.site_noise import SiteNoise
from fedpipe.runtime import memory_check
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.availability import Message
from fedpipe.runtime.checkpoint import Best, Checkpoint
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.chunks import Elsewhere
from fedpipe.runtime.client_losses import client_losses
from fedpipe.runtime.cohort import Cohort, Losses, cohort
from fedpipe.runtime.dropouts import SiteDropouts
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.hooks import (
    Evaluation,
    KeepBest,
    PhaseTable,
    PrivacySpent,
    SaveCheckpoints,
    StopAtTarget,
    StopWithoutGain,
)
from fedpipe.runtime.kept_state import KeptFiles, KeptState
from fedpipe.runtime.measuring import OwnEvaluation, measuring
from fedpipe.runtime.notices import NoticeDivergence, NoticeStandstill
from fedpipe.runtime.personal import personal_models
from fedpipe.runtime.phases import Phases
from fedpipe.runtime.progress import Progress, say
from fedpipe.runtime.records import RoundRecord, require_contribution
from fedpipe.runtime.rounds import CompletedRound, History, Hook, Passing, Round, finite
from fedpipe.runtime.secure_rounds import require_enough_sites
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.worker import Worker
from fedpipe.system.signals import held

# (round, measures clients, for a cohort that needs it) -> who takes part
Draw = Callable[[int, Losses | None], Cohort]


@dataclass(frozen=True, eq=False)
class Training:
    """A training that is ready to run."""

    wiring: Wiring
    draw: Draw
    cohort_size: int  # how many clients a round has, or about so many
    rounds: int  # ``train.rounds``, or as many as the privacy budget allows
    ledger: Ledger | None  # None if the training is not private
    dropouts: SiteDropouts  # that params list
    kept: KeptState | None  # what clients keep from round to round; None if they keep nothing
    folder: Path  # of the logs
    checkpoints: Checkpoints | None
    resumed: Checkpoint | None = None  # where it resumes

    def run(
        self,
        worker: Worker,
        *,
        evaluate: Evaluation | None = None,
        evaluate_own: OwnEvaluation | None = None,
        hooks: Sequence[Hook] = (),
        elsewhere: Elsewhere | None = None,
        progress: bool = True,
        salvage: bool = False,
    ) -> Trained:
        """Runs the rounds, or those after a checkpoint.

        Args:
          worker: Where the server runs, and the clients.
          evaluate: Measures the global model in the rounds that ``evaluate_every`` names, and in the last one.
          evaluate_own: In its place, of an algorithm without a global model: measures a client's model.
          hooks: Further hooks; they come after those that measure and report a round, and before it is saved.
          elsewhere: Other machines where clients run, instead of on ``worker``.
          progress: Whether rounds are reported on standard error.
          salvage: Whether Ctrl-C after a completed round ends the training with that round, and not with an exception.

        Raises:
          PipelineError: A round could not be run, or the weights are not finite any more.
        """
        resumed = self.resumed
        history, phases, task = History(resumed), Phases(), self.wiring.task
        done_before = len(history.records)
        site_of, rounded = self.wiring.manifest.site_of, self.wiring.simulated_rounding
        worker.wait_until_ready()
        if elsewhere is not None:
            if not has_noise_at_sites(task.settings) and not self.wiring.noise_is_of_sites:
                require_no_secret(task.settings)
            elsewhere.begin(self.wiring.kept, self.wiring.fixed_point)
        elif self.wiring.manifest.samples_at == "sites":
            raise PipelineError(
                f"the samples of {self.wiring.shards} lie at sites: train with them (docs/federation.md)"
            )
        with (
            Engine(self.wiring.process, worker, self.cohort_size, elsewhere, phases, site_of, rounded) as engine,
            client_losses(self.wiring, worker, engine, elsewhere) as losses,
            ExitStack() as stack,
        ):
            measures = measuring(self.wiring, engine.state, self.rounds, evaluate, evaluate_own)
            every_hook = [stack.enter_context(hook) for hook in self._hooks(history, engine, measures, hooks, progress)]

            def in_turn() -> Iterator[Hook]:
                for hook in every_hook:
                    with phases.timed(hook.phase):
                        yield hook

            def report(number: int, size: int, done: int) -> None:
                for hook in in_turn() if not has_secret_noise(task.settings) else ():
                    hook.on_clients(number, size, done)

            if resumed is not None:
                engine.restore(resumed.state)

            def run_round() -> None:
                start, number = time.perf_counter(), len(history.records) + 1
                selected = self.draw(number, losses)
                done = partial(report, number, len(selected.clients))
                if elsewhere is not None:
                    elsewhere.begin_round(number)
                lost_from = self.dropouts.lost_from(number, selected.clients)
                measured = engine.run_round(selected.packed(self.kept), done, lost_from)
                selected, dropouts = self.dropouts.after(number, selected, engine.lost_from)
                current = Round(number, engine.weights, history.best, last_rounds=self._last_rounds(selected, number))
                for hook in in_turn():
                    hook.measure(current)
                record, passing = self._record(current, selected, dropouts, measured), None
                if current.only_last:
                    passing = Passing(self._record(current.passing(), selected, dropouts, measured), history.best)
                seconds = time.perf_counter() - start
                rows = measured.get(CLIENT_ROWS)
                with held():
                    history.add(record, seconds, current.best, dropouts, passing, None if rows is None else rows.total)
                    if self.kept:
                        self.kept.advance(selected.trained, number)
                completed = CompletedRound(record, seconds, phases.end_round())
                for hook in in_turn():
                    hook.on_round_end(completed)

            interrupted = False
            try:
                while not self._is_over(history.records, every_hook):
                    run_round()
            except KeyboardInterrupt:
                if not salvage or not history.records:
                    raise
                engine.rewind(len(history.records) - done_before)
                interrupted = True
            trained = self._trained(engine, history, elsewhere, interrupted)
            if self.checkpoints is not None:
                self.checkpoints.ended(trained.end, self.kept)
            return trained

    def _hooks(
        self,
        history: History,
        engine: Engine,
        measures: Sequence[Hook],
        others: Sequence[Hook],
        progress: bool,
    ) -> Iterator[Hook]:
        """All hooks in their order: columns are measured before they are read, and rounds are reported before saved."""
        settings, completed = self.wiring.task.settings, len(history.records)
        yield from measures
        if settings.keep_best:
            yield KeepBest(settings.selection)
        if self.ledger is not None:
            yield PrivacySpent(self.ledger)
        if getattr(self.wiring.aggregator, "SUMS_INTEGERS", False):
            yield NoticeStandstill(self.wiring.first if not completed else None, settings.aggregator)
        if not has_secret_noise(settings):
            yield NoticeDivergence(history)
        yield PhaseTable(self.folder / "phases.csv", resumed=completed > 0)
        yield Progress(self.folder / "rounds.log", self.rounds, completed, shown=progress)
        yield from others
        if self.checkpoints is not None and self.checkpoints.enabled:
            yield SaveCheckpoints(self.checkpoints, history, engine, self.kept)
        if settings.stop_at.patience is not None:
            yield StopWithoutGain(settings.stop_at.patience, settings.selection, history)
        if settings.stop_at.accuracy is not None:
            yield StopAtTarget(settings.stop_at.accuracy, settings.selection)

    def _is_over(self, records: Sequence[RoundRecord], hooks: Iterable[Hook]) -> bool:
        """Whether no further round is run; a checkpoint may be of the last one."""
        return len(records) >= self.rounds or any(hook.stops(records[-1]) for hook in hooks if records)

    def _last_rounds(self, selected: Cohort, number: int) -> np.ndarray | None:
        """The rounds of the clients' states once round ``number`` counts: int32 [clients]; None if they keep none."""
        if self.kept is None:
            return None
        last = self.kept.last.copy()
        last[selected.trained] = number
        return last

    def _record(
        self, current: Round, selected: Cohort, dropouts: Sequence[Dropout], measured: Measurements
    ) -> RoundRecord:
        """The record of a round: all that is reported, saved and delivered of it.

        Raises:
          PipelineError: No client contributed, and the settings do not let that happen.
        """
        settings = self.wiring.task.settings
        # Where chance decides who is left, they may have no sample; a private training must not tell that by its end.
        may_be_empty = COHORTS.of(settings.cohort).MAY_BE_EMPTY or settings.availability.decides_who or bool(dropouts)
        may_be_empty = may_be_empty or self._others_can_train()
        if not has_secret_noise(settings):  # an error would tell of clients' data
            may_be_empty = may_be_empty or self.ledger is not None
            require_contribution(current.number, selected, measured, may_be_empty, drops=settings.last_batch == "drop")
        record = RoundRecord.of(current.number, selected, measured, self.wiring.process.bytes, current.columns)
        return record.withheld(current.columns) if has_secret_noise(settings) else record

    def _others_can_train(self) -> bool:
        """Whether a round whose clients have no batch is chance, since each round draws others."""
        settings = self.wiring.task.settings
        if settings.clients_per_round == "all":
            return False
        return self.wiring.manifest.samples_at == "sites" or bool(
            (batch_count(settings, self.wiring.reader.sizes) > 0).any()
        )

    def _trained(
        self, engine: Engine, history: History, elsewhere: Elsewhere | None, interrupted: bool = False
    ) -> Trained:
        """The result of the training."""
        records, settings = history.records, self.wiring.task.settings
        last = finite(engine.weights())
        best = history.best or Best(0.0, len(records), last)
        return Trained(
            settings=settings,
            network=self.wiring.task.network,
            weights=last,
            best=best.weights,
            best_round=best.round,
            records=records,
            dropouts=history.dropouts,
            privacy={} if self.ledger is None else self.ledger.summary(len(records)),
            # Personal models are made without noise, and would stay with their clients.
            personal=None if has_secret_noise(settings) else personal_models(self.wiring, engine, self.kept, elsewhere),
            end=None if has_secret_noise(settings) else history.end(engine.state()),
            interrupted=interrupted,
            noise_is_of_sites=self.wiring.noise_is_of_sites,
            client_rows=history.client_rows,
        )


def prepare(
    settings: Train,
    shards: Path,
    folder: Path,
    *,
    network: Network | None = None,
    first: Weights | None = None,
    checkpoints: Checkpoints | None = None,
    all_weights: float | None = None,
    resumed: Checkpoint | None = None,
    fewest_sites: int | None = None,
) -> Training:
    """Gets a training ready; it loads TensorFlow and TFF, so start the worker before.

    Args:
      settings: Section train of params.yaml.
      shards: The folder of the clients' shards.
      folder: Where logs go, and without ``checkpoints`` the clients' state while training runs.
      network: The model; by default that of the settings, for the shards' images and classes.
      first: The weights before the first round; by default drawn from the seed.
      checkpoints: Where the training is saved, and from where it may resume.
      all_weights: The sum of all clients' weights, where sites do not tell how many samples each client has.
      resumed: Where it resumes without ``checkpoints``; the clients' state of then is in ``folder``/clients.
      fewest_sites: In a secure sum, as the roster has it.

    Raises:
      PipelineError: The CPU is too old, there are too few clients or too little memory, the model does not fit the
        images, the first round would exceed the privacy budget, or no noise keeps the target.
    """
    require_avx2()
    drawing, key = settings, None
    if has_noise_at_clients(settings) and Manifest.read(shards).samples_at == "sites":
        say("each site draws the noise of its clients with a secret key: no simulation has these bits")
        say("epsilon holds against the coordinator, too; figures without noise are withheld (docs/federation.md)")
    elif has_secret_noise(settings):
        # Who knows the cohorts needs no sampling to look through, so these are as secret as the noise.
        drawing, key = settings.model_copy(update={"seed": secrets.randbits(128)}), secret_key()
        say("noise and cohorts come from the system's generator: no other run has these bits, none can continue it")
        say("figures that clients' data decide are withheld, and so are personal models (docs/privacy.md)")
    sizes = np.diff(open_shards(shards).offsets)
    clients = len(sizes)

    def drawn(number: int) -> np.ndarray:
        return cohort(drawing, sizes, number).clients

    settings = calibrated(settings, clients, drawn)
    place = checkpoints.kept_folder if checkpoints else folder / "clients"
    wiring = Wiring.of(settings, shards, place, network=network, first=first, noise_key=key, all_weights=all_weights)
    memory_check.require_memory(wiring.task, wiring.aggregator)
    kept: KeptState | None = None
    if checkpoints is not None:
        resumed = checkpoints.resumed
    if wiring.kept is not None:
        if checkpoints is not None:
            kept = checkpoints.kept_state(clients)
        elif resumed is not None and resumed.last is not None and resumed.digests is not None:
            kept = KeptFiles.restored(wiring.kept, resumed.last, resumed.digests, resumed.round, guarded=False)
        else:
            kept = KeptFiles(wiring.kept, clients)
    ledger = _ledger(settings, wiring, drawn)
    rounds = settings.rounds if ledger is None else ledger.rounds()
    draw, cohort_size = _drawing(drawing, sizes, _message(settings, wiring.process))
    if wiring.algorithm.POOLS_SAMPLES:
        draw, cohort_size = (lambda number, losses: Cohort(WorkRequest.of([0]))), 1
    site_of = wiring.manifest.site_of
    dropouts = SiteDropouts(settings, wiring.manifest, len(wiring.process.passes))
    if wiring.aggregator.SUMS_INTEGERS and wiring.manifest.samples_at == "sites" and site_of is not None:
        require_enough_sites(lambda number: dropouts.present(number, draw(number, None)), rounds, site_of, fewest_sites)
    return Training(wiring, draw, cohort_size, rounds, ledger, dropouts, kept, folder, checkpoints, resumed)


def _ledger(settings: Train, wiring: Wiring, draw: Callable[[int], np.ndarray]) -> Ledger | None:
    """The ledger of a training; None without noise.

    Raises:
      PipelineError: Noise is added by sites, and clients have none.
    """
    clients = wiring.manifest.clients
    if not has_noise_at_sites(settings):
        return Ledger.of(settings, clients, draw)
    if wiring.manifest.samples_at != "sites" or wiring.fixed_point is None:
        raise PipelineError(
            f"params.yaml: 'train.{settings.aggregator}.noise_multiplier' is for sites of a federation, which add this "
            "noise, and the samples are here: set it to 0.0"
        )
    own, aggregator = settings.params_of("aggregator"), wiring.aggregator
    most = min(max(len(own) for _, own in wiring.manifest.ranges()), round_size.cohort_sizes(settings, clients).most)
    scale, fixed_point = aggregator.integers_per_unit(settings, clients), wiring.fixed_point
    return Ledger(settings, SiteNoise(fixed_point.noise, scale, own.norm, fixed_point.length, most), draw)


def _drawing(settings: Train, sizes: np.ndarray, message: Message) -> tuple[Draw, int]:
    """Who takes part in each round, and how many a round has."""
    rules = asynchrony_of(settings)
    if rules is not None:
        # As many start as arrive.
        return Schedule(settings, rules, sizes, message).cohort, 2 * rules.buffer_size
    size = len(sizes) if settings.clients_per_round == "all" else settings.clients_per_round
    return lambda number, losses: cohort(settings, sizes, number, losses, message), size


def _message(settings: Train, process: Process) -> Message:
    """What goes to and from a client in a round.

    Raises:
      PipelineError: It takes time, and how long is known only when the client has trained.
    """
    down, up, compressed = process.bytes
    if compressed is None and settings.availability.devices.bandwidth.up:
        raise PipelineError(
            "params.yaml: 'train.availability.devices.bandwidth.up' needs the size of an update before its client "
            f"trains, and fedpipe/compressors/{settings.compressor}.py says it after: return it as a constant, or set "
            "'up' to 0.0"
        )
    return Message(down, up + (compressed or 0))
