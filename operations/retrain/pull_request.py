"""The pull request of a retraining, by GitHub's command `gh`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from fedpipe.atomic import write_text
from operations import github
from operations.retrain.outcome import Outcome
from operations.retrain.summary import SUMMARY
from operations.tell.pull_request import open_ones, open_or_renew

BODY = Path("reports/pull_request.md")


@dataclass(frozen=True)
class PullRequest:
    """The text of a pull request and its target.

    Attributes:
      base: The branch that it goes into.
      branch: The branch that it brings.
      title: Its title.
      lead: What merging it does, in a sentence or two; the summary follows.
    """

    base: str
    branch: str
    title: str
    lead: str

    def open(self, outcome: Outcome | None = None, pictures: str = "") -> str | None:
        """Opens it, or renews the one that is open.

        Args:
          outcome: Result of the retraining, for a title, labels and a comment that say so; None for an experiment.
          pictures: Markdown below the summary.

        Returns:
          Its URL; None where there is no `gh` with a login.

        Raises:
          PipelineError: `gh` failed; `make publish` tries again.
        """
        summary = SUMMARY.read_text(encoding="utf-8") if SUMMARY.is_file() else "What a retraining changed.\n"
        write_text(BODY, "\n\n".join(filter(None, (self.lead, summary, pictures))))
        if not github.is_available():
            _say(
                f"no GitHub command `gh` with a login (or GH_TOKEN) here: open the pull request from {self.branch} "
                f"into {self.base} in the browser; {BODY} is a text for it"
            )
            return None
        if outcome:
            address, renewed = open_or_renew(outcome, self.base, self.branch, BODY.read_text(encoding="utf-8"))
            _say(f"pull request {address}{' is renewed' if renewed else ''}")
            return address
        present = open_ones(self.base, self.branch, "number,url")
        text = ["--title", self.title, "--body-file", str(BODY)]
        if present:
            github.gh("pr", "edit", str(present[0]["number"]), *text)
            _say(f"pull request {present[0]['url']} is renewed")
            return str(present[0]["url"])
        address = github.gh("pr", "create", "--base", self.base, "--head", self.branch, *text).strip()
        _say(f"pull request {address}")
        return address


def _say(line: str) -> None:
    print(f"publish: {line}", file=sys.stderr, flush=True)
