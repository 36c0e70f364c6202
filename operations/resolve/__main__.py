"""``python -m operations.resolve``, or ``make resolve``: settles the conflicts of a merge, and recomputes the results.

  params.yaml       both sides' changes; where both changed a key, that of the chosen side (--params, or KEY=SIDE)
  the ledger        the batches of both sides
  models/*.json     the marker of the champion and of the first weights: of the chosen side (--champion)
  dvc.lock, metrics, plots, provenance.json    ours, and then `dvc repro` runs the stages whose results they are not

What it wrote is staged, so that `git commit` ends the merge. Stopped anywhere, it starts again with the same command.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import layout
from fedpipe.atomic import write_text
from fedpipe.command_line import make_command
from fedpipe.datasets.ledger import Entry, ledger_text, parse, present
from fedpipe.datasets.pool import Pool
from fedpipe.errors import PipelineError, run_stage
from operations import commands, provenance
from operations.resolve import conflicts, ledger, params
from operations.resolve.conflicts import Conflict, Side
from operations.retrain.state import default_remote

_SIDES = ("ours", "theirs")
# Whatever the pipeline and its operations write that is in git.
_RESULTS = (str(layout.LOCK), str(provenance.RECORD), "metrics", "plots", str(layout.POOL), str(layout.INITIAL.parent))


@dataclass(frozen=True)
class Chosen:
    """The person's choices.

    Attributes:
      params: Whose value a key of params.yaml gets that both sides changed; None if not chosen, here and below.
      by_key: The same for single keys.
      champion: Whose markers in models/ are right; without a choice, those of ``params``.
    """

    params: Side | None
    by_key: Mapping[str, Side]
    champion: Side | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Settles, recomputes, stages.

    Raises:
      PipelineError: No merge is under way, other files are in conflict, something has to be chosen, or a stage failed.
    """
    chosen = _parse(arguments)
    conflicted = conflicts.unresolved()
    if not conflicted and not conflicts.is_under_way():
        raise PipelineError("no merge is under way: run `git merge BRANCH`, and `make resolve` if it reports conflicts")
    others = [conflict.path for conflict in conflicted if not _is_ours(conflict.path)]
    if others:
        raise PipelineError(
            f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} in conflict, and results rest on the code: "
            "settle that by hand, `git add` it, and run `make resolve` again"
        )
    entries = _merged_ledger(conflicted)
    texts, open_choices = {}, []
    for conflict in conflicted:
        try:
            texts[conflict.path] = _settled(conflict, entries, chosen)
        except PipelineError as error:
            open_choices.append(str(error))
    if open_choices:
        raise PipelineError("; ".join(open_choices))
    for path, text in texts.items():
        _write(Path(path), text)
        _say(f"{path}: {'removed' if text is None else 'settled'}")
    _stage(list(texts))
    _bring_batches()
    _recompute()
    _stage([path for path in (str(layout.PARAMS), *_RESULTS) if Path(path).exists()])
    _say("results are those of the merged params, data and code; look at `git diff --cached`, then `git commit`")


def _is_ours(path: str) -> bool:
    return path == str(layout.PARAMS) or path in _RESULTS or any(path.startswith(f"{each}/") for each in _RESULTS)


def _settled(conflict: Conflict, entries: Sequence[Entry], chosen: Chosen) -> str | None:
    """The text of a file after the merge; None if there is to be none."""
    path, pool = Path(conflict.path), Pool(layout.POOL)
    if path == layout.PARAMS:
        return params.merged(conflict, chosen.params, chosen.by_key)
    if path == pool.ledger:
        return ledger_text(entries)
    if path.name == ".gitignore" or path == pool.decisions:  # a line for each file, or each decision
        return "".join(dict.fromkeys(conflict.merged_lines("union").splitlines(keepends=True)))
    if path.parent == layout.POOL and path.suffix == ".dvc":
        return _pointer_of_batch(conflict, entries)
    if path.parent == layout.INITIAL.parent and path.suffix != ".md":  # kept.md is a report
        return conflict.text(_champion_side(conflict, chosen))
    return conflict.theirs if conflict.ours is None else conflict.ours  # a result, which is made again


def _merged_ledger(conflicted: Sequence[Conflict]) -> list[Entry]:
    """The rows of the ledger after the merge."""
    pool = Pool(layout.POOL)
    conflict = next((each for each in conflicted if Path(each.path) == pool.ledger), None)
    if conflict is None:
        return pool.read_ledger()
    texts = (conflict.base, conflict.ours, conflict.theirs)
    sides = [parse(text, pool.ledger) if text else [] for text in texts]
    for client in ledger.clients_to_withdraw_again(*sides):
        _say(
            f"one side withdrew client {client!r}, the other added batches: withdraw it again if they have its samples"
        )
    return ledger.union(*sides)


def _pointer_of_batch(conflict: Conflict, entries: Sequence[Entry]) -> str | None:
    """What DVC knows a batch by; None for a batch that is not in the merged ledger."""
    pool = Pool(layout.POOL)
    if conflict.path not in [f"{pool.batch_path(entry.batch)}.dvc" for entry in present(entries)]:
        return None
    if conflict.ours is not None and conflict.theirs is not None:
        raise PipelineError(
            f"both sides have a batch {conflict.path}, with other samples: take one out on its branch, ingest it there "
            "by another name, and merge again"
        )
    return conflict.theirs if conflict.ours is None else conflict.ours


def _champion_side(conflict: Conflict, chosen: Chosen) -> Side:
    side = chosen.champion or chosen.params
    if side is None:
        raise PipelineError(
            f"{conflict.path}: both sides have another champion, and git cannot tell which is in production: "
            'choose with `make resolve ARGS="--champion ours"` or theirs (`make promote` shows the present one)'
        )
    return side


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, text)


def _stage(paths: Sequence[str]) -> None:
    if paths:
        commands.git("add", "--all", "--", *paths)


def _bring_batches() -> None:
    """Brings the samples of the other side's batches here, as far as the cache or a remote has them."""
    pool = Pool(layout.POOL)
    missing = [path for entry in present(pool.read_ledger()) if not (path := pool.batch_path(entry.batch)).exists()]
    pointers = [f"{path}.dvc" for path in missing if Path(f"{path}.dvc").exists()]
    if pointers:
        _say(f"batches that are not here: {len(pointers)}")
        commands.dvc("pull" if default_remote() else "checkout", "--allow-missing", *pointers)


def _recompute() -> None:
    """Runs the stages whose results these are not; then records the machine, if any did."""
    before = layout.LOCK.read_bytes() if layout.LOCK.exists() else b""
    _say("dvc repro")
    if subprocess.run([sys.executable, "-m", "dvc", "repro"], stdout=sys.stderr, check=False).returncode:
        raise PipelineError(
            "`dvc repro` failed (its words are above); put that right, and run `make resolve` again: what was settled "
            "stays settled"
        )
    if layout.LOCK.read_bytes() != before:
        subprocess.run([sys.executable, "-m", "operations.provenance", "record"], check=True)


def _parse(arguments: Sequence[str] | None) -> Chosen:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("resolve"))
    parser.add_argument("--params", choices=_SIDES, help="whose value a param gets that both sides changed")
    parser.add_argument("--champion", choices=_SIDES, help="whose champion is right, if both sides have another")
    parser.add_argument("keys", nargs="*", metavar="KEY=SIDE", help="the same for one param: train.rounds=theirs")
    options = parser.parse_args(arguments)
    by_key: dict[str, Side] = {}
    for text in options.keys:
        key, _, side = text.partition("=")
        if side not in _SIDES:
            parser.error(f"'{text}' should be KEY=ours or KEY=theirs, such as train.rounds=theirs")
        by_key[key] = side
    return Chosen(options.params, by_key, options.champion)


def _say(line: str) -> None:
    print(f"resolve: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(main)
