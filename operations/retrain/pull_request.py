"""The pull request of a retraining, by GitHub's command `gh`."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError
from operations.retrain.outcome import Outcome
from operations.retrain.summary import SUMMARY
from operations.tell.pull_request import open_or_renew

BODY = Path("reports/pull_request.md")


@dataclass(frozen=True)
class Opened:
    """A pull request that is open.

    Attributes:
      number: Its number.
      url: Its address.
      renewed: Whether it was open before.
    """

    number: str
    url: str
    renewed: bool


@dataclass(frozen=True)
class PullRequest:
    """What a pull request says and where it goes.

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

    def open(self, outcome: Outcome | None = None, pictures: str = "") -> Opened | None:
        """Opens it, or renews the one that is open.

        Args:
          outcome: What came of the retraining, for a title, labels and a comment that say so; None for an experiment.
          pictures: Markdown below the summary.

        Returns:
          Which one it is; None where there is no `gh` with a login.

        Raises:
          PipelineError: `gh` failed; `make publish` tries again.
        """
        summary = SUMMARY.read_text(encoding="utf-8") if SUMMARY.is_file() else "What a retraining changed.\n"
        write_text(BODY, "\n\n".join(filter(None, (self.lead, summary, pictures))))
        if not has_gh():
            _say(
                f"no GitHub command `gh` with a login (or GH_TOKEN) here: open the pull request from {self.branch} "
                f"into {self.base} in the browser; {BODY} is a text for it"
            )
            return None
        if outcome:
            address, renewed = open_or_renew(outcome, self.base, self.branch, BODY.read_text(encoding="utf-8"))
            _say(f"pull request {address}{' is renewed' if renewed else ''}")
            return Opened(address.rpartition("/")[2], address, renewed)
        listed = ["--head", self.branch, "--base", self.base, "--state", "open"]
        ours = r'.[] | select(.isCrossRepository | not) | "\(.number) \(.url)"'  # not from a fork with such a branch
        present = gh("pr", "list", *listed, "--json", "number,url,isCrossRepository", "--jq", ours).split()
        text = ["--title", self.title, "--body-file", str(BODY)]
        if present:
            number, address = present[:2]
            gh("pr", "edit", number, *text)
            _say(f"pull request {number} is renewed")
            return Opened(number, address, renewed=True)
        address = gh("pr", "create", "--base", self.base, "--head", self.branch, *text).strip()
        _say(f"pull request {address}")
        return Opened(address.rpartition("/")[2], address, renewed=False)


def has_gh() -> bool:
    """Whether there is a `gh` with a login."""
    return (
        bool(shutil.which("gh"))
        and not subprocess.run(["gh", "auth", "status"], capture_output=True, check=False).returncode
    )


def gh(*arguments: str) -> str:
    """What ``gh`` wrote.

    Raises:
      PipelineError: It failed.
    """
    done = subprocess.run(["gh", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(
            f"`gh {arguments[0]} {arguments[1]}` failed: {done.stderr.strip() or 'it does not say why'}; the branch is "
            "pushed, and `make publish` tries again"
        )
    return done.stdout


def _say(line: str) -> None:
    print(f"publish: {line}", file=sys.stderr, flush=True)
