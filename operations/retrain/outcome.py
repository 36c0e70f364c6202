"""The outcome of a retraining, for the steps and commands that follow it: reports/outcome.json."""

import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError
from fedpipe.tracking.ci import run_url

__all__ = ["OUTCOME", "Outcome", "Status", "iso_week", "run_url"]

OUTCOME = Path("reports/outcome.json")
Status = Literal["nothing_new", "promoted", "proposed", "kept", "unfinished", "failed"]


class Outcome(BaseModel):
    """Result of a retraining. `make retrain` writes it, `make publish` completes it, `make tell` reports it.

    Attributes:
      dataset: The data set's name; empty if the retraining failed before it knew.
      status: nothing_new; promoted: the model is champion; proposed: the rules hold, and a merge makes it champion;
        kept: a rule fails, and the champion stays; unfinished: the time limit came first, and the next run resumes;
        failed.
      reason: One sentence.
      version: Number in the model registry; None before `make publish`.
      weights_sha256: Of the trained weights.
      accuracy: Their test accuracy.
      champion_accuracy: The champion's on the same test images; None without a champion.
      held: Each batch on hold, and the reason.
      rejected: Each rejected batch, and the reason.
      was_champion: Whether the model was champion before the retraining; so it is with `promote.when: at_once` as long
        as nobody merges its pull request.
      looked_at_batches: Whether it got to look at new batches, so that one which is not named here is no matter.
      drifted: One sentence per measure that stands out.
      new_batches: Batches that the committed results were not trained on.
      commit: The commit that holds the full results; None before `make publish`.
      branch: The branch of the pull request; None before `make publish`.
      pull_request: Its URL.
      week: ISO week, such as 2026-W48.
      run_url: The CI run's URL.
      state_bytes: Size of the state that the next run needs.
      warnings: Sentences, such as that batches live in an artifact only.
    """

    model_config = ConfigDict(extra="forbid")

    dataset: str
    status: Status
    reason: str
    version: int | None = None
    weights_sha256: str | None = None
    accuracy: float | None = None
    champion_accuracy: float | None = None
    held: dict[str, str] = Field(default_factory=dict)
    rejected: dict[str, str] = Field(default_factory=dict)
    was_champion: bool = False
    looked_at_batches: bool = True
    drifted: list[str] = Field(default_factory=list)
    new_batches: list[str] = Field(default_factory=list)
    commit: str | None = None
    branch: str | None = None
    pull_request: str | None = None
    week: str = Field(default_factory=lambda: iso_week(datetime.datetime.now(datetime.UTC).date()))
    run_url: str | None = Field(default_factory=run_url)
    state_bytes: int | None = None
    warnings: list[str] = Field(default_factory=list)

    @classmethod
    def read(cls, path: Path = OUTCOME) -> "Outcome":
        """Reads reports/outcome.json.

        Raises:
          PipelineError: The file is missing or is not an outcome.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing: `make retrain` writes it") from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise PipelineError(f"{path}: '{key}': {first['msg']}; `make retrain` writes the file anew") from None

    @classmethod
    def changed(cls, **values: object) -> "Outcome | None":
        """The outcome of reports/outcome.json with other values; None if the file is missing.

        Raises:
          PipelineError: As `read`.
        """
        return cls.read().model_copy(update=values) if OUTCOME.is_file() else None

    def write(self, path: Path = OUTCOME) -> None:
        """Writes the file atomically."""
        write_text(path, self.model_dump_json(indent=2) + "\n")


def iso_week(day: datetime.date) -> str:
    """The ISO week of a day: 2026-W48."""
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02}"
