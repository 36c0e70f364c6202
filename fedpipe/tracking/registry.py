"""MLflow's model registry: which versions of a data set's model there are, and which is champion and challenger.

A data set has one registered model, ``fedpipe-<dataset>``. Its versions are trained weights; the alias ``challenger``
is on the one that was registered last, ``champion`` on the one in use (champions.py and operations/promote move it).
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fedpipe.atomic import atomic_file, atomic_folder
from fedpipe.errors import PipelineError
from fedpipe.tracking.connection import configure, connect, translated
from fedpipe.tracking.delivery import Unreachable
from fedpipe.tracking.outbox import without_password
from fedpipe.tracking.run_events import WEIGHTS_TAG, experiment, sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

T = TypeVar("T")

CHAMPION = "champion"
CHALLENGER = "challenger"
DATA_TAG = "fedpipe.data_sha256"
TEST_SET_TAG = "fedpipe.test_set_sha256"
COMMIT_TAG = "fedpipe.commit"
MODEL_TAG = "fedpipe.model"
ACCURACY_TAG = "fedpipe.accuracy"
POOL_TAG = "fedpipe.pool_sha256"  # digest of the pool's ledger
GIT_TAG = "fedpipe.git_tag"
PULL_REQUEST_TAG = "fedpipe.pull_request"
ORIGIN_TAG = "fedpipe.origin"  # of a version from elsewhere: which one it is there

_WEIGHTS_IN_MODEL = "artifacts/weights.safetensors"


@dataclass(frozen=True)
class Version:
    """A version of a registered model: trained weights with a number."""

    name: str
    number: int
    run_id: str
    weights_sha256: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


def registered_model(dataset: str) -> str:
    """The registered model of ``dataset``; named as its experiment is."""
    return experiment(dataset)


def dataset_of(model: str) -> str:
    """The data set of a registered model, by its name."""
    return model.removeprefix(registered_model(""))


class Registry:
    """The model registry of an MLflow store."""

    def __init__(self, store: str, kept: Path) -> None:
        """Asks nothing yet.

        Args:
          store: The address of the store.
          kept: The folder for downloads, by their SHA-256.
        """
        self._store, self._kept, self._shown = store, kept, without_password(store)

    def champion(self, dataset: str) -> Version | None:
        """The version in use; None if there is none yet.

        Raises:
          PipelineError: MLflow cannot be reached or refuses.
        """
        return self._with_alias(dataset, CHAMPION)

    def challenger(self, dataset: str) -> Version | None:
        """The version that was registered last; None if there is none yet. Raises as `champion`."""
        return self._with_alias(dataset, CHALLENGER)

    def version(self, dataset: str, number: int) -> Version | None:
        """The version of this number; None if there is none (any more). Raises as `champion`."""
        with self.readable_errors():
            model_version = _unless_missing(
                lambda: self.client().get_model_version(registered_model(dataset), str(number))
            )
            return _version(model_version) if model_version else None

    def version_of_weights(self, dataset: str, weights_sha256: str) -> Version | None:
        """The first version of these weights; None if there is none. Raises as `champion`."""
        with self.readable_errors():
            if self.registered(dataset) is None:
                return None
            version = self._version_of_weights(registered_model(dataset), weights_sha256)
            return _version(version) if version else None

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Sets tags of a version.

        Raises:
          PipelineError: MLflow cannot be reached or refuses.
        """
        with self.readable_errors():
            for key, value in tags.items():
                if version.tags.get(key) != value:
                    self.client().set_model_version_tag(version.name, str(version.number), key, value)

    def require_model(self, dataset: str) -> None:
        """Makes the registered model of ``dataset`` if there is none yet. Raises as `tag`."""
        with self.readable_errors():
            from mlflow.exceptions import MlflowException

            if self.registered(dataset) is None:
                description = f"Federated learning on {dataset}. No champion yet: `make promote` makes one."
                try:
                    self.client().create_registered_model(registered_model(dataset), description=description)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another machine was faster
                        raise

    def require_champion(self, dataset: str) -> Version:
        """The version in use.

        Raises:
          PipelineError: There is none, or as `champion`.
        """
        champion = self.champion(dataset)
        if champion is None:
            raise PipelineError(
                f"{registered_model(dataset)} has no champion in {self._shown}: `make register promote` makes one of "
                "the evaluated model"
            )
        return champion

    def add_challenger(self, dataset: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Registers a run's model (`add_version`) and makes it the challenger."""
        version = self.add_version(dataset, run_id, tags)
        with self.readable_errors():
            self.client().set_registered_model_alias(version.name, CHALLENGER, str(version.number))
        return version

    def add_version(self, dataset: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Registers a run's model; the same weights again are the same version.

        Args:
          dataset: The data set's name.
          run_id: The run that trained the weights.
          tags: Of the version; `WEIGHTS_TAG` and `TEST_SET_TAG` among them.

        Raises:
          PipelineError: The run has no model, or MLflow cannot be reached or refuses.
        """
        name = registered_model(dataset)
        self.require_model(dataset)
        with self.readable_errors():
            version = self._version_of_weights(name, tags[WEIGHTS_TAG])
            if version is None:
                model = self._model_of_run(run_id)
                source = f"models:/{model}"  # ready at once: MLflow need not wait for it
                version = self.client().create_model_version(
                    name, source, run_id, dict(tags), await_creation_for=0, model_id=model
                )
            else:  # the test images may be others by now
                self.client().set_model_version_tag(name, version.version, TEST_SET_TAG, tags[TEST_SET_TAG])
            if not version.description:
                self.client().update_model_version(name, version.version, self.describe(version))
            return _version(self.client().get_model_version(name, version.version))

    def describe(self, version: "ModelVersion") -> str:
        """A version's test accuracy and a link to its run, in Markdown; to be called within `readable_errors`."""
        run = self.client().get_run(version.run_id).info
        accuracy = version.tags.get(ACCURACY_TAG)
        measured = f"Test accuracy {float(accuracy):.4f}" if accuracy else "Test accuracy not known"
        return f"{measured}; trained by run [{run.run_name}](#/experiments/{run.experiment_id}/runs/{run.run_id})."

    def fetch_weights(self, version: Version, path: Path) -> None:
        """Puts a version's weights at ``path``, atomically; downloads nothing if they are there already.

        Raises:
          PipelineError: MLflow cannot be reached, lacks the file, or its SHA-256 is not the version's.
        """
        if path.is_file() and sha256(path) == version.weights_sha256:
            return
        with tempfile.TemporaryDirectory() as folder:
            downloaded = self._download(version, _WEIGHTS_IN_MODEL, "weights", folder)
            self._require_registered(version, downloaded)
            with atomic_file(path) as partial:
                shutil.copyfile(downloaded, partial)

    def kept_weights(self, version: Version) -> Path:
        """The file of a version's weights in this checkout, downloaded the first time. Raises as `fetch_weights`."""
        path = self._kept / f"{version.weights_sha256}.safetensors"
        self.fetch_weights(version, path)
        return path

    def kept_model(self, version: Version) -> Path:
        """The folder of a version's MLflow model in this checkout, with the weights that were registered.

        It is downloaded the first time, and again if the weights in it are others.

        Raises:
          PipelineError: MLflow cannot be reached or lacks the model, or its weights' SHA-256 is not the version's.
        """
        folder = self._kept / version.weights_sha256
        weights = folder / _WEIGHTS_IN_MODEL
        if not (weights.is_file() and sha256(weights) == version.weights_sha256):
            with tempfile.TemporaryDirectory() as download:
                downloaded = self._download(version, "", "model", download)
                if not (downloaded / _WEIGHTS_IN_MODEL).is_file():
                    raise PipelineError(
                        f"the model of {version} in {self._shown} has no {_WEIGHTS_IN_MODEL}: register another"
                    )
                self._require_registered(version, downloaded / _WEIGHTS_IN_MODEL)
                with atomic_folder(folder) as partial:
                    shutil.copytree(downloaded, partial, dirs_exist_ok=True)
        return folder

    def registered(self, dataset: str) -> "RegisteredModel | None":
        """The registered model of ``dataset`` as MLflow has it; to be called within `readable_errors`."""
        return _unless_missing(lambda: self.client().get_registered_model(registered_model(dataset)))

    def client(self) -> "MlflowClient":
        """A client of the store and its registry; to be used within `readable_errors`."""
        return connect(self._store)

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turns every error of MLflow into a PipelineError."""
        configure()
        try:
            with translated():
                yield
        except Unreachable as error:
            raise PipelineError(f"MLflow at {self._shown} {error.predicate}: {error.remedy}") from None

    def _require_registered(self, version: Version, weights: Path) -> None:
        digest = sha256(weights)
        if digest != version.weights_sha256:
            raise PipelineError(
                f"the weights of {version} in {self._shown} were changed (SHA-256 {digest[:12]}…, registered with "
                f"{version.weights_sha256[:12]}…): if it is the champion, `make promote ARGS=--rollback` goes "
                "back to the one before; else register another model"
            )

    def _download(self, version: Version, path: str, what: str, folder: str | Path) -> Path:
        """Downloads a file of the version's model, or all of it if ``path`` is empty, into ``folder``."""
        with self.readable_errors():
            from mlflow.artifacts import download_artifacts

            model = self.client().get_model_version_download_uri(version.name, str(version.number))
            try:
                with self.readable_errors():
                    source = f"{model}/{path}" if path else model
                    return Path(download_artifacts(source, dst_path=str(folder), tracking_uri=self._store))
            except PipelineError as error:
                raise PipelineError(f"the {what} of {version} cannot be fetched from {model}: {error}") from None

    def _with_alias(self, dataset: str, alias: str) -> Version | None:
        with self.readable_errors():
            model = self.registered(dataset)
            if model is None or alias not in model.aliases:
                return None
            return _version(self.client().get_model_version(model.name, str(model.aliases[alias])))

    def _version_of_weights(self, name: str, sha: str) -> "ModelVersion | None":
        versions = self.client().search_model_versions(f"name = '{name}' and tags.`{WEIGHTS_TAG}` = '{sha}'")
        return min(versions, key=lambda v: int(v.version)) if versions else None

    def _model_of_run(self, run_id: str) -> str:
        """The id of the model that a run logged."""
        from mlflow.entities import LoggedModelStatus

        run = self.client().get_run(run_id)
        for output in run.outputs.model_outputs if run.outputs else []:
            if self.client().get_logged_model(output.model_id).status == LoggedModelStatus.READY:
                return output.model_id
        raise PipelineError(
            f"run {run.info.run_name} ({run_id}) in {self._shown} has no model: `make sync` logs what is missing"
        )


def _unless_missing(get: Callable[[], T]) -> T | None:
    """The result of ``get``, or None where MLflow answers that it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return get()
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _version(registered: "ModelVersion") -> Version:
    if WEIGHTS_TAG not in registered.tags:
        raise PipelineError(
            f"{registered.name} version {registered.version} was not registered by `make register` (it has no "
            f"tag {WEIGHTS_TAG}): take its alias away in the MLflow UI, and register a model"
        )
    return Version(
        registered.name,
        int(registered.version),
        registered.run_id,
        registered.tags[WEIGHTS_TAG],
        dict(registered.tags),
    )
