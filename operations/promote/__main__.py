"""``python -m operations.promote``: make the challenger champion if the rules in params.yaml hold.

python -m operations.promote              measures challenger and champion on the same data, and decides
python -m operations.promote --again      also considers a challenger that was rolled back
python -m operations.promote --weights SHA256   refuses if the challenger is not of these weights
python -m operations.promote --dry-run    says what it would decide, and changes nothing
python -m operations.promote --rollback   makes the former champion champion again

The exit code is 0 whether the champion stays or changes; --json PATH writes which, and why.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import layout
from fedpipe import params, pinning
from fedpipe.atomic import write_text
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking import champions
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.registry import DATA_TAG, TEST_SET_TAG, Version, registered_model
from operations.promote.decision import Contender, Decision
from operations.stale import require_fresh

if TYPE_CHECKING:
    from operations.promote.measure import Benchmark


def main(arguments: list[str] | None = None) -> None:
    """Decides under the registry's lock, records the decision, then says it."""
    options = _parse(arguments)
    settings = params.load(params.Promote, layout.PARAMS)
    with registry_lock(layout.store()):
        if options.rollback:  # which measures nothing, so that it needs no data
            decision = roll_back(params.load(params.Download, layout.PARAMS).name)
        else:
            dataset = RawDataset.read(layout.RAW)
            decision = decide(dataset.name, settings, options.again, options.weights)
            if not options.dry_run:
                carry_out(dataset, settings, decision)
    print("\n".join(decision.lines()) + ("\n(dry run: nothing was changed)" if options.dry_run else ""))
    if options.json:
        write_text(options.json, decision.json())


def decide(dataset: str, settings: params.Promote, again: bool, weights: str | None = None) -> Decision:
    """Compares challenger and champion.

    Args:
      dataset: The data set's name.
      settings: The rules.
      again: Whether a challenger that was rolled back may win.
      weights: SHA-256 of the weights that are to be judged; None: of whichever is challenger.

    Raises:
      PipelineError: There is no challenger, it is of other weights, a stage is stale, one of the two cannot be measured
        on the present data, or MLflow cannot be reached.
    """
    registry = layout.registry()
    challenger, champion = registry.challenger(dataset), registry.champion(dataset)
    if challenger is None:
        raise PipelineError(f"{registered_model(dataset)} has no challenger: `make register` makes one")
    require_fresh("no model can be promoted")
    if weights and challenger.weights_sha256 != weights:
        raise PipelineError(
            f"the challenger {challenger} has the weights {challenger.weights_sha256[:12]}…, not {weights[:12]}…: "
            "somebody registered another model in the meantime; `make register` makes yours the challenger again"
        )
    if champion and champion.weights_sha256 == challenger.weights_sha256:
        return _kept(challenger, champion, f"the challenger (version {challenger.number}) is the champion already")
    if champions.ROLLED_BACK_TAG in challenger.tags and not again:
        reason = f"version {challenger.number} was rolled back; --again lets it try once more"
        return _kept(challenger, champion, reason)
    return _compare(settings, challenger, champion)


def _compare(settings: params.Promote, challenger: Version, champion: Version | None) -> Decision:
    # TensorFlow takes seconds to import, and what is decided without measuring need not wait.
    from operations.promote.measure import Benchmark
    from operations.promote.rules import judge

    pinning.require_avx2()
    benchmark = Benchmark.read(params.load(params.Evaluate, layout.PARAMS).batch_size)
    ours = benchmark.measure(challenger)
    theirs = benchmark.measure(champion) if champion else None
    rules = judge(settings, ours, theirs) if theirs else []
    failed = [rule.name for rule in rules if not rule.holds]

    if champion is None:
        reason = f"version {challenger.number} is the first champion"
    elif failed:
        reason = f"version {champion.number} stays champion: version {challenger.number} fails {', '.join(failed)}"
    else:
        reason = f"version {challenger.number} takes the place of version {champion.number}: all rules hold"
    return Decision(
        model=challenger.name,
        subject=challenger.number,
        outcome="kept" if failed else "promoted",
        reason=reason,
        challenger=Contender.of(challenger, ours),
        champion=Contender.of(champion, theirs) if champion else None,
        champion_now=champion.number if champion and failed else challenger.number,
        rules=rules,
        notes=_notes(champion, benchmark),
        test_set_sha256=benchmark.test_set_sha256,
    )


def _notes(champion: Version | None, benchmark: "Benchmark") -> list[str]:
    if champion is None:
        return []
    notes, number = [], champion.number
    if champion.tags.get(TEST_SET_TAG) != benchmark.test_set_sha256:
        notes.append(f"version {number} was registered with other test images; both were measured on the present ones")
    if benchmark.withholds:
        return [*notes, "the training has secret noise, so the worst client is not measured (docs/privacy.md)"]
    if champion.tags.get(DATA_TAG) == benchmark.manifest.digest:
        return notes
    if benchmark.clients == layout.CLIENTS:
        notes.append(
            f"the clients are measured on samples that version {number} may not have been trained on, which favours "
            "the challenger: 'partition.client_test' same_distribution gives them test samples"
        )
    elif benchmark.manifest.held_out == "fraction":
        notes.append(
            f"version {number} may have been trained on samples that are held out now, which favours it: "
            "'partition.client_test' same_distribution draws the clients' test samples from the test images"
        )
    return notes


def _kept(challenger: Version, champion: Version | None, reason: str) -> Decision:
    return Decision(
        model=challenger.name,
        subject=challenger.number,
        outcome="kept",
        reason=reason,
        challenger=Contender.of(challenger),
        champion=Contender.of(champion) if champion else None,
        champion_now=champion.number if champion else None,
    )


def carry_out(dataset: RawDataset, settings: params.Promote, decision: Decision) -> None:
    """Moves the champion if it was so decided, and then records the decision on the challenger.

    That it was judged is written last: cut short anywhere before, the promotion is to be run again.

    Raises:
      PipelineError: Another machine moved the champion in the meantime, or MLflow cannot be reached or refuses.
    """
    registry = layout.registry()
    if decision.outcome == "promoted":
        former = decision.champion.version if decision.champion else None
        champions.promote(registry, dataset.name, decision.subject, former)
    if decision.outcome == "promoted" or decision.rules:
        # Else nothing was compared, and what the version says of its last comparison stays.
        champions.record(registry, dataset.name, decision.subject, decision.json(), decision.markdown())
    judgement = champions.judgement(decision.champion_now, settings.model_dump(), dataset.test_sha256(layout.RAW))
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
        champion=Contender.of(left),
        champion_now=back.number,
    )
    champions.record(registry, dataset, decision.subject, decision.json(), decision.markdown())
    return decision


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="also consider a challenger that was rolled back")
    parser.add_argument("--dry-run", action="store_true", help="change nothing")
    parser.add_argument("--rollback", action="store_true", help="make the former champion champion again")
    parser.add_argument("--weights", metavar="SHA256", help="refuse if the challenger is not of these weights")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the decision to a file")
    options = parser.parse_args(arguments)
    if options.rollback and (options.again or options.dry_run or options.weights):
        parser.error("--rollback goes with none of --again, --dry-run and --weights")
    return options


if __name__ == "__main__":
    run_stage(main)
