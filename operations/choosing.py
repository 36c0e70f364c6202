"""``python -m operations.choosing``: writes docs/choosing.md, what goes with what, by trying it.

Nothing is listed here but the names of the keys: the choices are the files of their folders, and whether two go
together, and why not, is what the check of params.yaml says.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedpipe.atomic import write_text
from fedpipe.command_line import without_arguments
from fedpipe.compatibility import round_size
from fedpipe.config import Train, read_yaml
from fedpipe.config.mistakes import mistakes
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import run_stage
from fedpipe.params.composition import fitted
from layout import PARAMS

PAGE = Path("docs/choosing.md")
KEYS = ("algorithm", "aggregator", "cohort", "attack", "compressor")
AVAILABILITY = "availability"
_DEVICES = {"seconds_per_sample": 0.01, "spread": 1.0}
_WITH_BATCH_NORM = {"model": "keras_cnn", "keras_cnn": {"batch_norm": True}}
_WEIGHTINGS = ("examples", "uniform")
_HEAD = """# What goes with what

`python -m operations.choosing` writes this page by trying every pair of choices. Two choices
go together if the validation of `params.yaml` accepts them. The other keys keep their values; `clients_per_round` is
tried with a number and with `all`, and `client_weighting` with `examples` and with `uniform`. `make repro` validates in
the same way before any stage runs, and its error names the key to change. Every choice goes with every model, loss
and metric, unless its error says otherwise.

In the tables, **no** means that the pair is rejected; the reason is below the table. Two keys without a table go
together in all their choices. Three choices can be rejected together even if each two of them go together. The
asynchronous algorithms are tried with `availability.devices` set, and `fed_bn` with a model that has batch
normalization. Such models go with some choices only: [models](extending.md#batch-normalization).
"""


@dataclass(frozen=True)
class Job:
    """How many clients there are, how many a round asks, and how many of these count with a report goal."""

    clients: int
    cohort_size: int = 20
    goal: int = 12

    def bases(self) -> list[dict[str, Any]]:
        """Values of other keys that a choice may ask for; the first with which it goes is taken."""
        return [
            {"clients_per_round": number, "client_weighting": weighting}
            for weighting, number in product(_WEIGHTINGS, ("all", self.cohort_size))
        ]

    def availability(self) -> dict[str, dict[str, Any]]:
        """The features of section availability that a training can use, by name."""
        return {
            "dropout_before": {"dropout_before": 0.2},
            "dropout_during": {"dropout_during": 0.2},
            "stragglers": {"stragglers": {"share": 0.5, "least_work": 0.1}},
            "cyclic": {"cyclic": {"groups": 2, "period": 2}},
            "devices": {"devices": _DEVICES},
            "report_goal": {"devices": _DEVICES, "report_goal": self.goal},
        }

    def choices(self, key: str) -> list[str]:
        """The values that ``key`` can have."""
        return list(self.availability()) if key == AVAILABILITY else list(Train.CHOICES[key].names)

    def content(self, params: dict[str, Any], chosen: dict[str, str], base: dict[str, Any]) -> dict[str, Any]:
        """Section train with the ``chosen`` values, by key."""
        unused = {name for registry in Train.CHOICES.values() for name in registry.names}
        section = {key: value for key, value in params.items() if key not in unused} | base
        section |= {key: self.availability()[name] if key == AVAILABILITY else name for key, name in chosen.items()}
        for key in Train.CHOICES:  # sections that are not used only cost time
            section[section[key]] = dict(params.get(section[key]) or {})
        if section["cohort"] == "fixed":
            section["fixed"] = {"ids": list(range(self.cohort_size))}
        if ALGORITHMS.of(section["algorithm"]).is_asynchronous:  # it needs simulated time
            section[AVAILABILITY] = dict(section[AVAILABILITY]) | {"devices": _DEVICES}
        if ALGORITHMS.of(section["algorithm"]).BATCH_NORM == "kept":
            section |= _WITH_BATCH_NORM
        section["attackers"] = 0.0 if section["attack"] == "no_attack" else 0.2
        return section

    def refusal(self, content: dict[str, Any]) -> str | None:
        """Why section train cannot be ``content``, in a sentence; None if it can."""
        try:
            round_size.check_clients(fitted(Train, content).model_validate(content), self.clients)
        except ValidationError as error:
            return mistakes(error, Train)[0]
        except ValueError as error:
            return str(error)
        return None


def refused_pairs(params: dict[str, Any], job: Job) -> dict[tuple[str, str, str, str], str]:
    """The reasons of all pairs that do not go together, by (key, choice, other key, other choice)."""
    keys, bases = (*KEYS, AVAILABILITY), job.bases()

    def fitting(chosen: dict[str, str], among: Iterable[int]) -> tuple[list[int], str]:
        reasons = {each: job.refusal(job.content(params, chosen, bases[each])) for each in among}
        return [each for each, reason in reasons.items() if reason is None], next(iter(reasons.values())) or ""

    alone = {(key, name): fitting({key: name}, range(len(bases)))[0] for key in keys for name in job.choices(key)}
    refused = {}
    for (key, name), (other, its) in combinations(alone, 2):
        if key == other:
            continue
        both = [each for each in alone[key, name] if each in alone[other, its]]
        fits, reason = fitting({key: name, other: its}, both or range(len(bases)))
        if not fits:
            refused[key, name, other, its] = reason
    return refused


def fitting_bases(params: dict[str, Any], job: Job, key: str, name: str) -> list[dict[str, Any]]:
    """Those of `Job.bases` with which a choice goes."""
    return [base for base in job.bases() if job.refusal(job.content(params, {key: name}, base)) is None]


def _needs(params: dict[str, Any], job: Job) -> list[str]:
    """A table of the choices that do not go with every base."""
    lines = ["## Choices that need something of another key", "", "| key | choice | needs |", "| --- | --- | --- |"]
    for key in (*KEYS, AVAILABILITY):
        for name in job.choices(key):
            fits = fitting_bases(params, job, key, name)
            needs = []
            for other, values in (("clients_per_round", ("all", job.cohort_size)), ("client_weighting", _WEIGHTINGS)):
                left = [each for each in values if any(base[other] == each for base in fits)]
                if len(left) == 1:
                    needs.append(f"`{other}` {'a number' if left[0] == job.cohort_size else f'`{left[0]}`'}")
            if key == "algorithm" and ALGORITHMS.of(name).is_asynchronous:
                needs.append("`availability` with `devices`")
            if key == "algorithm" and ALGORITHMS.of(name).BATCH_NORM == "kept":
                needs.append("`model` with batch normalization")
            if needs:
                lines.append(f"| `{key}` | `{name}` | {', '.join(needs)} |")
    return lines


def _bullets(reasons: dict[tuple[str, str], str]) -> list[str]:
    """The reasons, those that differ in the names of the choices only together."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for (name, its), why in reasons.items():
        alike.setdefault(why.replace(name, "").replace(its, ""), []).append((name, its))
    lines = []
    for pairs in alike.values():
        names, others = (", ".join(f"`{each}`" for each in dict.fromkeys(side)) for side in zip(*pairs, strict=True))
        example = "" if len(pairs) == 1 else f" (here `{pairs[0][0]}` with `{pairs[0][1]}`)"
        lines.append(f"- {names} with {others}{example}: {reasons[pairs[0]]}.")
    return lines


def page(tree: dict[str, Any]) -> str:
    """The text of docs/choosing.md for the params.yaml that is ``tree``."""
    params, job = tree["train"], Job(tree["partition"]["clients"])
    pairs = refused_pairs(params, job)
    lines = [_HEAD, *_needs(params, job)]
    for key, other in combinations((*KEYS, AVAILABILITY), 2):
        reasons = {(name, its): why for (a, name, b, its), why in pairs.items() if (a, b) == (key, other)}
        if not reasons:
            continue
        columns = [each for each in job.choices(other) if any(each == its for _, its in reasons)]
        rows = [each for each in job.choices(key) if any(each == name for name, _ in reasons)]
        lines += ["", f"## `{key}` and `{other}`", ""]
        lines += ["Rows and columns that are not shown go together with all.", ""]
        lines += ["| | " + " | ".join(f"`{each}`" for each in columns) + " |", "| --- |" + " --- |" * len(columns)]
        for name in rows:
            cells = ["**no**" if (name, its) in reasons else "yes" for its in columns]
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
        lines.append("")
        lines += _bullets(reasons)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the page."""
    write_text(PAGE, page(read_yaml(PARAMS)))


if __name__ == "__main__":
    run_stage(without_arguments(main))
