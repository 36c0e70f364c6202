"""A tag in git for each version: models/<data set>/v<number>, which keeps the commit of its results."""

from fedpipe.tracking.registry import Version, dataset_of
from operations import commands

PREFIX = "models/"


def name(version: Version, commit: str, taken: str | None) -> str:
    """The tag for ``version``.

    A registry that was lost and started anew counts from 1 again, and a tag never moves: then the name ends with the
    first characters of the weights' SHA-256.

    Args:
      version: The version.
      commit: The commit of its results.
      taken: The commit on which the plain name is already, if it exists.
    """
    plain = f"{PREFIX}{dataset_of(version.name)}/v{version.number}"
    return plain if taken in (None, commit) else f"{plain}-{version.weights_sha256[:8]}"


def plain_name(version: Version) -> str:
    """The tag for ``version`` unless it is taken."""
    return name(version, "", None)


def commit_of(tag: str) -> str | None:
    """The commit that a tag of this clone is on; None if the tag does not exist."""
    refs = commands.git("for-each-ref", "--format=%(objectname)", f"refs/tags/{tag}").split()
    return commands.git("rev-parse", f"{refs[0]}^{{commit}}").strip() if refs else None


def set_tag(tag: str, commit: str) -> None:
    """Puts a tag on ``commit`` in this clone, if it is not there."""
    if commit_of(tag) != commit:
        commands.git("update-ref", f"refs/tags/{tag}", commit, "")
