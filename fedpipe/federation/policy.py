"""A site's limits: policy.yaml at the site. Nothing that a coordinator sends changes it."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from fedpipe.config.choices import chosen_from
from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Count, NotNegative, Section
from fedpipe.config.text import read_yaml
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_noise_at_clients, has_noise_at_sites
from fedpipe.contracts.cohort import COHORTS
from fedpipe.errors import PipelineError
from fedpipe.federation.counts import Counts

Everything = Literal["any"]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]


def _some(key: str) -> Any:
    """The type of a list of choices for ``key`` of section train, or ``any``."""
    return Annotated[list[chosen_from(Train.CHOICES[key])], Field(min_length=1)] | Everything  # type: ignore[misc]


# Not afl, with which each client sends its loss in a place of its own, nor those with personal models.
_ALGORITHMS = ("fed_avg", "fed_sgd", "fed_prox", "fed_nova", "scaffold", "fed_dyn", "mime", "mime_lite", "q_fed_avg")
# Not those that collect each client's update.
_AGGREGATORS = ("mean", "clipped_mean", "zeroed_mean", "secure_sum", "dp_gaussian", "dp_ftrl", "local_dp")
# Not keras_file, which names a file at the site.
_MODELS = (
    "baseline_cnn",
    "mcmahan_2nn",
    "mcmahan_cnn",
    "niid_cnn",
    "logistic_regression",
    "linear_regression",
    "mlp",
    "bag_of_tokens",
)
_ATTACKS = ("no_attack",)
# Keys without a default, and the request to the author of a file that lacks them.
_REQUIRED = {
    "least_clients": "write how many of this site's clients a sum has at least that leaves it, for example 5 "
    "(1 lets the update of a single client leave)",
    "least_samples": "write how many samples these clients have at least, for example 500 (1 lets an update of a "
    "single sample leave)",
}


class Policy(Section):
    """The policy; its defaults allow what sends sums over the site's clients only."""

    algorithms: _some("algorithm") = Field(default=list(_ALGORITHMS))  # type: ignore[valid-type]
    aggregators: _some("aggregator") = Field(default=list(_AGGREGATORS))  # type: ignore[valid-type]
    models: _some("model") = Field(default=list(_MODELS))  # type: ignore[valid-type]
    attacks: _some("attack") = Field(default=list(_ATTACKS))  # type: ignore[valid-type]
    counts: Counts = "exact"  # how exactly the site tells how many samples each client has
    client_losses: bool = False  # whether a client's loss (cohort power_of_choice) and accuracy may leave the site
    held_out_counts: bool = True  # whether a model's hits and loss over all held-out samples may leave the site
    rounds: Count = 1000  # that the site answers in all, of all trainings together
    commits: Annotated[list[Commit], Field(min_length=1)] | Everything = "any"  # that the site's own checkout may be at
    least_sites: Count = 1  # in a training; the coordinator reports how many there are
    least_noise: NotNegative = 0.0  # the least noise_multiplier of secure_sum or local_dp; above 0, no other sums leave
    least_clients: Count  # of the site, in each sum that leaves it
    least_samples: Count  # of these clients

    @model_validator(mode="before")
    @classmethod
    def _withholds_counts(cls, content: Any) -> Any:
        """Where sums leave in secure sums only, numbers of samples do not leave beside them unless the file says so."""
        if isinstance(content, dict) and "counts" not in content and _sum_securely(content.get("aggregators")):
            return {**content, "counts": "withheld"}
        return content

    @staticmethod
    def read(file: Path) -> "Policy":
        """Reads ``file``.

        Raises:
          PipelineError: It is missing, or not a policy.
        """
        if not file.exists():
            raise PipelineError(
                f"{file} is missing: write what this site allows, at least 'least_clients' and 'least_samples' "
                "(docs/federation.md)"
            )
        content = read_yaml(file)
        if missing := [f"'{key}' is missing: {why}" for key, why in _REQUIRED.items() if content.get(key) is None]:
            raise PipelineError(f"{file}: {'; '.join(missing)}")
        try:
            return Policy.model_validate(content)
        except ValidationError as error:
            raise PipelineError(f"{file}: {'; '.join(mistakes(error, Policy))}") from None

    def refused_choices(self, settings: Mapping[str, Any]) -> list[str]:
        """Why the site does not train with what section train names, one sentence each.

        This comes before the section is parsed, so that no file is imported that the policy does not allow.
        """
        allowed = {
            "algorithm": self.algorithms,
            "aggregator": self.aggregators,
            "model": self.models,
            "attack": self.attacks,
        }
        return [
            f"its policy does not allow 'train.{key}' {settings.get(key)} (it allows {', '.join(names)})"
            for key, names in allowed.items()
            if names != "any" and settings.get(key) not in names
        ]

    def refused_settings(self, settings: Train, sites: int, answered: int) -> list[str]:
        """Why the site does not take part in a training of so many ``sites``, one sentence each.

        ``answered``: how many rounds the site has answered so far, of other trainings.
        """
        wrong = []
        if COHORTS.of(settings.cohort).needs_losses and not self.client_losses:
            wrong.append(f"its policy sends no losses of single clients, which 'train.cohort' {settings.cohort} needs")
        if answered + settings.rounds > self.rounds:
            wrong.append(
                f"its policy allows {self.rounds} rounds in all, it has answered {answered}, and this training has "
                f"{settings.rounds}"
            )
        if settings.model == "keras_file":
            path = PurePosixPath(settings.params_of("model").path)
            if path.is_absolute() or ".." in path.parts:
                wrong.append(f"'train.keras_file.path' is {path}, and a site reads files below its own project only")
        has_own_noise = has_noise_at_sites(settings) or has_noise_at_clients(settings)
        noise = settings.params_of("aggregator").noise_multiplier if has_own_noise else 0.0
        if noise < self.least_noise:
            wrong.append(
                "its policy wants noise of sites (secure_sum or local_dp) with a noise_multiplier of at least "
                f"{self.least_noise}, and this training has {noise}"
            )
        if sites < self.least_sites:
            wrong.append(f"its policy wants {self.least_sites} sites in a training, and this one has {sites}")
        return wrong

    def refused_checkout(self, commit: str, is_changed: bool) -> list[str]:
        """Why the site does not train with the code at ``commit``, one sentence each."""
        if self.commits == "any":
            return []
        if commit not in self.commits:
            return [f"its checkout is at commit {commit}, which its policy does not list"]
        return ["its checkout has changes, and its policy lists commits"] if is_changed else []

    @property
    def sums_securely(self) -> bool:
        """Whether no sum leaves the site but in a secure sum, so figures do not, either."""
        return _sum_securely(self.aggregators)

    @property
    def protects_clients(self) -> bool:
        """Whether there are sums that the policy keeps at the site, so that differences of sums matter, too."""
        return self.least_clients > 1 or self.least_samples > 1

    def refused_sum(self, clients: int, samples: int) -> str:
        """Why no sum over so many ``clients`` and their ``samples`` leaves the site; empty if it may.

        The sentence tells neither number, for the coordinator reads it.
        """
        if clients >= self.least_clients and samples >= self.least_samples:
            return ""
        return f"its policy wants {self.least_clients} clients and {self.least_samples} samples in a sum at least"


def _sum_securely(aggregators: Any) -> bool:
    """Whether all of these names are of aggregators with secure sums."""
    if not isinstance(aggregators, list) or not aggregators or not set(aggregators) <= set(AGGREGATORS.names):
        return False
    return all(AGGREGATORS.of(name).SUMS_INTEGERS for name in aggregators)
