"""``python -m operations.retrain.publish``, or ``make publish``: a pull request of what a retraining changed.

The commit goes to the branch ``retrain/<branch>`` of the remote, on top of the last commit here; the folder, its index
and its branch stay as they are. A branch that a former retraining left is replaced, one that a person has added to is
not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import layout
from fedpipe.errors import PipelineError, run_stage
from operations import commands
from operations.retrain.state import default_remote
from operations.retrain.summary import SUMMARY

PUBLISHED = ("params.yaml", "dvc.lock", "provenance.json", "metrics", "plots", "data/pool", "models")
CODE = (*layout.CODE, "operations", "requirements.lock")
# The last line of the commit's message: by it, a branch is known to hold nothing but a retraining.
MARK = "Made-by: python -m operations.retrain.publish"
_TITLE = "Retrain"


def main() -> None:
    """Commits, pushes, and opens the pull request or says how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remote", default="origin")
    remote = parser.parse_args().remote
    _require_publishable()
    _require_committed_code()
    tree = _tree()
    if tree == commands.git("rev-parse", "HEAD^{tree}").strip():
        _say("nothing to publish: params, results and data are those of the last commit")
        return
    base = _base()
    branch = f"retrain/{base}"
    if remote not in commands.git("remote").split():
        raise PipelineError(f"there is no git remote '{remote}': add one with `git remote add {remote} ADDRESS`")
    tip = _tip(remote, branch)
    if tip and _is_published(tip, tree):
        _say(f"{remote} has this on {branch} already")
    else:
        commit = _commit(tree)
        lease = f"--force-with-lease=refs/heads/{branch}:{tip}"
        commands.git("push", "--quiet", lease, remote, f"{commit}:refs/heads/{branch}", environment=credentials())
        _say(f"pushed {commit[:12]} to {branch} of {remote}")
    if default_remote() is None:
        _say(
            f"there is no DVC remote, so nobody else can pull the batches, data and models that {branch} names: add "
            "one with `dvc remote add --default NAME ADDRESS`, then `dvc push` (docs/team.md)"
        )
    _pull_request(base, branch)


def _require_publishable() -> None:
    """A commit has exact figures of the clients' data whatever a training withholds.

    Raises:
      PipelineError: The training has secret noise.
    """
    if layout.pipeline_files().withholds:
        raise PipelineError(
            f"{layout.TRAINING} has secret noise, and a commit would tell exact figures and hashes of the clients' "
            f"data beside it ({layout.PARTITION}, {layout.POOL}, {layout.LOCK}): hand the model on by the registry "
            "(`make register`), which gets none of them"
        )


def _require_committed_code() -> None:
    """Results rest on code that whoever looks at the pull request must have.

    Raises:
      PipelineError: Files that git knows, other than what a retraining writes, differ from the last commit, or there is
        code that git does not know.
    """
    commands.require_repository()
    others = [f":(exclude){path}" for path in PUBLISHED]
    changed = commands.uncommitted([".", *others], CODE)
    if changed:
        raise PipelineError(
            f"{', '.join(changed)} changed since the last commit, and the results rest on it: commit it first"
        )


def _tree() -> str:
    """The tree of the last commit with what was changed since, by way of an index of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        commands.git("read-tree", "HEAD", environment=environment)
        there = [path for path in PUBLISHED if Path(path).exists()]
        commands.git("add", "--all", "--", *there, environment=environment)
        return commands.git("write-tree", environment=environment).strip()


def _base() -> str:
    branch = commands.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    branch = os.environ.get("GITHUB_REF_NAME", "") if branch == "HEAD" else branch
    if not branch or branch.startswith("retrain/"):
        raise PipelineError("check out the branch that the pull request is to go into: `git switch BRANCH`")
    return branch


def _tip(remote: str, branch: str) -> str:
    """The commit at which ``branch`` is there; empty if there is no such branch.

    Raises:
      PipelineError: Its last commit is not a retraining's.
    """
    found = commands.git("ls-remote", remote, f"refs/heads/{branch}", environment=credentials()).split()
    if not found:
        return ""
    commands.git("fetch", "--quiet", remote, found[0], environment=credentials())
    if MARK not in commands.git("log", "-1", "--format=%B", found[0]).splitlines():
        raise PipelineError(
            f"{branch} of {remote} has commits of somebody: merge it, or delete it with "
            f"`git push {remote} --delete {branch}`"
        )
    return found[0]


def credentials() -> dict[str, str]:
    """The environment for a git that talks to the remote: with GH_TOKEN, `gh` tells it the password.

    So a workflow gives the token to this one step, and need not write it into .git/config.
    """
    if not os.environ.get("GH_TOKEN"):
        return dict(os.environ)
    # The empty one first: no other helper is asked.
    helpers = ("", "!gh auth git-credential")
    config = {"GIT_CONFIG_COUNT": str(len(helpers))}
    for number, helper in enumerate(helpers):
        config |= {f"GIT_CONFIG_KEY_{number}": "credential.helper", f"GIT_CONFIG_VALUE_{number}": helper}
    return os.environ | config


def _is_published(tip: str, tree: str) -> bool:
    there = commands.git("rev-parse", f"{tip}^{{tree}}", f"{tip}^").split()
    return there == [tree, commands.git("rev-parse", "HEAD").strip()]


def _commit(tree: str) -> str:
    identity = ["-c", "user.name=fedpipe", "-c", "user.email=fedpipe@localhost"] if not _has_identity() else []
    message = f"{_TITLE}\n\n{MARK}\n"
    return commands.git(*identity, "commit-tree", tree, "-p", "HEAD", "-F", "-", stdin=message).strip()


def _has_identity() -> bool:
    """Whether git knows author and committer; the environment may name only one of them."""
    asked = (["git", "var", name] for name in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"))
    return all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in asked)


def _pull_request(base: str, branch: str) -> None:
    """Opens the pull request with GitHub's ``gh``, or renews the text of the one that is open."""
    if not shutil.which("gh") or subprocess.run(["gh", "auth", "status"], capture_output=True, check=False).returncode:
        _say(
            f"no GitHub command `gh` with a login (or GH_TOKEN) here: open the pull request from {branch} into {base} "
            f"in the browser; {SUMMARY} is a text for it"
        )
        return
    listed = ["pr", "list", "--head", branch, "--base", base, "--state", "open", "--json", "number"]
    number = _gh(*listed, "--jq", ".[].number").strip()
    text = ["--body-file", str(SUMMARY)] if SUMMARY.is_file() else ["--body", "What a retraining changed."]
    if number:
        _gh("pr", "edit", number, *text)
        _say(f"pull request {number} is renewed")
    else:
        address = _gh("pr", "create", "--base", base, "--head", branch, "--title", f"{_TITLE} {base}", *text).strip()
        _say(f"pull request {address}")


def _gh(*arguments: str) -> str:
    done = subprocess.run(["gh", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(
            f"`gh {arguments[0]} {arguments[1]}` failed: {done.stderr.strip() or 'it does not say why'}; the branch is "
            "pushed, and `make publish` tries again"
        )
    return done.stdout


def _say(line: str) -> None:
    print(f"publish: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(main)
