"""``python -m operations.register``: put the evaluated model into MLflow's model registry, as challenger.

A command and no DVC stage: the registry is state outside of DVC. A stage's result is in the cache, so DVC would skip
the registration where it has seen the same weights before, and a registry that is new would stay empty.

Results have to be committed: a version names the commit of its results, and a tag in git keeps that commit.
"""

import argparse
import sys

import layout
from fedpipe.command_line import make_command
from fedpipe.errors import run_stage
from fedpipe.tracking.registry import GIT_TAG, Version
from operations import commands
from operations.committed import require_committed_code, require_committed_results
from operations.register import git_tag
from operations.register.registration import register, require_registrable


def main(arguments: list[str] | None = None) -> None:
    """Registers the committed results, and tags their commit."""
    argparse.ArgumentParser(description=__doc__, **make_command("register")).parse_args(arguments)
    require_registrable()
    withholds = layout.pipeline_files().withholds
    # The results of secret noise are not to be committed (docs/privacy.md).
    if withholds:
        require_committed_code()
    else:
        require_committed_results()
    commit = commands.git("rev-parse", "HEAD").strip()
    version = register(commit)
    if not withholds and GIT_TAG not in version.tags:
        _tag(version, commit)


def _tag(version: Version, commit: str) -> None:
    tag = git_tag.name(version, commit, git_tag.commit_of(git_tag.plain_name(version)))
    git_tag.set_tag(tag, commit)
    layout.registry().tag(version, {GIT_TAG: tag})
    print(f"register: git has it as tag {tag}: `git push origin {tag}` shares it", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
