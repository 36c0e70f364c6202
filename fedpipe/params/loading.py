"""From params.yaml to sections, or to one sentence that names every mistake in it."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from fedpipe.compatibility import across_sections
from fedpipe.config import SECTIONS
from fedpipe.config.choices import used
from fedpipe.config.download import Download
from fedpipe.config.judge import Evaluate
from fedpipe.config.mistakes import mistakes
from fedpipe.config.partition import Partition
from fedpipe.config.section import Section
from fedpipe.config.text import read_yaml
from fedpipe.config.train import Train
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.errors import PipelineError
from fedpipe.params import client_weights
from fedpipe.params.composition import fitted
from fedpipe.spelling import did_you_mean

S = TypeVar("S", bound=Section)


def load(section: type[S], path: Path) -> S:
    """Reads one section of params.yaml, and looks at no other.

    Raises:
      PipelineError: A key is unknown or missing, or a value has the wrong type or is out of range; the
        message names the key and the allowed values.
    """
    return cast(S, _validated(read_yaml(path), str(path), [section])[section])


def validate(path: Path) -> None:
    """Checks the whole of params.yaml; each stage calls it, so that a mistake is reported before the first stage runs.

    Raises:
      PipelineError: As `load`, or there is an unknown section, or sections do not go together, or the table of the
        clients' weights is not as it should be.
    """
    sections = cast(Any, sections_of(read_yaml(path), str(path)))
    partition = sections[Partition]
    has_names = PARTITIONERS.of(partition.scheme).client_names is not None
    client_weights.require_table(sections[Train], None if has_names else partition.clients)


def sections_of(content: dict[str, Any], source: str) -> dict[type[Section], Section]:
    """All sections of a params.yaml that is read already; ``source`` names it in messages. Errors as of `validate`."""
    names = list(SECTIONS.values())
    for key in content:
        if key not in names:
            raise PipelineError(
                f"{source}: unknown section '{key}'{did_you_mean(key, names)}; allowed: {', '.join(names)}"
            )
    sections = _validated(content, source, list(SECTIONS))
    chosen = cast(Any, (sections[Download], sections[Partition], sections[Train], sections[Evaluate]))
    try:
        across_sections.validate(*chosen)
    except ValueError as error:
        raise PipelineError(f"{source}: {error}") from None
    return sections


def require_unchanged(settings: Section, path: Path, stage: str = "", keys: Collection[str] | None = None) -> None:
    """Compares the params of a stage, once it has run, with the present params.yaml.

    DVC reads params.yaml when the stage has ended, and would record params that the results were not made with.

    Args:
      settings: The section as the stage read it.
      path: params.yaml.
      stage: Its name, if it is not that of the section.
      keys: Those that the stage uses; None for all.

    Raises:
      PipelineError: The section, as far as the stage uses it, is another one by now.
    """
    kind = next(kind for kind in SECTIONS if isinstance(settings, kind))
    name = SECTIONS[kind]
    content = read_yaml(path).get(name)
    try:
        present = used(fitted(kind, content).model_validate(content))
    except ValidationError:
        present = {}
    own = used(settings)
    if keys is not None:
        present, own = ({key: values.get(key) for key in keys} for values in (present, own))
    if present != own:
        raise PipelineError(
            f"{path}: section '{name}' was edited while the stage ran, so DVC would record params that its outputs "
            "were not made with: run `dvc repro` for the new ones, or set them back and run "
            f"`dvc commit --force {stage or name}` to keep these outputs"
        )


def _validated(content: dict[str, Any], source: str, kinds: list[type[Section]]) -> dict[type[Section], Section]:
    """The sections of these kinds; all mistakes are in one message."""
    problems = []
    sections: dict[type[Section], Section] = {}
    for kind in kinds:
        name = SECTIONS[kind]
        if name not in content:
            problems.append(f"section '{name}' is missing")
            continue
        fitting = fitted(kind, content[name])
        try:
            sections[kind] = fitting.model_validate(content[name])
        except ValidationError as error:
            problems += mistakes(error, fitting, name)
    if problems:
        raise PipelineError(f"{source}: {'; '.join(problems)}")
    return sections
