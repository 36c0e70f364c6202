"""``python -m operations.promote``: make the challenger champion if the rules in params.yaml hold.

python -m operations.promote              measures challenger and champion on the same data, and decides
python -m operations.promote --again      also considers a challenger that was rolled back
python -m operations.promote --weights SHA256   refuses if the challenger is not of these weights
python -m operations.promote --dry-run    says what it would decide, and changes nothing
python -m operations.promote --rollback   makes the former champion champion again
python -m operations.promote --trained    compares the trained weights, registered or not, and changes nothing
python -m operations.promote --merged     makes the version that models/champion.json of HEAD names the champion

A promotion and a rollback write models/champion.json, which is to be committed. The exit code is 0 whether the champion
stays or changes; --json PATH writes which, and why.
"""

import argparse
import os
from pathlib import Path

import layout
from fedpipe import params
from fedpipe.atomic import write_text
from fedpipe.command_line import make_command
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError, run_stage
from fedpipe.evaluation.identity import sha256
from fedpipe.tracking import champions
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.registry import dataset_of
from operations.promote import git_champion
from operations.promote.decision import Candidate, Contender, Decision
from operations.promote.judging import decide, judge_trained
from operations.retrain.outcome import Outcome


def main(arguments: list[str] | None = None) -> None:
    """Decides under the registry's lock, records the decision, then says it."""
    options = _parse(arguments)
    if os.environ.get("FEDPIPE_EXPERIMENT") and not (options.trained or options.dry_run):
        raise PipelineError("FEDPIPE_EXPERIMENT is set, and an experiment moves no champion: unset it")
    if options.merged:
        _follow_git(options.again)
        return
    if options.rollback:  # which measures nothing, so that it needs no data
        _say(_roll_back(params.load(params.Download, layout.PARAMS).name), options)
        return
    dataset, settings = RawDataset.read(layout.RAW), params.load(params.Promote, layout.PARAMS)
    if options.trained:
        _say(judge_trained(dataset, settings, layout.WEIGHTS, sha256(layout.WEIGHTS)), options)
        return
    with registry_lock(layout.store()):
        decision = decide(dataset.name, settings, options.again, options.weights)
        if not options.dry_run:
            if decision.outcome == "promoted":
                git_champion.moves_without_git(dataset.name)
            carry_out(dataset, settings, decision)
        champion = layout.registry().champion(dataset.name)
    if champion and not options.dry_run and champion.number == decision.subject:
        git_champion.write_marker(champion)
    _say(decision, options)


def _follow_git(again: bool) -> None:
    """Follows HEAD's marker; in GitHub Actions, where a job does nothing else, `make tell` learns the result."""
    outcome = Outcome(dataset="", status="nothing_new", reason="", looked_at_batches=False)
    try:
        with registry_lock(layout.store()):
            marker = git_champion.of_head()
            dataset = dataset_of(marker.model or "")
            before = layout.registry().champion(dataset) if dataset else None
            sentence = git_champion.follow(again)
            now = layout.registry().champion(dataset) if dataset else None
        moved = now is not None and (before is None or before.number != now.number)
        outcome = outcome.model_copy(
            update={"dataset": dataset, "status": "promoted" if moved else "nothing_new", "reason": sentence}
        )
        if moved and now is not None:
            outcome = outcome.model_copy(
                update={"version": now.number, "weights_sha256": now.weights_sha256, "accuracy": marker.accuracy}
            )
        print(sentence)
    except PipelineError as error:
        outcome = outcome.model_copy(update={"status": "failed", "reason": str(error)})
        raise
    finally:
        if os.environ.get("GITHUB_ACTIONS"):
            outcome.write()


def _roll_back(dataset: str) -> Decision:
    """Goes back one champion, under the registry's lock, and writes the marker of the one that is champion again."""
    with registry_lock(layout.store()):
        git_champion.moves_without_git(dataset)
        decision = roll_back(dataset)
        champion = layout.registry().champion(dataset)
    if champion:
        git_champion.write_marker(champion)
    return decision


def _say(decision: Decision, options: argparse.Namespace) -> None:
    print("\n".join(decision.lines()) + ("\n(dry run: nothing was changed)" if options.dry_run else ""))
    if options.json:
        write_text(options.json, decision.json())


def carry_out(dataset: RawDataset, settings: params.Promote, decision: Decision) -> None:
    """Moves the champion if it was so decided, and then records the decision on the challenger.

    That it was judged is written last: cut short anywhere before, the promotion is to be run again.

    Raises:
      PipelineError: Another machine moved the champion in the meantime, or MLflow cannot be reached or refuses.
    """
    registry = layout.registry()
    if decision.subject is None:
        raise PipelineError("a model that is not registered cannot be promoted: `make register` registers it")
    if decision.outcome == "promoted":
        former = decision.champion.version if decision.champion else None
        champions.promote(registry, dataset.name, decision.subject, former)
    if decision.outcome == "promoted" or decision.rules:
        # Else nothing was compared, and what the version says of its last comparison stays.
        champions.record(registry, dataset.name, decision.subject, decision.json(), decision.markdown())
    judgement = champions.judgement(decision.champion_now, settings.rules(), dataset.test_sha256(layout.RAW))
    champions.record_judged(registry, dataset.name, decision.subject, judgement)


def roll_back(dataset: str) -> Decision:
    """Makes the former champion champion again, and records that on the one that was.

    Raises:
      PipelineError: There is no former champion, or MLflow cannot be reached or refuses.
    """
    registry = layout.registry()
    left, back = champions.step_back(registry, dataset)
    decision = Decision(
        model=back.name,
        subject=left.number,
        outcome="rolled_back",
        reason=f"version {back.number} is champion again in place of version {left.number}",
        challenger=None,
        champion=Contender.of(Candidate.of(left)),
        champion_now=back.number,
    )
    champions.record(registry, dataset, left.number, decision.json(), decision.markdown())
    return decision


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("promote"))
    parser.add_argument("--again", action="store_true", help="also consider a challenger that was rolled back")
    parser.add_argument("--dry-run", action="store_true", help="change nothing")
    parser.add_argument("--rollback", action="store_true", help="make the former champion champion again")
    parser.add_argument("--merged", action="store_true", help="make the champion that git names the champion")
    parser.add_argument("--trained", action="store_true", help="compare the trained weights, and change nothing")
    parser.add_argument("--weights", metavar="SHA256", help="refuse if the challenger is not of these weights")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the decision to a file")
    options = parser.parse_args(arguments)
    if options.rollback and (options.again or options.dry_run or options.weights):
        parser.error("--rollback goes with none of --again, --dry-run and --weights")
    if options.merged and (options.rollback or options.dry_run or options.weights or options.json or options.trained):
        parser.error("--merged goes with --again only")
    if options.trained and (options.rollback or options.again or options.weights):
        parser.error("--trained goes with none of --rollback, --again and --weights")
    return options


if __name__ == "__main__":
    run_stage(main)
