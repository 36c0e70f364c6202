"""From params.yaml to sections, or to one sentence that names every mistake in it."""

from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fedpipe.config import round_size
from fedpipe.config.choices import ChoosingSection
from fedpipe.config.download import Download
from fedpipe.config.judge import Evaluate, Promote
from fedpipe.config.partition import Partition
from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.errors import PipelineError

SECTIONS: dict[type[Section], str] = {
    Download: "download",
    Partition: "partition",
    Train: "train",
    Evaluate: "evaluate",
    Promote: "promote",
}

# Of no result, so that neither DVC nor MLflow records it: it may change while a stage runs.
_DECIDE_NOTHING = {"checkpoint"}

S = TypeVar("S", bound=Section)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads ``path`` as a mapping.

    Raises:
      PipelineError: The file is missing, is not YAML, or is not a mapping.
    """
    try:
        return parse_yaml(path.read_bytes(), path)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run from the project's top folder") from None


def parse_yaml(content: bytes, path: Path) -> dict[str, Any]:
    """As `read_yaml`, from the content of ``path``, which need not be a file here."""
    try:
        # DVC's own parser: 1e-3 is a number to both (in YAML 1.1, PyYAML's, it is a text).
        tree = YAML(typ="safe").load(content.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place else ""
        raise PipelineError(f"{path}{where} is not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(tree, dict):
        raise PipelineError(f"{path} must hold one section a stage: {', '.join(SECTIONS.values())}")
    return tree


def load(section: type[S], path: Path) -> S:
    """Reads one section of params.yaml; checks all, so that a mistake is said before the first stage runs.

    Args:
      section: The section's class, such as `Partition`.
      path: The params file.

    Raises:
      PipelineError: A key is unknown or missing, or a value has the wrong type or is out of range; the
        message names the key and what is allowed.
    """
    return cast(S, _sections(path)[section])


def check(path: Path) -> None:
    """Checks the whole of params.yaml, sections that no stage reads too.

    Raises:
      PipelineError: As `load`.
    """
    _sections(path)


def used(settings: Section) -> dict[str, Any]:
    """The params that results are made with: no sections of files that are not chosen, and none that decide nothing."""
    choices = settings.CHOICES if isinstance(settings, ChoosingSection) else {}
    chosen = {getattr(settings, key) for key in choices}
    others = {name for registry in choices.values() for name in registry.names if name not in chosen}
    return settings.model_dump(exclude=others | _DECIDE_NOTHING)


def require_unchanged(settings: Section, path: Path) -> None:
    """Compares what a stage was run with, once it has run, with what params.yaml says now.

    DVC reads params.yaml when the stage has ended, and would record params that the results were not made with.

    Args:
      settings: What `load` returned when the stage began.
      path: The params file.

    Raises:
      PipelineError: The section, as far as the stage uses it, is another one by now.
    """
    kind = next(kind for kind in SECTIONS if isinstance(settings, kind))
    name = SECTIONS[kind]
    content = read_yaml(path).get(name)
    fitting = kind.fitting(content) if issubclass(kind, ChoosingSection) else kind
    try:
        present = used(fitting.model_validate(content))
    except ValidationError:
        present = {}
    if present != used(settings):
        raise PipelineError(
            f"{path}: section '{name}' was edited while the stage ran, so DVC would record params that its outputs "
            "were not made with: run `dvc repro` for the new ones, or set them back and run "
            f"`dvc commit --force {name}` to keep these outputs"
        )


def _sections(path: Path) -> dict[type[Section], Section]:
    content = read_yaml(path)
    for key in content:
        if key not in SECTIONS.values():
            raise PipelineError(f"{path}: unknown section '{key}'; allowed: {', '.join(SECTIONS.values())}")
    problems = []
    sections: dict[type[Section], Section] = {}
    for kind, key in SECTIONS.items():
        if key not in content:
            problems.append(f"section '{key}' is missing")
            continue
        fitting = kind.fitting(content[key]) if issubclass(kind, ChoosingSection) else kind
        try:
            sections[kind] = fitting.model_validate(content[key])
        except ValidationError as error:
            problems += _problems(fitting, key, error)
    if problems:
        raise PipelineError(f"{path}: {'; '.join(problems)}")
    partition, train = cast(Partition, sections[Partition]), cast(Train, sections[Train])
    _require_unseen_tests(path, partition, train)
    _require_tests_for_personalising(path, partition, cast(Evaluate, sections[Evaluate]))
    _require_nothing_of_own_samples(path, train, cast(Evaluate, sections[Evaluate]))
    try:
        train.check_selection(["validation", "test"] if partition.validation else ["test"])
        round_size.check_clients(train, partition.clients)  # which is their number with every scheme, or it is refused
    except ValueError as error:
        raise PipelineError(f"{path}: {error}") from None
    return sections


def _require_unseen_tests(path: Path, partition: Partition, train: Train) -> None:
    """Which samples are held out depends on how many a client has, so a pool that has grown holds out others."""
    if train.init == "champion" and partition.client_test == "fraction":
        raise PipelineError(
            f"{path}: 'train.init' is champion, but with 'partition.client_test' fraction the champion may have been "
            "trained on samples that are held out now: set 'partition.client_test' to same_distribution, or "
            "'train.init' to fresh"
        )


def _require_tests_for_personalising(path: Path, partition: Partition, evaluate: Evaluate) -> None:
    """A model that trained on a client's samples is not measured on the same samples."""
    if evaluate.personalise.epochs and partition.client_test == "none":
        raise PipelineError(
            f"{path}: 'evaluate.personalise.epochs' is {evaluate.personalise.epochs}, which needs test samples of each "
            "client's own: set 'partition.client_test' to same_distribution or fraction, or "
            "'evaluate.personalise.epochs' to 0"
        )


def _require_nothing_of_own_samples(path: Path, train: Train, evaluate: Evaluate) -> None:
    """With secret noise, nothing is told of clients' own samples."""
    if train.has_secret_noise and evaluate.personalise.epochs:
        raise PipelineError(
            f"{path}: 'evaluate.personalise.epochs' is {evaluate.personalise.epochs}, which measures models on "
            "clients' own samples, and 'train.privacy.noise' is secret: set 'evaluate.personalise.epochs' to 0"
        )


def parse(section: type[S], content: Any) -> S:
    """One section from ``content``, a mapping, in place of a file.

    Raises:
      PipelineError: As `load` does.
    """
    fitting = section.fitting(content) if issubclass(section, ChoosingSection) else section
    try:
        return fitting.model_validate(content)
    except ValidationError as error:
        raise PipelineError("; ".join(_problems(fitting, SECTIONS[section], error))) from None


def _problems(section: type[Section], name: str, error: ValidationError) -> list[str]:
    """One phrase a problem: the dotted key, what is wrong, and what is allowed."""
    problems: dict[str, str] = {}
    for item in error.errors():
        # A union adds the member's name ("literal['all']", "constrained-int") to the location.
        keys = [part for part in item["loc"] if isinstance(part, int) or part.isidentifier()]
        keys = keys[: _depth(section, keys)]
        key = ".".join([name, *map(str, keys)])
        if item["type"] == "extra_forbidden":
            fields = ", ".join(_fields_at(section, keys[:-1]))
            problems[key] = f"unknown key '{key}'; allowed: {fields}"
        elif item["type"] == "missing":
            problems[key] = f"key '{key}' is missing"
        else:
            said = item["msg"].removeprefix("Value error, ")
            said = said[0].lower() + said[1:]
            if isinstance(item["input"], dict) and item["type"] == "value_error":
                problems[key] = f"'{key}': {item['ctx']['error']}"  # about several keys of a section, and says which
                continue
            before = f"{problems[key]}, or " if key in problems else f"'{key}' is {item['input']!r}: "
            problems[key] = before + said.replace("input ", "")
    return list(problems.values())


def _fields_at(section: type[Section], keys: list[Any]) -> list[str]:
    """The keys that are allowed below ``keys``."""
    current: Any = section
    for key in keys:
        current = _kind(current, key)
    return list(current.model_fields)


def _depth(section: type[Section], keys: list[Any]) -> int:
    """How many of ``keys`` name something in params.yaml, the rest being a union member's name."""
    current: Any = section
    for depth, key in enumerate(keys):
        if isinstance(key, int) or not (isinstance(current, type) and issubclass(current, BaseModel)):
            return depth + 1 if isinstance(key, int) else depth
        if key not in current.model_fields:
            return depth + 1
        current = _kind(current, key)
    return len(keys)


def _kind(section: type[BaseModel], key: str) -> Any:
    """What ``key`` holds in ``section``; of an optional section, the section."""
    kind = section.model_fields[key].annotation
    inner = [member for member in get_args(kind) if isinstance(member, type) and issubclass(member, BaseModel)]
    return inner[0] if inner else kind
