"""A site: it answers a coordinator's questions with sums over its own clients, within its own policy."""

import hashlib
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.shards import Manifest, Shards, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.federation.audit import (
    AUDIT_LOG,
    AnsweredMessages,
    AnsweredRounds,
    AuditLog,
    digest_of_message,
    digest_of_requests,
    spans,
)
from fedpipe.federation.counted import counted, require_sound, weight_of, work_of
from fedpipe.federation.counts import reported
from fedpipe.federation.fitting import require_fitting
from fedpipe.federation.messages import (
    VERSION,
    Answer,
    Describe,
    Description,
    Figures,
    Join,
    Kept,
    Measure,
    Message,
    Parcel,
    Pass,
    Personal,
    Ready,
    Secure,
    pack,
    shared_digest,
    unpack_question,
)
from fedpipe.federation.policy import Policy
from fedpipe.federation.secure_site import Party, SecurePart, step_name
from fedpipe.federation.site_figures import SiteFigures
from fedpipe.federation.site_key import SiteKey
from fedpipe.federation.site_training import SiteTraining
from fedpipe.params import parse
from fedpipe.pinning import require_avx2
from fedpipe.runtime.facts import FEDERATION, code, differences, facts
from fedpipe.runtime.pass_runner import LastingWorker
from fedpipe.samples.kind import PIXELS
from fedpipe.secure_aggregation.refusal import Refused

_UNKNOWN = pack(Answer(unknown=True))


@dataclass(frozen=True)
class SiteFolder:
    """Where a site's files are."""

    shards: Path
    state: Path  # what clients keep
    personal: Path  # the clients' personal models, a file per training
    logs: Path
    tests: Path | None = None  # the clients' held-out samples, if they have any


class Site:
    """A site; `answer` is all that a link needs of it."""

    def __init__(
        self,
        name: str,
        folder: SiteFolder,
        policy: Policy,
        checkout: Callable[[], tuple[str, bool]] = lambda: ("", False),
        party: Party | None = None,
    ) -> None:
        """Starts the site's TFF worker.

        Args:
          name: The site's name, as its certificate has it.
          folder: Its files.
          policy: The site's limits.
          checkout: The commit of the site's own checkout, and whether files differ from it.
          party: Its identity and roster, for secure sums.

        Raises:
          PipelineError: The count of its rounds is damaged, or TFF's worker cannot be started.
        """
        self.name, self._folder, self._policy, self._checkout = name, folder, policy, checkout
        self._party = party
        self._code_at_start = code()
        self._audit = AuditLog(folder.logs / AUDIT_LOG)
        self._rounds = AnsweredRounds(folder.logs / "answered.txt")
        self._messages = AnsweredMessages(folder.logs / "messages.txt")
        self._key = SiteKey(folder.logs)
        self._figures = SiteFigures(folder.shards, folder.tests, policy)
        self._guard = threading.Lock()
        self._training: SiteTraining | None = None
        self._secure: SecurePart | None = None  # of the training, once a step has come
        self._verified = ""  # the digest of the shards that were verified last
        self._last: tuple[str, bytes] = ("", b"")  # the digest of the last question for sums, and the answer
        self._worker = LastingWorker(folder.logs / "worker.log")

    def answer(self, question: bytes) -> bytes:
        """The answer to a question, one after the other; both are in the audit log.

        Raises:
          PipelineError: The audit log cannot be written, so nothing is answered.
        """
        with self._guard:
            kind, details, is_noted = "unreadable", dict[str, object](), False
            try:
                parcel = unpack_question(question)
                kind = parcel.message.kind
                self._audit.write("in", question, kind=kind, **_shown(parcel))
                is_noted = True
                content = self._answered(parcel, hashlib.sha256(question).hexdigest())
            except PipelineError as error:
                content = pack(Answer(refused=[str(error)], is_over=isinstance(error, Refused)))
                details = {"refused": str(error)}
                if error.__cause__ is not None:  # which stays here
                    details["because"] = str(error.__cause__)
            except Exception as error:  # noqa: BLE001 - whatever a question brings about, the site stays
                traceback.print_exc()
                content, details = pack(Answer(refused=["it failed (see its log)"])), {"refused": repr(error)}
            if not is_noted:
                self._audit.write("in", question, kind=kind)
            if content == _UNKNOWN:
                details["unknown"] = True
            self._audit.write("out", content, kind=kind, **details)
            return content

    def close(self) -> None:
        """Ends the TFF worker."""
        with self._guard:
            self._leave()
            self._worker.close()

    def _answered(self, parcel: Parcel, digest: str) -> bytes:
        """The bytes of an answer.

        Raises:
          PipelineError: The site does not answer.
        """
        question, arrays = parcel
        if isinstance(question, Describe):
            return self._description()
        if isinstance(question, Join):
            return self._answer_to_join(question)
        if isinstance(question, Measure):
            return self._measured(question, arrays, digest)
        if self._training is None or self._training.join.training != question.training:
            return _UNKNOWN
        if isinstance(question, Ready):
            self._training.runner()
            return pack(Answer())
        if isinstance(question, Kept):
            last = self._last_rounds(arrays)
            if question.removes:
                self._last = "", b""  # its answer stands for files that may go
                self._training.remove_later(last, question.removes)
            digests = self._training.kept_digests(last)
            digest = "0" * 64 if digests is None else self._key.digest("what clients keep", digests.tobytes())
            return pack(Answer(), [np.frombuffer(bytes.fromhex(digest), np.uint8)])
        if isinstance(question, Personal):
            *state, last = arrays or [np.zeros(0)]
            file = self._folder.personal / f"{question.training}.safetensors"
            self._training.make_personal(state, self._last_rounds([last]), file)
            return pack(Answer())
        if isinstance(question, Secure):
            step = self._secure_part(self._training).answer(question, arrays)
            return pack(Answer(unknown=True)) if step is None else pack(Answer(), [np.frombuffer(step, np.uint8)])
        if self._training.sums_securely:
            raise PipelineError("its sums in this training leave in a secure sum only, and it is asked for plain ones")
        if digest == self._last[0]:
            return self._last[1]  # the answer was lost on its way
        answer = pack(Answer(), self._sums(self._training, question, arrays))
        self._last = digest, answer
        return answer

    def _description(self) -> bytes:
        manifest = Manifest.read(self._folder.shards)
        description = Description(
            site=self.name,
            dataset=manifest.dataset,
            image_shape=list(manifest.image_shape),
            classes=manifest.classes,
            digest=self._digest(manifest),
            counts=self._policy.counts,
            shared=manifest.shared(),
            policy=self._policy.model_dump(),
        )
        return pack(description, [reported(np.diff(Shards.open(self._folder.shards).offsets), self._policy.counts)])

    def _digest(self, manifest: Manifest) -> str:
        """The digest of the shards that others get: it tells nothing to who can guess samples."""
        return self._key.digest("shards", manifest.digest.encode())

    def _answer_to_join(self, join: Join) -> bytes:
        """The answer to a coordinator that asks the site to take part, with the sum of its clients' weights if asked.

        Raises:
          PipelineError: The policy lets out no sum over the site's clients.
        """
        refused = self._joined(join)
        if refused or not join.wants_weights or self._training is None:
            return pack(Answer(refused=refused))
        settings = self._training.settings
        if self._training.sums_securely or not ALGORITHMS.of(settings.algorithm).ALL_WEIGHTS:
            raise PipelineError("this training needs no sum of its clients' weights")
        samples = np.diff(Shards.open(self._folder.shards).offsets)
        clients, total = weight_of(samples, settings)
        self._require_sum(int(clients.sum()), int(samples[clients].sum()))
        # The sums over two choices of clients, such as those with a batch of another size, differ by few clients.
        question = digest_of_message(f"weights by {settings.client_weighting} {join.digest}", [])
        answered = question, digest_of_requests([], [clients])
        if self._policy.protects_clients or self._policy.counts != "exact":
            self._messages.require_same(*answered)
        self._messages.add(*answered)
        return pack(Answer(), [np.array([total])])

    def _joined(self, join: Join) -> list[str]:
        """Gets ready for a training; returns why the site does not take part, nothing if it does."""
        if join.version != VERSION:
            return [f"it speaks version {VERSION} of the messages, and the coordinator {join.version}"]
        if join.site != self.name:
            return [f"it is {self.name}, and was asked as {join.site}"]
        if self._training is not None and self._training.join == join:
            return self._wrong_data(join)
        wrong = self._policy.refused_choices(join.settings)
        if wrong:
            return wrong
        settings = parse(Train, join.settings)
        require_fitting(settings)
        wrong = [f"another {difference}" for difference in differences(join.facts, facts(settings, FEDERATION))]
        if code() != self._code_at_start:
            wrong.append("its code has changed since it was started (start it again)")
        wrong += self._policy.refused_checkout(*self._checkout())
        wrong += self._policy.refused_settings(settings, join.sites, self._rounds.count(but=join.training))
        wrong += self._wrong_party(settings, join)
        wrong += self._wrong_data(join)
        if not wrong:
            require_avx2()
            self._leave()
            self._training = SiteTraining(join, settings, self._folder.shards, self._folder.state, self._worker)
        return wrong

    def _wrong_party(self, settings: Train, join: Join) -> list[str]:
        """Why the site does not take part in a training's secure sums, if it has them."""
        if not AGGREGATORS.of(settings.aggregator).SUMS_INTEGERS:
            return []
        if self._party is None:
            return [f"it has no roster of sites, which 'train.aggregator' {settings.aggregator} needs: see its log"]
        if join.run is None or join.roster is None:
            return [f"'train.aggregator' {settings.aggregator} needs a coordinator with a roster of sites"]
        return self._party.refused(self.name, join.sites, join.roster)

    def _secure_part(self, training: SiteTraining) -> SecurePart:
        """The site in the secure sums of the training that it has joined.

        Raises:
          PipelineError: The training has none, or its graphs could not be built.
        """
        if not training.sums_securely or self._party is None or training.join.run is None:
            raise PipelineError("this training has no secure sums")
        if self._secure is None:
            self._secure = SecurePart(
                self._party,
                training.join.run,
                shared_digest(training.join),
                training.fixed_point(),
                self._policy.least_sites,
                self._folder.logs / "secure",
                lambda question, arrays: self._sums(training, question, arrays),
            )
        return self._secure

    def _measured(self, question: Measure, arrays: list[np.ndarray], digest: str) -> bytes:
        """The answer to a question for figures; it counts as a round, and there are none beyond those of the policy.

        Raises:
          PipelineError: The site has other shards, or does not measure this model.
        """
        if question.version != VERSION:
            raise PipelineError(f"it speaks version {VERSION} of the messages, and the coordinator {question.version}")
        if self._digest(Manifest.read(self._folder.shards)) != question.digest:
            raise PipelineError("its shards are others than the coordinator knows: partition again there")
        request = digest[:16], "measure", digest
        if self._rounds.with_question(*request) > self._policy.rounds:
            return pack(Figures(held_out=None, because=f"its policy allows {self._policy.rounds} rounds in all"))
        figures, of_clients = self._figures.of(question, arrays)
        self._rounds.add(*request)
        return pack(figures, of_clients)

    def _wrong_data(self, join: Join) -> list[str]:
        """The faults of the shards here for a training."""
        here = Manifest.read(self._folder.shards)
        digest = self._digest(here)
        if digest != join.digest:
            known = f"{digest[:12]}, not {join.digest[:12]}"
            return [f"its shards are others than the coordinator knows ({known}): partition again there"]
        if here.format != PIXELS:
            return [f"it has {here.kind}, and a federation takes uint8 samples of classes"]
        if list(here.image_shape) != join.image_shape or here.classes != join.classes:
            ours, theirs = f"{here.image_shape} of {here.classes}", f"{tuple(join.image_shape)} of {join.classes}"
            return [f"its images are {ours} classes, and those of the training {theirs}"]
        if join.first + here.clients > join.clients:
            return [f"its {here.clients} clients from {join.first} on are more than the {join.clients} of the training"]
        if self._verified != here.digest:
            try:
                verify_shards(self._folder.shards, here)
            except PipelineError as error:
                raise PipelineError("its shards are damaged (its audit log says which)") from error
            self._verified = here.digest
        return []

    def _sums(self, training: SiteTraining, question: Pass, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The leaves of the sums that the question wants, if the policy lets each of them out."""
        count = len(question.chunks)
        if not count or count >= len(arrays):
            raise PipelineError("a question for sums must have chunks, and arrays besides")
        message, chunks = arrays[:-count], arrays[-count:]
        offsets, first = Shards.open(self._folder.shards).offsets, training.join.first
        samples = np.diff(offsets)
        for sizes, requests in zip(question.chunks, chunks, strict=True):
            if requests.dtype != np.int32 or requests.shape != (sum(sizes), 4) or 0 in sizes:
                raise PipelineError("a chunk's requests are not int32 [clients, 4], or a group is empty")
        require_sound(chunks, training.settings)
        # Of a secure sum all chunks leave together.
        for requests in [np.concatenate(chunks)] if training.sums_securely else chunks:
            places = requests[:, 0].astype(np.int64) - first
            if places.min() < 0 or places.max() >= len(samples):
                raise PipelineError("it is asked for clients that it does not have")
            if question.process == "training":
                places = places[counted(requests, samples[places], training.settings)]
            clients = np.unique(places)
            # To a secure sum over other sites a site without clients adds nothing, and would make it a sum of few.
            if len(clients) or training.sums_securely:
                self._require_sum(len(clients), int(samples[clients].sum()))
        identity = work_of(training.join, pack(question.model_copy(update={"released": 0}), arrays))
        # Of losses the coordinator chooses the number, so each question counts.
        name = "losses" if question.process == "losses" else f"{question.process}-{question.number}"
        request = training.join.training, name, identity
        if self._rounds.with_question(*request) > self._policy.rounds:
            raise PipelineError(f"its policy allows {self._policy.rounds} rounds in all, and it has answered them")
        every = np.concatenate(chunks)
        summands = np.flatnonzero(counted(every, samples[every[:, 0] - first], training.settings)).tolist()
        # The same numbers are other samples where the first one is another, or after another partition.
        whose = [question.chunks, first, training.join.digest, summands]
        answered = digest_of_message(question.process, message), digest_of_requests(whose, chunks)
        if self._policy.protects_clients or training.sums_securely:
            self._messages.require_same(*answered)
        leaves = training.sums(question, message, chunks)
        # The graphs read the shards' file again in each round, and would take another one of the same size.
        if self._digest(Manifest.read(self._folder.shards)) != training.join.digest:
            raise PipelineError("its shards have changed since it joined: start the training again")
        self._rounds.add(*request)
        self._messages.add(*answered)
        return leaves

    def _require_sum(self, clients: int, samples: int) -> None:
        """Checks that a sum over so many clients and samples may leave; how many they are stays in the audit log.

        Raises:
          PipelineError: It may not.
        """
        if refused := self._policy.refused_sum(clients, samples):
            raise PipelineError(refused) from PipelineError(f"{clients} clients, {samples} samples")

    def _last_rounds(self, arrays: list[np.ndarray]) -> np.ndarray:
        own = Manifest.read(self._folder.shards).clients
        if len(arrays) != 1 or arrays[0].dtype != np.int32 or arrays[0].shape != (own,):
            raise PipelineError(f"a question for what clients keep must have one array, int32 [{own}]")
        return arrays[0]

    def _leave(self) -> None:
        if self._training is not None:
            self._training.close()
        if self._secure is not None:
            self._secure.close()
        self._training = self._secure = None
        self._last = "", b""


def _shown(parcel: Parcel) -> dict[str, object]:
    """What the audit log shows of a question; of facts their digest is enough, which is the message's."""
    message: Message = parcel.message
    details = message.model_dump(exclude={"kind", "facts", "version"})
    if isinstance(message, Secure):
        details["step"] = step_name(parcel.arrays)
    if isinstance(message, Pass | Secure) and message.chunks:
        details["clients"] = [spans(requests) for requests in parcel.arrays[-len(message.chunks) :]]
    return details
