"""A site: it answers a coordinator's questions with sums over its own clients, within its own policy."""

import hashlib
import threading
import traceback
from collections.abc import Callable

import numpy as np

from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.evaluation.held_out import Sums
from fedpipe.federation.audit import AUDIT_LOG, AnsweredRounds, AuditLog, spans
from fedpipe.federation.counts import reported
from fedpipe.federation.joining import Joining
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
    SecureMeasure,
    pack,
    shared_digest,
    unpack_question,
)
from fedpipe.federation.policy import Policy
from fedpipe.federation.secure_figures import SecureFigures, figures_digest
from fedpipe.federation.secure_site import Party, SecurePart, step_name
from fedpipe.federation.site_figures import SiteFigures
from fedpipe.federation.site_folder import SiteFolder
from fedpipe.federation.site_key import SiteKey
from fedpipe.federation.site_sums import SiteSums
from fedpipe.federation.site_training import SiteTraining
from fedpipe.params import parse
from fedpipe.pinning import require_avx2
from fedpipe.runtime.pass_runner import LastingWorker
from fedpipe.samples.agreement import differences
from fedpipe.secure_aggregation.refusal import Refused

_UNKNOWN = pack(Answer(unknown=True))


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
        self.name, self._folder, self._policy, self._party = name, folder, policy, party
        self._audit = AuditLog(folder.logs / AUDIT_LOG)
        self._rounds = AnsweredRounds(folder.logs / "answered.txt")
        self._key = SiteKey.of_digests(folder.logs)
        self._joining = Joining(name, folder, policy, checkout, party, self._key, self._rounds)
        self._sums = SiteSums(folder, policy, self._key, self._rounds)
        self._figures = SiteFigures(folder.shards, folder.tests, policy)
        self._secure_figures = SecureFigures(
            name, party, policy.least_sites, folder.logs / "secure-figures", self._figures_in_secure_sum
        )
        self._guard = threading.Lock()
        self._training: SiteTraining | None = None
        self._secure: SecurePart | None = None  # of the training, once a step has come
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
            self._secure_figures.close()
            self._worker.close()

    def _answered(self, parcel: Parcel, digest: str) -> bytes:
        """The bytes of an answer.

        Raises:
          PipelineError: The site does not answer.
        """
        question, arrays = parcel
        if isinstance(question, Describe):
            return self._description(question)
        if isinstance(question, Join):
            return self._answer_to_join(question)
        if isinstance(question, Measure):
            return self._measured(question, arrays, digest)
        if isinstance(question, SecureMeasure):
            return _step_or_unknown(self._secure_figures.answer(question, arrays))
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
            return _step_or_unknown(self._secure_part(self._training).answer(question, arrays))
        if self._training.sums_securely:
            raise PipelineError("its sums in this training leave in a secure sum only, and it is asked for plain ones")
        if digest == self._last[0]:
            return self._last[1]  # the answer was lost on its way
        answer = pack(Answer(), self._sums.leaves(self._training, question, arrays))
        self._last = digest, answer
        return answer

    def _description(self, question: Describe) -> bytes:
        manifest = self._folder.manifest()
        description = Description(
            site=self.name,
            dataset=manifest.dataset,
            image_shape=list(manifest.image_shape),
            classes=manifest.classes,
            digest=self._key.digest_of(manifest),
            counts=self._policy.counts,
            differs=_differing_samples(question, manifest),
            policy=self._policy.model_dump(),
        )
        return pack(description, [reported(self._folder.samples(), self._policy.counts)])

    def _answer_to_join(self, join: Join) -> bytes:
        """The answer to a coordinator that asks the site to take part, with the sum of its clients' weights if asked.

        Raises:
          PipelineError: The policy lets out no sum over the site's clients.
        """
        if self._training is not None and self._training.join == join:
            refused = self._joining.wrong_data(join)
        else:
            refused = self._joining.refused(join)
            if not refused:
                require_avx2()
                self._leave()
                self._training = SiteTraining(join, parse(Train, join.settings), self._folder, self._worker)
        if refused or not join.wants_weights or self._training is None:
            return pack(Answer(refused=refused))
        return pack(Answer(), [np.array([self._sums.weights(self._training, join)])])

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
                lambda question, arrays: self._sums.leaves(training, question, arrays),
            )
        return self._secure

    def _measured(self, question: Measure, arrays: list[np.ndarray], digest: str) -> bytes:
        """The answer to a question for figures; it counts as a round, and there are none beyond those of the policy.

        Raises:
          PipelineError: The site has other shards, or does not measure this model.
        """
        self._require_known(question)
        request = digest[:16], "measure", digest
        if self._rounds.with_question(*request) > self._policy.rounds:
            return pack(Figures(held_out=None, because=f"its policy allows {self._policy.rounds} rounds in all"))
        figures, of_clients = self._figures.of(question, arrays)
        self._rounds.add(*request)
        return pack(figures, of_clients)

    def _figures_in_secure_sum(self, question: SecureMeasure, weights: list[np.ndarray]) -> Sums:
        """The site's figures for a secure sum; of each model they count as a round.

        Raises:
          PipelineError: As of `_measured`; or the policy allows no further rounds.
        """
        self._require_known(question)
        digest = figures_digest(question, weights).hex()
        request = digest[:16], "measure", digest
        if self._rounds.with_question(*request) > self._policy.rounds:
            raise PipelineError(f"its policy allows {self._policy.rounds} rounds in all")
        sums = self._figures.in_secure_sum(question, weights)
        self._rounds.add(*request)
        return sums

    def _require_known(self, question: Measure | SecureMeasure) -> None:
        """Raises PipelineError if the coordinator speaks another version, or knows other shards."""
        if question.version != VERSION:
            raise PipelineError(f"it speaks version {VERSION} of the messages, and the coordinator {question.version}")
        if self._key.digest_of(self._folder.manifest()) != question.digest:
            raise PipelineError("its shards are others than the coordinator knows: partition again there")

    def _last_rounds(self, arrays: list[np.ndarray]) -> np.ndarray:
        own = self._folder.manifest().clients
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


def _differing_samples(question: Describe, manifest: Manifest) -> list[str]:
    """How the site's samples differ from those that a coordinator asks for, if it asks."""
    own = manifest.kind
    return [] if question.samples is None else differences(own._replace(format=question.samples), own)


def _step_or_unknown(step: bytes | None) -> bytes:
    """The answer to a question for a step of a secure sum."""
    return _UNKNOWN if step is None else pack(Answer(), [np.frombuffer(step, np.uint8)])


def _shown(parcel: Parcel) -> dict[str, object]:
    """What the audit log shows of a question; of facts their digest is enough, which is the message's."""
    message: Message = parcel.message
    details = message.model_dump(exclude={"kind", "facts", "version", "samples"})
    if isinstance(message, Secure | SecureMeasure):
        details["step"] = step_name(parcel.arrays)
    if isinstance(message, Pass | Secure) and message.chunks:
        details["clients"] = [spans(requests) for requests in parcel.arrays[-len(message.chunks) :]]
    return details
