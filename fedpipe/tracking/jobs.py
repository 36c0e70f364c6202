"""The end of runs whose CI job died without a word.

A machine that is lost takes the journal of its run with it, so the run on the server stays RUNNING. The next job of the
same workflow closes it: these jobs never run at the same time. Runs of people and of other workflows are left alone.
"""

from fedpipe.tracking.registry import Registry
from fedpipe.tracking.run_events import FAILURE_TAG, JOB_TAG, WORKFLOW_TAG, experiment, job_tags

_DIED = "its job ended without a word; a later job closed the run"


def close_runs_of_dead_jobs(registry: Registry, dataset: str) -> list[str]:
    """Ends as KILLED the runs on ``dataset`` that earlier jobs of this workflow left RUNNING; outside of a job, none.

    To be called before the job trains, and only where jobs of a workflow do not overlap (``concurrency``).

    Returns:
      The names of the runs.

    Raises:
      PipelineError: MLflow cannot be reached or refuses.
    """
    ours = job_tags()
    if not ours:
        return []
    closed = []
    with registry.readable_errors():
        client = registry.client()
        known = client.get_experiment_by_name(experiment(dataset))
        running = f"attributes.status = 'RUNNING' and tags.`{WORKFLOW_TAG}` = '{ours[WORKFLOW_TAG]}'"
        for run in client.search_runs([known.experiment_id], running) if known else ():
            if run.data.tags.get(JOB_TAG) != ours[JOB_TAG]:
                client.set_tag(run.info.run_id, FAILURE_TAG, _DIED)
                client.set_terminated(run.info.run_id, "KILLED")
                closed.append(run.info.run_name or run.info.run_id)
    return closed
