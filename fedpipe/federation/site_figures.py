"""A model on the samples of a site's clients: the figures that the site reports."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedpipe.contracts.model import LOSSES, MODELS
from fedpipe.datasets.shards import Manifest, read_held_out, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation import held_out
from fedpipe.evaluation.held_out import OfClients, Sums
from fedpipe.federation.messages import Figures, Measure, SecureMeasure, SumsOfSamples
from fedpipe.federation.policy import Policy
from fedpipe.networks.network import Network, network
from fedpipe.networks.spec import ModelSpec
from fedpipe.samples.agreement import differences


class SiteFigures:
    """Measures models; `of` is within the policy."""

    def __init__(self, shards: Path, tests: Path | None, policy: Policy) -> None:
        """Reads nothing yet.

        Args:
          shards: The folder of the site's shards.
          tests: The folder of its clients' held-out samples, if it has one.
          policy: The site's limits.
        """
        self._shards, self._tests, self._policy = shards, tests, policy
        self._verified = ""  # the digest of the held-out samples that were verified last

    def of(self, question: Measure, arrays: Sequence[np.ndarray]) -> tuple[Figures, list[np.ndarray]]:
        """The answer to a question, and its arrays.

        Raises:
          PipelineError: The model is not one that the policy allows, or its weights do not fit.
        """
        manifest = Manifest.read(self._shards)
        model, weights = self._model(question, manifest), list(arrays)
        _require_fitting_weights(model, weights)
        folders = {"train": self._shards, "test": self._held_out(manifest)}
        if not self._policy.client_losses or self._policy.counts != "exact":
            folders["train"] = None
        clients = range(manifest.clients)
        measured = {
            name: held_out.measured(model, weights, folder, clients, question.batch_size)
            for name, folder in folders.items()
            if folder is not None
        }
        sums, because = self._sums(measured.get("test"))
        if self._policy.sums_securely:
            sums, because = None, "its policy lets sums leave in secure sums only"
        if "train" not in measured:  # then nothing is reported on single clients
            return Figures(held_out=sums, because=because), []
        each = [np.stack([figures.samples, figures.correct], axis=1) for figures in measured.values()]
        return Figures(held_out=sums, because=because, clients=list(measured)), each  # type: ignore[arg-type]

    def in_secure_sum(self, question: SecureMeasure, weights: list[np.ndarray]) -> Sums:
        """The sums over all held-out samples, which leave the site in a secure sum only.

        Raises:
          PipelineError: As of `of`; or the site has no such sums for others.
        """
        manifest = Manifest.read(self._shards)
        model = self._model(question, manifest)
        _require_fitting_weights(model, weights)
        folder = self._held_out(manifest)
        clients = range(manifest.clients)
        tested = None if folder is None else held_out.measured(model, weights, folder, clients, question.batch_size)
        sums, because = self._sums(tested)
        if sums is None:
            raise PipelineError(because)
        return Sums(sums.samples, sums.correct, sums.loss)

    def _model(self, question: Measure | SecureMeasure, manifest: Manifest) -> Network:
        name, loss = question.spec.get("model"), question.spec.get("loss")
        if self._policy.models != "any" and name not in self._policy.models:
            raise PipelineError(
                f"its policy does not allow the model {name} (it allows {', '.join(self._policy.models)})"
            )
        if name not in MODELS.names or (loss is not None and loss not in LOSSES.names):
            raise PipelineError(f"there is no model {name} with loss {loss}")
        try:
            spec = ModelSpec.from_json(question.spec)
        except (KeyError, TypeError, ValueError) as error:
            raise PipelineError("the model's description cannot be read (the site's audit log says why)") from error
        if MODELS.of(spec.model).architecture is not None and not spec.architecture:
            raise PipelineError(f"the model {spec.model} comes without its layers, and a site reads no file for it")
        if wrong := differences(spec.kind, manifest.kind):
            raise PipelineError(f"the model takes other samples than the site has: {'; '.join(wrong)}")
        return network(spec)

    def _held_out(self, manifest: Manifest) -> Path | None:
        """The folder of held-out samples of these clients; None if there are none."""
        if self._tests is None or not self._tests.is_dir():
            return None
        try:
            tests = read_held_out(self._tests, manifest)
            if not tests.clients:
                return None
            if tests.digest != self._verified:
                verify_shards(self._tests, tests)
        except PipelineError as error:
            raise PipelineError("its held-out samples are not of its shards, or damaged (see its log)") from error
        self._verified = tests.digest
        return self._tests

    def _sums(self, tested: OfClients | None) -> tuple[SumsOfSamples | None, str]:
        """The sums over all held-out samples, or why there are none."""
        if tested is None:
            return None, "its clients have no held-out samples ('partition.client_test' in its params.yaml)"
        if not self._policy.held_out_counts:
            return None, "its policy tells nothing of held-out samples"
        sums = tested.sums
        if small := self._policy.refused_sum(int((tested.samples > 0).sum()), sums.samples):
            return None, small
        if not np.isfinite(sums.loss):
            return None, "the model's loss on its held-out samples is not finite"
        return SumsOfSamples(samples=sums.samples, correct=float(sums.correct), loss=sums.loss), ""


def _require_fitting_weights(model: Network, weights: Sequence[np.ndarray]) -> None:
    """Raises PipelineError if the weights have other shapes or types than those of the model."""
    shapes = [tuple(shape) for shape in model.shapes.values()]
    if [each.shape for each in weights] != shapes or any(each.dtype != np.float32 for each in weights):
        raise PipelineError(f"the weights do not fit the model {model.spec.model}")
