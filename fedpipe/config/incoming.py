"""Section ``incoming``: which new batches wait for a person before they join the pool."""

from typing import Annotated

from pydantic import Field

from fedpipe.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)] | None
Deviations = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None  # in standard deviations


class HoldDrift(Section):
    """The largest distance of a batch from the data before it, for each measure of drift; None: no limit."""

    label_mix: Share
    brightness: Deviations
    contrast: Deviations
    ink: Deviations
    mean_image: Share
    shift: Deviations = None  # of samples that are no images


class Hold(Section):
    """When a batch waits; None: this is no reason to wait."""

    drift: HoldDrift
    accuracy: Share  # the least accuracy of the champion on the batch
    accuracy_loss: Share  # the most that it may be below the champion's accuracy on test images of the same labels
    rare_labels: Share  # the largest share of samples whose labels are new or rare


class Incoming(Section):
    """The treatment of new batches."""

    hold: Hold
