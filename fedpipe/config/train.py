"""Section ``train``: model, algorithm, cohort, client work and server step."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from fedpipe.config.availability import Availability
from fedpipe.config.choices import ChoosingSection, chosen_from
from fedpipe.config.client_weights import ClientWeights
from fedpipe.config.folder import Folder
from fedpipe.config.optimizers import ClientOptimizer, ServerOptimizer
from fedpipe.config.privacy import Privacy
from fedpipe.config.section import Count, NotNegative, Positive, Rate, Section, Seed

METRICS_FOLDER = Folder("fedpipe.metrics")


class StopAt(Section):
    """When training ends before its last round; null is never.

    ``patience``: how many rounds may pass without a higher accuracy on the samples of ``selection``.
    """

    accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    epsilon: Positive | None = None
    patience: Count | None = None


class InitFile(Section):
    """The first weights for ``init: file``: a path from the project's top folder, and its SHA-256; empty otherwise."""

    path: str = ""
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""


class Checkpoint(Section):
    """How often a training is saved, so that it resumes where it was stopped. No result depends on it.

    ``keep_end``: whether its end is kept, so that a training of more rounds resumes from it.
    """

    enabled: bool = True
    seconds: NotNegative = 10.0
    keep_end: bool = True


class Dropout(Section):
    """A site that was lost in a round: the server gets nothing of its clients from a pass on."""

    round: Count
    site: Count  # its number, in the order of their clients
    from_pass: Count = 1


class Train(ChoosingSection):
    """How the global model is trained."""

    CHOICES: ClassVar[dict[str, Folder]] = {
        "algorithm": Folder("fedpipe.algorithms"),
        "aggregator": Folder("fedpipe.aggregators"),
        "model": Folder("fedpipe.models"),
        "loss": Folder("fedpipe.losses"),
        "cohort": Folder("fedpipe.cohorts"),
        "attack": Folder("fedpipe.attacks"),
        "compressor": Folder("fedpipe.compressors"),
    }

    algorithm: chosen_from(CHOICES["algorithm"])  # type: ignore[valid-type]
    aggregator: chosen_from(CHOICES["aggregator"])  # type: ignore[valid-type]
    model: chosen_from(CHOICES["model"])  # type: ignore[valid-type]
    loss: chosen_from(CHOICES["loss"])  # type: ignore[valid-type]
    cohort: chosen_from(CHOICES["cohort"])  # type: ignore[valid-type]
    attack: chosen_from(CHOICES["attack"])  # type: ignore[valid-type]
    attackers: Rate  # share of the clients
    compressor: chosen_from(CHOICES["compressor"])  # type: ignore[valid-type]
    metrics: list[chosen_from(METRICS_FOLDER)]  # type: ignore[valid-type]
    rounds: Count
    clients_per_round: Literal["all"] | Count
    availability: Availability = Availability()
    dropouts: list[Dropout] = Field(default_factory=list)
    local_epochs: Annotated[int, Field(ge=1, le=10**4)]
    local_steps: Count | None = None  # in place of local_epochs, as many for each client
    batch_size: Count
    shuffle: bool
    last_batch: Literal["keep", "drop"]
    client_optimizer: ClientOptimizer
    server_optimizer: ServerOptimizer
    client_weighting: Literal["examples", "uniform", "per_client"]
    client_weights: ClientWeights = ClientWeights()  # for per_client
    class_weights: list[NotNegative] = Field(default_factory=list)  # of each class in the loss of training; [] for 1.0
    init: Literal["fresh", "champion", "file"]
    init_file: InitFile = InitFile()
    client_rounds: bool = False  # whether each client's measurements of each round are written
    evaluate_every: Annotated[int, Field(ge=0, le=10**6)]
    stop_at: StopAt = StopAt()
    privacy: Privacy = Privacy()
    checkpoint: Checkpoint = Checkpoint()
    selection: Literal["validation", "test"] = "validation"
    keep_best: bool
    seed: Seed

    @model_validator(mode="after")
    def _selecting_needs_evaluation(self) -> "Train":
        if self.selecting and not self.evaluate_every:
            raise ValueError(
                f"'train.{self.selecting[0]}' needs rounds with a {self.selection} accuracy: set "
                "'train.evaluate_every' to 1"
            )
        return self

    @model_validator(mode="after")
    def _a_file_has_its_sum(self) -> "Train":
        file = self.init_file
        if self.init == "file" and not (file.path and file.sha256):
            raise ValueError(
                "'train.init' is file: set 'train.init_file.path' to a file of weights and 'train.init_file.sha256' to "
                "its SHA-256, which `sha256sum FILE` prints"
            )
        if self.init != "file" and (file.path or file.sha256):
            raise ValueError(
                f"'train.init_file' is not read with 'train.init' {self.init}: empty it, or set init to file"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_there_once(self) -> "Train":
        weights, is_per_client = self.client_weights, self.client_weighting == "per_client"
        if not is_per_client and not weights.is_empty:
            raise ValueError(
                f"'train.client_weights' is not read with 'train.client_weighting' {self.client_weighting}: empty it, "
                "or set client_weighting to per_client"
            )
        if is_per_client and bool(weights.values) == bool(weights.table):
            raise ValueError(
                "'train.client_weighting' is per_client: set either 'train.client_weights.values', a number for each "
                "client, or 'train.client_weights.table' and its 'sha256', a CSV file with the columns client and "
                "weight"
            )
        if weights.values and not any(weights.values):
            raise ValueError("'train.client_weights.values' are all 0.0: give one client or more a weight above 0")
        return self

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> "Train":
        if self.local_steps is not None and self.local_epochs != 1:
            raise ValueError(
                f"'train.local_steps' ({self.local_steps}) takes the place of 'train.local_epochs', which is "
                f"{self.local_epochs}: set it to 1, or remove local_steps"
            )
        if self.local_steps is not None and self.availability.devices.seconds_per_sample:
            raise ValueError(
                "'train.local_steps' gives all clients as many steps, and simulated time counts epochs: remove it, or "
                "set 'train.availability.devices.seconds_per_sample' to 0.0"
            )
        if self.class_weights and not any(self.class_weights):
            raise ValueError("'train.class_weights' are all 0.0: give one class or more a weight")
        return self

    @model_validator(mode="after")
    def _the_warm_up_ends(self) -> "Train":
        for key in ("client_optimizer", "server_optimizer"):
            schedule = getattr(self, key).schedule
            if schedule.follows_all_rounds and schedule.warm_up >= self.rounds:
                raise ValueError(
                    f"'train.{key}.schedule' {schedule.name} runs over 'train.rounds' ({self.rounds}), and 'warm_up' "
                    f"takes {schedule.warm_up} of them: lower 'warm_up', or raise 'train.rounds'"
                )
        return self

    @property
    def selecting(self) -> list[str]:
        """The keys that choose a round by its accuracy on the samples that ``selection`` names."""
        used = {
            "keep_best": self.keep_best,
            "stop_at.accuracy": self.stop_at.accuracy is not None,
            "stop_at.patience": self.stop_at.patience is not None,
        }
        return [key for key, is_used in used.items() if is_used]
