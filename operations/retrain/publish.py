"""``python -m operations.retrain.publish``, or ``make publish``: what a retraining made becomes a version.

1. The results become a commit on top of HEAD; the folder, its index and its branch stay as they are.
2. If the rules hold, the commit names the new champion in models/champion.json and goes to the branch retrain/<branch>
   of the remote (without a remote: of this clone). A branch that a former retraining left is replaced, one that a
   person has added to is not.
3. The model is registered with that commit, and the tag models/<data set>/v<number> keeps the commit.
4. The pull request is opened or renewed. If a rule fails, it changes models/kept.md only, and the tag has the results;
   one that still proposes the model of an earlier week stays, with a comment.
5. With `promote.when: at_once`, the model becomes champion; else merging the pull request makes it champion.

An experiment (FEDPIPE_EXPERIMENT) has a branch of its own, and is neither registered nor promoted. Stopped anywhere,
the same command resumes.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import layout
from fedpipe import params
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking import champions
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.marker import Marker
from fedpipe.tracking.registry import COMMIT_TAG, GIT_TAG, PULL_REQUEST_TAG, Version
from layout import CHAMPION_MARKER
from operations.committed import require_committed_code
from operations.promote import git_champion
from operations.promote.decision import Decision
from operations.register import git_tag
from operations.register.registration import register, require_registrable
from operations.retrain import commits, state
from operations.retrain.destination import Clone, Remote, base_branch, branch_for, destination, experiment
from operations.retrain.outcome import OUTCOME, Outcome, Status
from operations.retrain.pull_request import Opened, PullRequest, gh, has_gh
from operations.retrain.summary import SUMMARY, tell_github
from operations.retrain.waiting import proposed_by
from operations.stale import require_fresh
from operations.tell import pull_request
from operations.tell.pictures import publish_pictures

KEPT = Path("models/kept.md")
WORKFLOW = "retrain.yml"


def main(arguments: list[str] | None = None) -> None:
    """Publishes what `make retrain` left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remote", help="the git remote; else origin, if there is one")
    remote = parser.parse_args(arguments).remote
    require_committed_code()
    if OUTCOME.is_file() and Outcome.read().status == "unfinished":
        _continue()
        return
    if layout.pipeline_files().withholds:
        # A commit has exact figures of the clients' data whatever a training withholds.
        _say(
            f"nothing is published: {layout.TRAINING} has secret noise, and a commit would tell exact figures and "
            f"hashes of the clients' data beside it ({layout.PARTITION}, {layout.POOL}, {layout.LOCK}); hand the model "
            "on by the registry, which gets none of them: `make register`, then `make promote`"
        )
        return
    require_fresh("nothing can be published")
    place, base, decision = destination(remote), base_branch(), state.read_decision()
    is_head = commits.results_tree({}) == commits.head_tree()
    if is_head and (decision is None or experiment() or state.is_champion(RawDataset.read(layout.RAW))):
        _say("nothing to publish: params, results and data are those of the last commit")
        return
    if decision is None:
        raise PipelineError("nothing says how these weights compare with the champion: `make retrain` judges them")
    if experiment():
        _publish_experiment(place, base)
    else:
        _Publication(place, base, decision).run()
    if state.default_remote() is None:
        _say(
            f"there is no DVC remote, so nobody else can pull the batches, data and models that {branch_for(base)} "
            "names: add one with `dvc remote add --default NAME ADDRESS`, then `dvc push` (docs/team.md)"
        )


def _continue() -> None:
    """An unfinished retraining has nothing to publish; in GitHub Actions, the workflow is started again."""
    if experiment():
        _say(f"nothing to publish: {Outcome.read().reason}")
        return
    _say("nothing to publish yet: the time limit ended the retraining, and `make retrain` resumes it")
    if os.environ.get("GITHUB_ACTIONS") and has_gh():
        gh("workflow", "run", WORKFLOW, "--ref", base_branch())
        _say(f"workflow {WORKFLOW} is started again")


def _publish_experiment(place: Remote | Clone, base: str) -> None:
    branch = branch_for(base)
    tip = place.tip(branch)
    commit = commits.commit(commits.results_tree({}), f"Experiment: retrain {base}", [tip])
    place.set_branch(branch, commit, tip)
    _say(f"{branch} of {place} is {commit[:12]}; an experiment is neither registered nor promoted")
    lead = "An experiment: merging it brings its params and results, and the next retraining registers its model."
    opened = PullRequest(base, branch, f"Experiment: retrain {base}", lead).open()
    if outcome := _outcome(commit=commit, branch=branch, pull_request=opened.url if opened else None):
        outcome.write()


class _Publication:
    """The steps of a retraining that is no experiment; each can be repeated."""

    def __init__(self, place: Remote | Clone, base: str, decision: Decision) -> None:
        self._place, self._base, self._decision = place, base, decision
        self._branch = branch_for(base)
        self._dataset = RawDataset.read(layout.RAW)
        when = params.load(params.Promote, layout.PARAMS).when
        self._when = "merged" if git_champion.is_guarded() else when
        self._is_champion = state.is_champion(self._dataset)
        self._proposes = decision.proposes and not self._is_champion
        self._is_kept = not (self._proposes or self._is_champion)
        self._title = f"Retrain {base}"

    def run(self) -> None:
        """Commit, branch, version, tag, pull request, promotion."""
        require_registrable()
        if not self._is_champion and self._decision.judged_by != state.judgement(self._dataset):
            raise PipelineError(
                "champion, rules or test images changed since the model was judged: `make retrain` judges it again"
            )
        tip = self._place.tip(self._branch)
        commit = self._commit(tip)
        is_new = commit != commits.head()
        was_kept = self._is_kept
        if is_new and not was_kept:
            self._set_branch(commit, tip)
        was_missing = layout.registry().version_of_weights(self._dataset.name, state.trained_weights()) is None
        version = self._tagged(register(commit), commit)
        self._record(version)
        is_lost_champion = was_missing and not self._is_champion and git_champion.is_named(version)
        if is_lost_champion or (self._proposes and not is_new):  # merged before the registry had it
            with registry_lock(layout.store()):
                _say(git_champion.follow())
            self._is_champion = state.is_champion(self._dataset)
            self._proposes = self._proposes and not self._is_champion
            self._is_kept = not (self._proposes or self._is_champion)
        waiting = self._waiting(tip) if is_new and self._is_kept else None
        if is_new and was_kept and not waiting:
            self._set_branch(self._report(tip) if self._is_kept else commit, tip)
        status, lead = self._in_words(version)
        branch = self._branch if is_new else None
        known = {"status": status, "version": version.number, "commit": commit, "branch": branch}
        outcome = _outcome(reason=self._reason(version), **known)
        if waiting:
            opened = self._comment(waiting, outcome)
        else:
            opened = self._open(f"{self._title}: {status}", lead, outcome) if is_new else None
        if opened:
            layout.registry().tag(version, {PULL_REQUEST_TAG: opened.url})
        if self._proposes and self._when == "at_once":
            self._make_champion(version)
        if self._decision.judged_by:  # last: a retraining takes a version that was judged for published
            champions.record_judged(layout.registry(), self._dataset.name, version.number, self._decision.judged_by)
        if outcome:  # last: what is in it is done
            outcome.model_copy(update={"pull_request": opened.url if opened else None}).write()
        if isinstance(self._place, Clone) and is_new and not self._is_kept:
            _say(
                f"without a git remote, merge it here: `git add --all && git merge --ff-only {self._branch}`, "
                "then `make promote ARGS=--merged`"
            )

    def _waiting(self, tip: str | None) -> Version | None:
        """Another model that waits in the branch for its merge: this one, which is kept, does not take its place."""
        proposed = proposed_by(tip, state.trained_weights(), self._decision.judged_by) if tip else None
        if proposed and has_gh() and pull_request.open_one(self._base, self._branch) is None:
            return None  # somebody closed it
        return proposed

    def _comment(self, proposed: Version, outcome: Outcome | None) -> Opened | None:
        """Leaves the pull request of another model as it is, and tells there what came of this one."""
        _say(f"{self._branch} still proposes {proposed}, and stays as it is; {SUMMARY} has what came of this model")
        number = pull_request.open_one(self._base, self._branch) if outcome and has_gh() else None
        if outcome is None or number is None:
            return None
        url = pull_request.comment_kept(outcome, number, str(proposed), SUMMARY.read_text(encoding="utf-8"))
        return Opened(number, url, renewed=True)

    def _open(self, title: str, lead: str, outcome: Outcome | None) -> Opened | None:
        pictures = ""
        if outcome and isinstance(self._place, Remote) and has_gh():
            pictures = publish_pictures(outcome, self._place.name)
            tell_github(pictures)
        return PullRequest(self._base, self._branch, title, lead).open(outcome, pictures)

    def _commit(self, tip: str | None) -> str:
        """The commit of the results, which names the new champion if there is to be one."""
        tree = commits.results_tree({} if self._is_kept else {CHAMPION_MARKER: self._marker()})
        if tree == commits.head_tree():
            return commits.head()
        known = layout.registry().version_of_weights(self._dataset.name, state.trained_weights())
        reusable = [tip, known.tags.get(COMMIT_TAG) if known else None]
        return commits.commit(tree, f"{self._title}: {self._decision.reason}", reusable)

    def _marker(self) -> str:
        return Marker.of_results(
            self._dataset, Pool(layout.POOL), state.trained_weights(), state.test_accuracy()
        ).text()

    def _set_branch(self, commit: str, tip: str | None) -> None:
        if commit == tip:
            _say(f"{self._place} has this on {self._branch} already")
            return
        self._place.set_branch(self._branch, commit, tip)
        _say(f"{self._branch} of {self._place} is {commit[:12]}")

    def _tagged(self, version: Version, commit: str) -> Version:
        """The version, whose git tag keeps the commit of its results; a tag that is there stays."""
        registry, former = layout.registry(), version.tags.get(GIT_TAG)
        if former and self._place.commit_of_tag(former):
            return version
        tag = git_tag.name(version, commit, self._place.commit_of_tag(git_tag.plain_name(version)))
        self._place.set_tag(tag, commit)
        registry.tag(version, {COMMIT_TAG: commit, GIT_TAG: tag})
        _say(f"tag {tag} keeps {commit[:12]}")
        return replace(version, tags={**version.tags, COMMIT_TAG: commit, GIT_TAG: tag})

    def _report(self, tip: str | None) -> str:
        """A commit of the report alone: it can be merged or closed without harm."""
        tree = commits.tree_with({KEPT: SUMMARY.read_text(encoding="utf-8")})
        return commits.commit(tree, f"{self._title}: kept", [tip])

    def _record(self, version: Version) -> None:
        decision = replace(self._decision, subject=version.number, reason=self._reason(version))
        if decision.rules or self._proposes:
            # Else nothing was compared, and what the version says of its last comparison stays.
            champions.record(
                layout.registry(), self._dataset.name, version.number, decision.json(), decision.markdown()
            )

    def _in_words(self, version: Version) -> tuple[Status, str]:
        """The outcome's status, and the first sentences of the pull request."""
        if self._is_kept:
            return "kept", (
                f"**The champion stays.** This changes `{KEPT}` only: merge or close it as you like. The results of "
                f"{version} are in the tag `{version.tags[GIT_TAG]}`; the new batches stay where they were left, and "
                "the next retraining takes them again."
            )
        if self._proposes and self._when == "merged":
            return "proposed", f"**Merging this makes {version} the champion.**"
        return "promoted", f"**{version} is the champion.** Merge this, so that the next retraining builds on it."

    def _reason(self, version: Version) -> str:
        return self._decision.reason.replace(self._decision.unregistered, f"version {version.number}", 1)

    def _make_champion(self, version: Version) -> None:
        """Moves the champion, if it is still the one that the model was judged against."""
        former = self._decision.champion.version if self._decision.champion else None
        decision = replace(
            self._decision,
            subject=version.number,
            outcome="promoted",
            champion_now=version.number,
            reason=self._reason(version),
        )
        with registry_lock(layout.store()):
            git_champion.moves_without_git(self._dataset.name)
            champions.promote(layout.registry(), self._dataset.name, version.number, former)
            champions.record(
                layout.registry(), self._dataset.name, version.number, decision.json(), decision.markdown()
            )
        _say(f"promoted: {decision.reason}")


def _outcome(**changes: object) -> Outcome | None:
    """The outcome of `make retrain` with what is known now; None where there is none."""
    return Outcome.read().model_copy(update=changes) if OUTCOME.is_file() else None


def _say(line: str) -> None:
    print(f"publish: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(main)
