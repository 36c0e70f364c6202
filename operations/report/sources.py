"""Where a run's outputs are read from: the workspace, a git revision through DVC, or MLflow."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from fedpipe.config.text import parse_text
from fedpipe.dvc_lock import Lock, tree
from fedpipe.errors import PipelineError
from fedpipe.tracking.past_runs import PastRun
from layout import LOCK, PARAMS, store
from operations import commands, stale
from operations.stale import Stale

WORKSPACE = "workspace"
_MLFLOW = "mlflow:"


class Source(Protocol):
    """A place that has the pipeline's outputs under the names that dvc.yaml gives them, and knows their params."""

    @property
    def name(self) -> str:
        """Its name on the page."""

    @property
    def origin(self) -> dict[str, str]:
        """What identifies it beyond doubt, such as a commit."""

    def params(self) -> dict[str, Any]:
        """The params of the outputs, as a tree; not those that params.yaml has now.

        Raises:
          PipelineError: That is not known.
        """

    def stale(self) -> Sequence[Stale]:
        """The stages whose outputs are not of the params, code and data that are there.

        Raises:
          PipelineError: That is not known.
        """

    def read(self, path: Path) -> bytes:
        """The content of an output.

        Raises:
          PipelineError: It is not there; the message says how to get it.
        """


def find(run: str) -> Source:
    """The source that ``run`` names: ``workspace``, ``mlflow:<run id>``, a git revision or a DVC experiment.

    Raises:
      PipelineError: The run or revision does not exist.
    """
    if run == WORKSPACE:
        return Workspace()
    if run.startswith(_MLFLOW):
        return MlflowRun(run.removeprefix(_MLFLOW))
    return Revision(run)


class Workspace:
    """The files as they lie in the project's folder."""

    name = WORKSPACE
    origin: dict[str, str] = {}  # noqa: RUF012  (the protocol's attribute; nobody writes to it)

    def params(self) -> dict[str, Any]:
        """As `Source.params`: those that dvc.lock recorded."""
        lock = Lock.parse(self.read(LOCK), str(LOCK))
        return lock.params(stage for stage in lock.stages if lock.is_of_the_files(stage))

    def stale(self) -> Sequence[Stale]:
        """As `Source.stale`."""
        return stale.in_workspace()

    def read(self, path: Path) -> bytes:
        """As `Source.read`."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise PipelineError(
                f"{path} is missing: 'dvc repro' makes it (or 'dvc pull' fetches it), in the project's top folder"
            ) from None


class Revision:
    """A git revision or DVC experiment; outputs that are not in git come from DVC's cache, else its remote."""

    def __init__(self, revision: str) -> None:
        """Resolves ``revision``.

        Raises:
          PipelineError: There is none of this name, git is not installed, or the folder is in no repository of git or
            is no DVC project.
        """
        # Here, because importing DVC takes a second.
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException

        commands.require_repository()
        self.name = revision
        try:
            self._files = DVCFileSystem(rev=revision)
            commit = self._files.repo.get_rev()
        except DvcException as error:
            raise PipelineError(
                f"'{revision}' is neither 'workspace', a git revision or DVC experiment of this project, nor "
                f"'mlflow:<run id>' ({error}); 'git log' and 'dvc exp list' name what there is"
            ) from None
        self.origin = {"commit": commit}

    def params(self) -> dict[str, Any]:
        """As `Source.params`: those that the revision's dvc.lock recorded."""
        lock = Lock.parse(self.read(LOCK), str(LOCK))
        changed = {each.stage for each in self.stale() if each.outputs}
        return lock.params(stage for stage in lock.stages if stage not in changed)

    def stale(self) -> Sequence[Stale]:
        """As `Source.stale`: of the revision's own files."""
        return self._stale

    @cached_property
    def _stale(self) -> list[Stale]:
        from dvc.exceptions import DvcException

        try:
            return stale.in_revision(self._files.repo)
        except DvcException as error:
            raise PipelineError(f"DVC cannot say what of {self.name} is stale: {error}") from None

    def read(self, path: Path) -> bytes:
        """As `Source.read`."""
        from dvc.exceptions import DvcException

        try:
            return self._files.read_bytes(path.as_posix())
        except (OSError, DvcException):
            raise PipelineError(
                f"{path} of {self.name} is in neither git, DVC's cache nor its remote: 'dvc fetch' where a remote "
                f"has it, or check out {self.name} and run 'dvc repro'"
            ) from None


class MlflowRun:
    """A run in MLflow, by its artifacts."""

    def __init__(self, run_id: str) -> None:
        """Asks MLflow for the run.

        Raises:
          PipelineError: There is none of this id, or MLflow cannot be reached.
        """
        self._run = PastRun(run_id, store())
        self.name = f"{_MLFLOW}{run_id[:8]}"
        self.origin = {"MLflow run": run_id, "run name": self._run.name}

    def params(self) -> dict[str, Any]:
        """As `Source.params`: those that the run got when it began, and those of its evaluation."""
        trained = parse_text(self.read(PARAMS), str(PARAMS))
        evaluated = [
            (name, value)
            for name, value in {**self._run.params, **self._run.tags}.items()  # a tag has the last one
            if name.startswith("evaluate.")
        ]
        return trained | tree(evaluated)

    def stale(self) -> Sequence[Stale]:
        """As `Source.stale`: none, since a run in MLflow stays as it is."""
        return ()

    def read(self, path: Path) -> bytes:
        """As `Source.read`."""
        return self._run.artifact(path)
