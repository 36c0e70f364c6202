"""A retrained model becomes a commit, a version, a tag and a pull request; each step can be repeated."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import layout
from fedpipe import params
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.tracking import champions
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.marker import Marker
from fedpipe.tracking.registry import COMMIT_TAG, GIT_TAG, PULL_REQUEST_TAG, Version
from layout import CHAMPION_MARKER
from operations import github
from operations.promote import git_champion
from operations.promote.decision import Decision
from operations.register import git_tag
from operations.register.registration import register, require_registrable
from operations.retrain import commits, state
from operations.retrain.destination import Clone, Remote, branch_for
from operations.retrain.outcome import Outcome, Status
from operations.retrain.pull_request import PullRequest
from operations.retrain.summary import SUMMARY, tell_github
from operations.retrain.waiting import proposed_by
from operations.tell.pictures import publish_pictures
from operations.tell.pull_request import comment_kept, open_ones

KEPT = Path("models/kept.md")

# The model is champion; the rules hold, so it is to become champion; or a rule fails, and the champion stays.
Standing = Literal["champion", "proposed", "kept"]


class Publication:
    """The steps for one model. Its standing changes once: when git's champion is followed, it may be this model."""

    def __init__(self, place: Remote | Clone, base: str, decision: Decision) -> None:
        self._place, self._base, self._decision = place, base, decision
        self._branch = branch_for(base)
        self._dataset = RawDataset.read(layout.RAW)
        when = params.load(params.Promote, layout.PARAMS).when
        self._when = "merged" if git_champion.is_guarded() else when
        self._standing = self._present_standing()
        self._title = f"Retrain {base}"

    def run(self) -> None:
        """Commit, branch, version, tag, pull request, promotion."""
        self._require_current()
        tip = self._place.tip(self._branch)
        commit = self._commit(tip)
        is_new = commit != commits.head()
        was_kept = self._standing == "kept"
        if is_new and not was_kept:
            self._set_branch(commit, tip)
        version = self._version(commit, is_new)
        waiting = self._waiting(tip) if is_new and self._standing == "kept" else None
        if is_new and was_kept and not waiting:
            self._set_branch(self._report(tip) if self._standing == "kept" else commit, tip)
        outcome, url = self._propose(version, commit, is_new, waiting)
        if self._standing == "proposed" and self._when == "at_once":
            self._make_champion(version)
        if self._decision.judged_by:  # last: a retraining takes a version that was judged for published
            champions.record_judged(layout.registry(), self._dataset.name, version.number, self._decision.judged_by)
        if outcome:  # last: what is in it is done
            outcome.model_copy(update={"pull_request": url}).write()
        if isinstance(self._place, Clone) and is_new and self._standing != "kept":
            _say(
                f"without a git remote, merge it here: `git add --all && git merge --ff-only {self._branch}`, "
                "then `make promote ARGS=--merged`"
            )

    def _present_standing(self) -> Standing:
        if state.is_champion(self._dataset):
            return "champion"
        return "proposed" if self._decision.proposes else "kept"

    def _require_current(self) -> None:
        require_registrable()
        if self._standing != "champion" and self._decision.judged_by != state.judgement(self._dataset):
            raise PipelineError(
                "champion, rules or test images changed since the model was judged: `make retrain` judges it again"
            )

    def _version(self, commit: str, is_new: bool) -> Version:
        """Registers the model with its commit and tag; follows git where the model was merged before that."""
        was_missing = self._registered() is None
        version = self._tagged(register(commit), commit)
        self._record(version)
        is_lost_champion = was_missing and self._standing != "champion" and git_champion.is_named(version)
        if is_lost_champion or (self._standing == "proposed" and not is_new):
            with registry_lock(layout.store()):
                _say(git_champion.follow())
            self._standing = self._present_standing()
        return version

    def _propose(
        self, version: Version, commit: str, is_new: bool, waiting: Version | None
    ) -> tuple[Outcome | None, str | None]:
        """Opens the pull request, or comments on that of an earlier model; the outcome, and the URL."""
        status, lead = self._in_words(version)
        outcome = Outcome.changed(
            reason=self._reason(version),
            status=status,
            version=version.number,
            commit=commit,
            branch=self._branch if is_new else None,
        )
        if waiting:
            url = self._comment(waiting, outcome)
        else:
            url = self._open(f"{self._title}: {status}", lead, outcome) if is_new else None
        if url:
            layout.registry().tag(version, {PULL_REQUEST_TAG: url})
        return outcome, url

    def _waiting(self, tip: str | None) -> Version | None:
        """Another model whose pull request waits for its merge: this one, which is kept, does not take its place."""
        proposed = proposed_by(tip, state.trained_weights(), self._decision.judged_by) if tip else None
        if proposed and github.is_available() and not open_ones(self._base, self._branch, "number"):
            return None  # a person closed it
        return proposed

    def _comment(self, proposed: Version, outcome: Outcome | None) -> str | None:
        """Leaves the pull request of another model as it is, and comments on it with the report of this one."""
        _say(f"{self._branch} still proposes {proposed}, and stays as it is; {SUMMARY} is the report of this model")
        if outcome is None or not github.is_available():
            return None
        present = open_ones(self._base, self._branch, "number")
        if not present:
            return None
        return comment_kept(outcome, str(present[0]["number"]), str(proposed), SUMMARY.read_text(encoding="utf-8"))

    def _open(self, title: str, lead: str, outcome: Outcome | None) -> str | None:
        pictures = ""
        if outcome and isinstance(self._place, Remote) and github.is_available():
            pictures = publish_pictures(outcome, self._place.name)
            tell_github(pictures)
        return PullRequest(self._base, self._branch, title, lead).open(outcome, pictures)

    def _commit(self, tip: str | None) -> str:
        """The commit of the results, which names the new champion if there is to be one."""
        tree = commits.results_tree({} if self._standing == "kept" else {CHAMPION_MARKER: self._marker()})
        if tree == commits.head_tree():
            return commits.head()
        known = self._registered()
        reusable = [tip, known.tags.get(COMMIT_TAG) if known else None]
        return commits.commit(tree, f"{self._title}: {self._decision.reason}", reusable)

    def _registered(self) -> Version | None:
        return layout.registry().version_of_weights(self._dataset.name, state.trained_weights())

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
        """The version, whose git tag keeps the commit of its results; an existing tag stays."""
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
        if decision.rules or self._standing == "proposed":
            # Else nothing was compared, and the record of the version's last comparison stays.
            champions.record(
                layout.registry(), self._dataset.name, version.number, decision.json(), decision.markdown()
            )

    def _in_words(self, version: Version) -> tuple[Status, str]:
        """The outcome's status, and the first sentences of the pull request."""
        if self._standing == "kept":
            return "kept", (
                f"**The champion stays.** This changes `{KEPT}` only: merge or close it as you like. The results of "
                f"{version} are in the tag `{version.tags[GIT_TAG]}`; the new batches stay where they were left, and "
                "the next retraining takes them again."
            )
        if self._standing == "proposed" and self._when == "merged":
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


def _say(line: str) -> None:
    print(f"publish: {line}", file=sys.stderr, flush=True)
