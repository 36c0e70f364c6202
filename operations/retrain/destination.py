"""Where the commits and tags of a retraining go: a remote's branch, or, without a remote, a branch of this clone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fedpipe.errors import PipelineError
from operations import commands
from operations.register import git_tag
from operations.retrain import commits

EXPERIMENT = "FEDPIPE_EXPERIMENT"
_OURS = ("retrain/", "experiment/")


class Destination(Protocol):
    """A place for branches and tags."""

    def tip(self, branch: str) -> str | None:
        """The commit of the branch; None if it does not exist.

        Raises:
          PipelineError: The branch's last commit is not a retraining's.
        """

    def set_branch(self, branch: str, commit: str, tip: str | None) -> None:
        """Puts the branch on ``commit``, if it is still at ``tip``."""

    def commit_of_tag(self, tag: str) -> str | None:
        """The commit of a tag; None if the tag does not exist."""

    def set_tag(self, tag: str, commit: str) -> None:
        """Puts a tag on ``commit`` if it is not there."""


@dataclass(frozen=True)
class Remote:
    """A git remote."""

    name: str

    def __str__(self) -> str:
        return self.name

    def tip(self, branch: str) -> str | None:
        """As `Destination`."""
        tip = self._refs(f"refs/heads/{branch}").get(f"refs/heads/{branch}")
        if tip is None:
            return None
        commands.git("fetch", "--quiet", self.name, tip, environment=credentials())
        if not commits.is_retraining(tip):
            raise PipelineError(
                f"{branch} of {self.name} has commits of somebody: merge it, or delete it with "
                f"`git push {self.name} --delete {branch}`"
            )
        return tip

    def set_branch(self, branch: str, commit: str, tip: str | None) -> None:
        """As `Destination`."""
        if tip == commit:
            return
        lease = f"--force-with-lease=refs/heads/{branch}:{tip or ''}"
        self._push(lease, f"{commit}:refs/heads/{branch}")

    def commit_of_tag(self, tag: str) -> str | None:
        """As `Destination`."""
        refs = self._refs(f"refs/tags/{tag}", f"refs/tags/{tag}^{{}}")
        return refs.get(f"refs/tags/{tag}^{{}}") or refs.get(f"refs/tags/{tag}")

    def set_tag(self, tag: str, commit: str) -> None:
        """As `Destination`; in this clone, too."""
        if self.commit_of_tag(tag) != commit:
            self._push(f"{commit}:refs/tags/{tag}")
        if git_tag.commit_of(tag) is None:
            git_tag.set_tag(tag, commit)

    def tags(self, prefix: str) -> list[str]:
        """The tags of the remote that begin with ``prefix``."""
        start = "refs/tags/"
        names = (name for name in self._refs(f"{start}{prefix}*") if not name.endswith("^{}"))
        return [name.removeprefix(start) for name in names]

    def _refs(self, *patterns: str) -> dict[str, str]:
        lines = commands.git("ls-remote", self.name, *patterns, environment=credentials()).splitlines()
        return {name: commit for commit, name in (line.split("\t") for line in lines)}

    def _push(self, *arguments: str) -> None:
        commands.git("push", "--quiet", *arguments[:-1], self.name, arguments[-1], environment=credentials())


@dataclass(frozen=True)
class Clone:
    """This clone, where it has no remote."""

    def __str__(self) -> str:
        return "this clone"

    def tip(self, branch: str) -> str | None:
        """As `Destination`."""
        refs = commands.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").split()
        if not refs:
            return None
        if not commits.is_retraining(refs[0]):
            raise PipelineError(
                f"branch {branch} has commits of somebody: merge it, or delete it with `git branch -D {branch}`"
            )
        return refs[0]

    def set_branch(self, branch: str, commit: str, tip: str | None) -> None:
        """As `Destination`."""
        commands.git("update-ref", f"refs/heads/{branch}", commit, tip or "")

    def commit_of_tag(self, tag: str) -> str | None:
        """As `Destination`."""
        return git_tag.commit_of(tag)

    def set_tag(self, tag: str, commit: str) -> None:
        """As `Destination`."""
        git_tag.set_tag(tag, commit)


def destination(remote: str | None) -> Remote | Clone:
    """The remote of this name; for None, origin, or the clone itself if there is no origin.

    Raises:
      PipelineError: The remote that was asked for does not exist.
    """
    remotes = commands.git("remote").split()
    if remote is not None and remote not in remotes:
        raise PipelineError(f"there is no git remote '{remote}': add one with `git remote add {remote} ADDRESS`")
    name = remote or "origin"
    return Remote(name) if name in remotes else Clone()


def is_of_retraining() -> bool:
    """Whether the branch that is checked out is one that a retraining made."""
    return commands.git("rev-parse", "--abbrev-ref", "HEAD").strip().startswith(_OURS)


def base_branch() -> str:
    """The branch that a pull request goes into.

    Raises:
      PipelineError: None is checked out, or one that a retraining made.
    """
    branch = commands.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    branch = os.environ.get("GITHUB_REF_NAME", "") if branch == "HEAD" else branch
    if not branch or branch.startswith(_OURS):
        raise PipelineError("check out the branch that the pull request is to go into: `git switch BRANCH`")
    return branch


def experiment() -> str | None:
    """The name of the experiment that this retraining is (FEDPIPE_EXPERIMENT); None if it is none."""
    return os.environ.get(EXPERIMENT) or None


def branch_for(base: str) -> str:
    """The branch of a retraining's pull request into ``base``; an experiment has its own."""
    return f"experiment/{name}" if (name := experiment()) else f"retrain/{base}"


def credentials() -> Mapping[str, str]:
    """The environment for a git that talks to the remote: with GH_TOKEN, `gh` gives it the password.

    So a workflow gives the token to this one step, and need not write it into .git/config.
    """
    if not os.environ.get("GH_TOKEN"):
        return dict(os.environ)
    # The empty one first, so that git uses no other helper.
    helpers = ("", "!gh auth git-credential")
    config = {"GIT_CONFIG_COUNT": str(len(helpers))}
    for number, helper in enumerate(helpers):
        config |= {f"GIT_CONFIG_KEY_{number}": "credential.helper", f"GIT_CONFIG_VALUE_{number}": helper}
    return os.environ | config
