"""The sums that leave a site: those that its policy lets out, each one noted before it leaves."""

from collections.abc import Sequence

import numpy as np

from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError
from fedpipe.federation.audit import AnsweredMessages, AnsweredRounds, digest_of_message, digest_of_requests
from fedpipe.federation.counted import counted, require_sound, weight_of, work_of
from fedpipe.federation.messages import Join, Pass, pack
from fedpipe.federation.policy import Policy
from fedpipe.federation.site_folder import SiteFolder
from fedpipe.federation.site_key import SiteKey
from fedpipe.federation.site_training import SiteTraining


class SiteSums:
    """Sums over a site's clients, within its policy."""

    def __init__(self, folder: SiteFolder, policy: Policy, key: SiteKey, rounds: AnsweredRounds) -> None:
        """Reads what the site has answered.

        Args:
          folder: Of the site.
          policy: Its limits.
          key: Of digests.
          rounds: Those that it has answered.

        Raises:
          PipelineError: The record of answered messages is damaged.
        """
        self._folder, self._policy, self._key, self._rounds = folder, policy, key, rounds
        self._messages = AnsweredMessages(folder.logs / "messages.txt")

    def weights(self, training: SiteTraining, join: Join) -> float:
        """The sum of the weights of all clients, if a training needs it.

        Raises:
          PipelineError: It does not, or the policy lets out no sum over the site's clients.
        """
        settings = training.settings
        if training.sums_securely or not ALGORITHMS.of(settings.algorithm).ALL_WEIGHTS:
            raise PipelineError("this training needs no sum of its clients' weights")
        samples = self._folder.samples()
        clients, total = weight_of(samples, settings)
        self._require_sum(int(clients.sum()), int(samples[clients].sum()))
        # The sums over two choices of clients, such as those with a batch of another size, differ by few clients.
        question = digest_of_message(f"weights by {settings.client_weighting} {join.digest}", [])
        answered = question, digest_of_requests([], [clients])
        if self._policy.protects_clients or self._policy.counts != "exact":
            self._messages.require_same(*answered)
        self._messages.add(*answered)
        return total

    def leaves(self, training: SiteTraining, question: Pass, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The leaves of the sums that the question wants, if the policy lets each of them out.

        Raises:
          PipelineError: It does not, or the question cannot be answered.
        """
        count = len(question.chunks)
        if not count or count >= len(arrays):
            raise PipelineError("a question for sums must have chunks, and arrays besides")
        message, chunks = arrays[:-count], arrays[-count:]
        first, samples = training.join.first, self._folder.samples()
        self._require_sums(training, question, chunks, samples)
        work = work_of(training.join, training.settings, pack(question.model_copy(update={"released": 0}), arrays))
        # Of losses the coordinator chooses the number, so each question counts.
        name = "losses" if question.process == "losses" else f"{question.process}-{question.number}"
        request = training.join.training, name, work
        if self._rounds.with_question(*request) > self._policy.rounds:
            raise PipelineError(f"its policy allows {self._policy.rounds} rounds in all, and it has answered them")
        every = np.concatenate(chunks)
        summands = np.flatnonzero(counted(every, samples[every[:, 0] - first], training.settings)).tolist()
        # The same numbers are other samples where the first one is another, or after another partition.
        whose = [question.chunks, first, training.join.digest, summands]
        answered = digest_of_message(question.process, message), digest_of_requests(whose, chunks)
        if self._policy.protects_clients or training.sums_securely:
            self._messages.require_same(*answered)
        leaves = training.sums(question, message, chunks, work)
        # The graphs read the shards' file again in each round, and would take another one of the same size.
        if self._key.digest_of(self._folder.manifest()) != training.join.digest:
            raise PipelineError("its shards have changed since it joined: start the training again")
        self._rounds.add(*request)
        self._messages.add(*answered)
        return leaves

    def _require_sums(
        self, training: SiteTraining, question: Pass, chunks: Sequence[np.ndarray], samples: np.ndarray
    ) -> None:
        """Checks that each sum is over enough of the site's own clients and samples."""
        for sizes, requests in zip(question.chunks, chunks, strict=True):
            if requests.dtype != np.int32 or requests.shape != (sum(sizes), 4) or 0 in sizes:
                raise PipelineError("a chunk's requests are not int32 [clients, 4], or a group is empty")
        require_sound(chunks, training.settings)
        # Of a secure sum all chunks leave together.
        for requests in [np.concatenate(chunks)] if training.sums_securely else chunks:
            places = requests[:, 0].astype(np.int64) - training.join.first
            if places.min() < 0 or places.max() >= len(samples):
                raise PipelineError("it is asked for clients that it does not have")
            if question.process == "training":
                places = places[counted(requests, samples[places], training.settings)]
            clients = np.unique(places)
            # To a secure sum over other sites a site without clients adds nothing, and would make it a sum of few.
            if len(clients) or training.sums_securely:
                self._require_sum(len(clients), int(samples[clients].sum()))

    def _require_sum(self, clients: int, samples: int) -> None:
        """Checks that a sum over so many clients and samples may leave; how many they are stays in the audit log.

        Raises:
          PipelineError: It may not.
        """
        if refused := self._policy.refused_sum(clients, samples):
            raise PipelineError(refused) from PipelineError(f"{clients} clients, {samples} samples")
