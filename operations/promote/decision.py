"""The decision and its reasons: for a person, for MLflow, and as JSON for whatever comes next."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import layout
from fedpipe.errors import PipelineError
from fedpipe.json_model import json_text
from fedpipe.tracking import champions
from fedpipe.tracking.registry import Version
from operations.promote.rules import Measured, Rule

Outcome = Literal["promoted", "proposed", "kept", "rolled_back"]


def unregistered(weights_sha256: str) -> str:
    """Trained weights that are no version yet, in words."""
    return f"the trained model ({weights_sha256[:12]}…)"


@dataclass(frozen=True)
class Candidate:
    """Weights that may become champion: of a registered version, or trained and perhaps not registered yet.

    Attributes:
      model: The registered model.
      weights_sha256: Of the weights.
      version: The version of these weights; None if they are not registered.
      file: Gives the file of the weights; raises PipelineError if the registry does not give it.
    """

    model: str
    weights_sha256: str
    version: Version | None
    file: Callable[[], Path]

    @staticmethod
    def of(version: Version) -> "Candidate":
        """A registered version."""
        return Candidate(version.name, version.weights_sha256, version, lambda: layout.registry().kept_weights(version))

    @property
    def number(self) -> int | None:
        """The version's number, if it is registered."""
        return self.version.number if self.version else None

    @property
    def is_rolled_back(self) -> bool:
        """Whether it was champion and was rolled back."""
        return self.version is not None and champions.ROLLED_BACK_TAG in self.version.tags

    def __str__(self) -> str:
        return f"version {self.number}" if self.version else unregistered(self.weights_sha256)


@dataclass(frozen=True)
class Contender:
    """A candidate and, where it was measured, its figures."""

    version: int | None  # None: it is not registered
    run_id: str | None
    weights_sha256: str
    accuracy: float | None = None
    worst_client: float | None = None
    clients_on: str | None = None  # the samples on which the accuracy of the worst client is measured
    worst_site: float | None = None  # on its held-out samples, in a federation whose sites tell it

    @staticmethod
    def of(candidate: Candidate, measured: Measured | None = None) -> "Contender":
        """The figures of ``candidate``."""
        worst_site = min(measured.sites.values()) if measured and measured.sites else None
        figures = (measured.accuracy, measured.worst_client, measured.clients_on, worst_site) if measured else ()
        run_id = candidate.version.run_id if candidate.version else None
        return Contender(candidate.number, run_id, candidate.weights_sha256, *figures)


@dataclass(frozen=True)
class Decision:
    """The outcome of a promotion or a rollback.

    Attributes:
      model: The registered model.
      subject: The version that it is about and is recorded on: the challenger, or the one that was rolled back; None if
        it is not registered yet.
      outcome: ``promoted``, ``proposed`` (all rules hold, and it is not champion yet), ``kept`` (the champion stays) or
        ``rolled_back``.
      reason: One sentence.
      challenger: The version that was to become champion; None in a rollback.
      champion: The champion before; None if there was none.
      champion_now: The number of the champion after; None if there is none.
      rules: The comparisons; empty if it did not come to that.
      notes: Sentences on what to keep in mind.
      test_set_sha256: The test images that both were measured on; None if they were not.
      judged_by: What weights that are not registered yet were judged by (`champions.judgement`).
    """

    model: str
    subject: int | None
    outcome: Outcome
    reason: str
    challenger: Contender | None
    champion: Contender | None
    champion_now: int | None
    rules: Sequence[Rule] = ()
    notes: Sequence[str] = ()
    test_set_sha256: str | None = None
    judged_by: str | None = None

    @property
    def proposes(self) -> bool:
        """Whether the model waits for its promotion."""
        return self.outcome == "proposed"

    @property
    def unregistered(self) -> str:
        """How ``reason`` names a model that is not registered."""
        return unregistered(self.challenger.weights_sha256) if self.challenger else ""

    @staticmethod
    def parse(text: str) -> "Decision":
        """A decision from what `json` returned.

        Raises:
          PipelineError: It is from another version of this project, or is no decision.
        """
        try:
            content = json.loads(text)
            rules = [Rule(**rule) for rule in content.pop("rules")]
            challenger, champion = (
                Contender(**figures) if figures else None
                for figures in (content.pop("challenger"), content.pop("champion"))
            )
            return Decision(**content, rules=rules, challenger=challenger, champion=champion)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise PipelineError("the decision on a promotion cannot be read: `make retrain` judges again") from None

    def json(self) -> str:
        """All of it, as JSON."""
        return json_text(asdict(self))

    def lines(self) -> list[str]:
        """The outcome, and one line per rule and note, for a terminal."""
        rules = [f"  {'holds' if rule.holds else 'fails'}  {rule.name}: {rule.sentence}" for rule in self.rules]
        return [
            f"{self.outcome.replace('_', ' ')}: {self.reason}",
            *rules,
            *(f"  note   {note}" for note in self.notes),
        ]

    def markdown(self) -> str:
        """The same as text that the MLflow UI shows on the version's page."""
        items = [f"- {'✓' if rule.holds else '✗'} **{rule.name}**: {rule.sentence}" for rule in self.rules]
        return "\n".join(
            [f"**{self.outcome.replace('_', ' ')}**: {self.reason}", "", *items, *(f"- {note}" for note in self.notes)]
        ).rstrip()
