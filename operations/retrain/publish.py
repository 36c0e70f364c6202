"""``python -m operations.retrain.publish``, or ``make publish``: the result of a retraining becomes a version.

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

import layout
from fedpipe.command_line import make_command
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError, run_stage
from operations import github
from operations.committed import require_committed_code
from operations.retrain import commits, state
from operations.retrain.destination import Clone, Remote, base_branch, branch_for, destination, experiment
from operations.retrain.outcome import OUTCOME, Outcome
from operations.retrain.publication import Publication
from operations.retrain.pull_request import PullRequest
from operations.stale import require_fresh

WORKFLOW = "retrain.yml"


def main(arguments: list[str] | None = None) -> None:
    """Publishes what `make retrain` left."""
    parser = argparse.ArgumentParser(description=__doc__, **make_command("publish"))
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
        Publication(place, base, decision).run()
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
    if os.environ.get("GITHUB_ACTIONS") and github.is_available():
        github.gh("workflow", "run", WORKFLOW, "--ref", base_branch())
        _say(f"workflow {WORKFLOW} is started again")


def _publish_experiment(place: Remote | Clone, base: str) -> None:
    branch = branch_for(base)
    tip = place.tip(branch)
    commit = commits.commit(commits.results_tree({}), f"Experiment: retrain {base}", [tip])
    place.set_branch(branch, commit, tip)
    _say(f"{branch} of {place} is {commit[:12]}; an experiment is neither registered nor promoted")
    lead = "An experiment: merging it brings its params and results, and the next retraining registers its model."
    url = PullRequest(base, branch, f"Experiment: retrain {base}", lead).open()
    if outcome := Outcome.changed(commit=commit, branch=branch, pull_request=url):
        outcome.write()


def _say(line: str) -> None:
    print(f"publish: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(main)
