"""Which objects of DVC's cache nothing else keeps: batches, weights and small outputs, and records of runs.

Folders that the pipeline makes again in seconds, from its pinned source and the batches, are left out. So are objects
that the default DVC remote has.
"""

import json
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import layout
from fedpipe.config.text import parse_text
from fedpipe.errors import PipelineError
from operations import commands
from operations.retrain.kept.places import CACHE

# Downloaded or partitioned again: 100 MB with MNIST, and half of it is new with each batch.
MADE_AGAIN = tuple(
    map(str, (layout.RAW, layout.CLIENTS, layout.CLIENT_TESTS, layout.HELD_OUT_CLIENTS, layout.VALIDATION))
)
_FOLDER = ".dir"  # ends the MD5 of a folder
_SOURCES = (str(layout.LOCK), "*.dvc")


@dataclass
class Named:
    """What some state of the project names by MD5: outputs of stages and files that are added, batches among them."""

    outputs: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)

    def add(self, other: "Named") -> None:
        """Takes in what ``other`` names."""
        self.outputs |= other.outputs
        self.batches |= other.batches

    def read(self, name: str, content: str) -> None:
        """Takes in the hashes that a file names: dvc.lock, or a .dvc file.

        Raises:
          PipelineError: It is not as DVC writes it.
        """
        tree = parse_text(content, name)
        is_batch = Path(name).parent == layout.POOL
        try:
            stages = tree.get("stages", {}).values() if name == str(layout.LOCK) else [tree]
            named = {out["md5"] for stage in stages for out in stage.get("outs", []) if _is_kept(out)}
        except (AttributeError, TypeError):
            raise PipelineError(f"{name} is not as DVC writes it: restore it with `git checkout {name}`") from None
        (self.batches if is_batch else self.outputs).update(named)


def _is_kept(out: Mapping[str, Any]) -> bool:
    return "md5" in out and out.get("path") not in MADE_AGAIN


def workspace() -> Named:
    """The hashes that the files of the workspace name."""
    named = Named()
    listed = commands.git("ls-files", "--cached", "--others", "--exclude-standard", "--", *_SOURCES)
    for name in listed.splitlines():
        if Path(name).is_file():  # else it is deleted, and not yet in a commit
            named.read(name, Path(name).read_text(encoding="utf-8"))
    return named


def revisions() -> Named:
    """What HEAD, the branches (the remote's too) and the tags of this clone name; of tags the batches only.

    A commit of somebody whose dvc.lock or .dvc files are no DVC's, such as in the middle of a merge, is passed over.
    """
    tags = commands.git("for-each-ref", "--format=%(refname)", "refs/tags").split()
    ours = {_commit(branch) for branch in branches()}
    named = Named()
    for commit in sorted({*ours, *map(_commit, tags)}):
        try:
            outputs = _of_commit(commit)
        except PipelineError as error:
            print(f"kept: commit {commit[:12]} is passed over: {error}", file=sys.stderr)
            continue
        named.add(outputs if commit in ours else Named(batches=outputs.batches))
    return named


def branches() -> list[str]:
    """HEAD and the branches of this clone, the remote's too, as git names them."""
    return ["HEAD", *commands.git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").split()]


def is_shallow() -> bool:
    """Whether the clone lacks commits, and so perhaps branches and tags, too."""
    return commands.git("rev-parse", "--is-shallow-repository").strip() == "true"


def _commit(revision: str) -> str:
    return commands.git("rev-parse", f"{revision}^{{commit}}").strip()


def _of_commit(commit: str) -> Named:
    named = Named()
    for name in commands.git("ls-tree", "-r", "--name-only", commit).splitlines():
        if name == str(layout.LOCK) or name.endswith(".dvc"):
            named.read(name, commands.git("show", f"{commit}:./{name}"))
    return named


class Cache:
    """DVC's cache in this project, and its default remote."""

    def __init__(self) -> None:
        """Opens the project.

        Raises:
          PipelineError: DVC cannot open it.
        """
        from dvc.exceptions import DvcException
        from dvc.repo import Repo  # half a second

        try:
            self._repo = Repo()
        except DvcException as error:
            raise PipelineError(f"DVC does not open this project: {error}") from None
        self.folder = Path(self._repo.cache.legacy.path)
        self._files = Path(self._repo.cache.local.path)

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, *_: object) -> None:
        self._repo.close()

    @cached_property
    def remote(self) -> str | None:
        """The name of the default remote, if there is one."""
        return self._repo.config["core"].get("remote")

    def present(self, hashes: Iterable[str]) -> set[str]:
        """Those of ``hashes`` that are in the cache, and the content of the folders among them."""
        here: set[str] = set()
        for each in hashes:
            if not self.path(each).is_file():
                continue
            here.add(each)
            if each.endswith(_FOLDER):
                inner = (entry["md5"] for entry in json.loads(self.path(each).read_text(encoding="utf-8")))
                here |= {md5 for md5 in inner if self.path(md5).is_file()}
        return here

    def not_in_remote(self, hashes: Collection[str]) -> set[str]:
        """Those of ``hashes`` that the default remote lacks; all if there is none, or if it does not answer."""
        if self.remote is None or not hashes:
            return set(hashes)
        # S3's errors, and those of DVC and of everything else that opens a remote.
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
        from dvc.exceptions import DvcException
        from dvc_objects.errors import ObjectDBError

        try:
            remote = self._repo.cloud.get_remote_odb()
            return set(hashes) - set(remote.oids_exist(sorted(hashes)))
        except (DvcException, ObjectDBError, OSError, ValueError, ImportError, BotoCoreError, ClientError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            print(f"kept: the DVC remote {self.remote} does not answer ({reason}): all is kept", file=sys.stderr)
            return set(hashes)

    def path(self, md5: str) -> Path:
        """Where the cache has an object."""
        return self._files / md5[:2] / md5[2:]

    def name(self, path: Path) -> str:
        """How a state calls a file of the cache."""
        return f"{CACHE}/{path.relative_to(self.folder).as_posix()}"

    def records(self, hashes: Collection[str]) -> list[Path]:
        """The records of runs all of whose outputs are among ``hashes``: by them, DVC restores a stage."""
        records = sorted(path for path in (self.folder / "runs").glob("*/*/*") if path.is_file())
        return [path for path in records if _outputs(path) <= set(hashes)]


def _outputs(record: Path) -> set[str]:
    content: dict[str, Any] = parse_text(record.read_bytes(), str(record))
    return {out.get("md5", "") for out in content.get("outs", [])}
