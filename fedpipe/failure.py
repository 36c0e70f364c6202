"""How a stage failed, in a file for the programs that run the pipeline; people read it on standard error."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError
from fedpipe.json_model import read_json


class Failure(BaseModel):
    """A stage's error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str  # the name of the exception's class in fedpipe/errors.py
    message: str

    def is_a(self, kind: type[PipelineError]) -> bool:
        """Whether the stage failed with this error."""
        return self.kind == kind.__name__

    @staticmethod
    def write(error: PipelineError, path: Path) -> None:
        """Writes the error of a stage that fails."""
        failure = Failure(kind=type(error).__name__, message=str(error))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, failure.model_dump_json(indent=2) + "\n")

    @staticmethod
    def read(path: Path) -> "Failure | None":
        """The error in the file; None without a file, which is removed whenever a stage begins.

        Raises:
          PipelineError: The file holds anything else.
        """
        if not path.exists():
            return None
        return read_json(Failure, path, missing="run the pipeline again", wrong="is no failure of a stage: remove it")
