"""Section ``tell``: which news of a retraining goes where."""

from typing import Annotated, Literal

from pydantic import Field

from fedpipe.config.section import Count, Section

News = Literal[
    "failed",  # a step failed, or the job ended before it could report a result
    "unfinished",  # the time limit came first; the next run resumes
    "rejected",  # a batch is wrong
    "held",  # a batch waits for a person
    "drift",  # a batch stands out
    "kept",  # a model was trained, and the champion stays
    "proposed",  # a model waits for the merge of its pull request
    "promoted",  # a model became champion
    "no_promotion",  # for `weeks_without_promotion`
    "expiry",  # the state that only an artifact holds, or the schedule itself, is about to end
]


class Tell(Section):
    """The reports of `make tell`."""

    issue_on: list[News]  # opens the tracking issue, and keeps it open
    webhook_on: list[News]  # is sent to FEDPIPE_WEBHOOK
    weeks_without_promotion: Count
    days_before_expiry: Annotated[int, Field(ge=1, le=60)]
