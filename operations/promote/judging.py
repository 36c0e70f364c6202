"""Whether a model is to become champion: the challenger, or weights that are not registered yet."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import layout
from fedpipe import params, pinning
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.tracking import champions
from fedpipe.tracking.registry import DATA_TAG, TEST_SET_TAG, Version, registered_model
from operations.promote.decision import Candidate, Contender, Decision
from operations.stale import require_fresh

if TYPE_CHECKING:
    from operations.promote.measure import Benchmark


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
    return _decide(settings, Candidate.of(challenger), champion, again)


def judge_trained(dataset: RawDataset, settings: params.Promote, weights: Path, weights_sha256: str) -> Decision:
    """Compares trained weights with the champion, and changes nothing in the registry.

    Args:
      dataset: The data set.
      settings: The rules.
      weights: The file.
      weights_sha256: Its SHA-256.

    Returns:
      The decision: ``kept``, or ``proposed`` where all rules hold.

    Raises:
      PipelineError: As `decide`.
    """
    require_fresh("no model can be judged")
    registry = layout.registry()
    version = registry.version_of_weights(dataset.name, weights_sha256)
    trained = Candidate(registered_model(dataset.name), weights_sha256, version, lambda: weights)
    decision = _decide(settings, trained, registry.champion(dataset.name), again=False)
    if decision.outcome == "promoted":
        present = decision.champion.version if decision.champion else None
        decision = replace(decision, outcome="proposed", champion_now=present)
    judged_by = champions.judgement(decision.champion_now, settings.rules(), dataset.test_sha256(layout.RAW))
    return replace(decision, judged_by=judged_by)


def _decide(settings: params.Promote, challenger: Candidate, champion: Version | None, again: bool) -> Decision:
    if champion and champion.weights_sha256 == challenger.weights_sha256:
        return _kept(challenger, champion, f"the challenger (version {champion.number}) is the champion already")
    if challenger.is_rolled_back and not again:
        reason = f"{challenger} was rolled back; --again lets it try once more"
        return _kept(challenger, champion, reason)
    return _compare(settings, challenger, champion)


def _compare(settings: params.Promote, challenger: Candidate, champion: Version | None) -> Decision:
    # TensorFlow takes seconds to import, and what is decided without measuring need not wait.
    from operations.promote.measure import Benchmark
    from operations.promote.rules import judge

    pinning.require_avx2()
    with Benchmark.opened(params.load(params.Evaluate, layout.PARAMS).batch_size) as benchmark:
        ours = benchmark.measure(challenger)
        theirs = benchmark.measure(Candidate.of(champion)) if champion else None
    rules = judge(settings, ours, theirs) if theirs else []
    failed = [rule.name for rule in rules if not rule.holds]

    if champion is None:
        reason = f"{challenger} is the first champion"
    elif failed:
        reason = f"version {champion.number} stays champion: {challenger} fails {', '.join(failed)}"
    else:
        reason = f"{challenger} takes the place of version {champion.number}: all rules hold"
    return Decision(
        model=challenger.model,
        subject=challenger.number,
        outcome="kept" if failed else "promoted",
        reason=reason,
        challenger=Contender.of(challenger, ours),
        champion=Contender.of(Candidate.of(champion), theirs) if champion else None,
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
    if benchmark.sites is not None:
        return [*notes, *benchmark.sites.notes()]
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


def _kept(challenger: Candidate, champion: Version | None, reason: str) -> Decision:
    return Decision(
        model=challenger.model,
        subject=challenger.number,
        outcome="kept",
        reason=reason,
        challenger=Contender.of(challenger),
        champion=Contender.of(Candidate.of(champion)) if champion else None,
        champion_now=champion.number if champion else None,
    )
