"""A section's class, composed from the chosen files: their params, and the rules across choices."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import ValidationError, create_model, model_validator

from fedpipe.compatibility import partition as partition_rules
from fedpipe.compatibility import train as train_rules
from fedpipe.config import SECTIONS
from fedpipe.config.choices import ChoosingSection
from fedpipe.config.mistakes import mistakes
from fedpipe.config.partition import Partition
from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.contracts import partition, train
from fedpipe.contracts.registry import Registry
from fedpipe.errors import PipelineError

S = TypeVar("S", bound=Section)
C = TypeVar("C", bound=ChoosingSection)
Registries = Mapping[str, Registry[Any]]  # by the key of the section
Fields = tuple[tuple[str, Any], ...]  # name and class of a choice's section

REGISTRIES: dict[type[Section], Registries] = {Partition: partition.REGISTRIES, Train: train.REGISTRIES}
RULES: dict[type[Section], Callable[[Any], None]] = {Partition: partition_rules.validate, Train: train_rules.validate}


def parse(section: type[S], content: Any) -> S:
    """One section from ``content``, a mapping.

    Raises:
      PipelineError: A key is unknown or missing, a value is not allowed, or choices do not go together; the message
        names the keys and the allowed values.
    """
    fitting = fitted(section, content)
    try:
        return fitting.model_validate(content)
    except ValidationError as error:
        raise PipelineError("; ".join(mistakes(error, fitting, SECTIONS[section]))) from None


def fitted(section: type[S], content: Any) -> type[S]:
    """The class that validates ``content``: ``section`` itself, or, if it chooses files, `composed`."""
    if not issubclass(section, ChoosingSection) or not isinstance(content, dict):
        return section
    return composed(section, content, REGISTRIES[section], RULES[section])


def composed(
    section: type[C],
    content: dict[str, Any],
    registries: Registries,
    check: Callable[[Any], None] = lambda settings: None,
) -> type[C]:
    """``section`` with a field for each section that ``content`` has, or needs, of a choice.

    ``check`` checks the whole section, and raises ValueError.

    Raises:
      PipelineError: A file has the name of a key that the section has anyway, or of a file of another folder; or it
        does not keep its folder's contract.
    """
    fields: dict[str, type[Section]] = {}
    for key, registry in registries.items():
        # DVC watches the section of the choice, so it must exist.
        wanted = [name for name in registry.names if name == content.get(key) or name in content]
        for name in wanted:
            if name in section.model_fields or name in fields:
                raise PipelineError(
                    f"{registry.folder}/{name}.py: '{name}' is another key of the same section of params.yaml; "
                    "give the file another name"
                )
            fields[name] = registry.of(name).Params
    return _with_fields(section, tuple(fields.items()), tuple(registries), check)


@lru_cache(maxsize=64)  # pydantic takes milliseconds to make a class
def _with_fields(
    section: type[ChoosingSection], fields: Fields, keys: tuple[str, ...], check: Callable[[Any], None]
) -> Any:
    """``section`` with ``fields``, checked as a whole; ``keys`` are those that choose files."""

    def checked(settings: ChoosingSection) -> ChoosingSection:
        for key in keys:
            settings.params_of(key).check_chosen()
        check(settings)
        return settings

    definitions: dict[str, Any] = {name: (params, ...) for name, params in fields}
    return create_model(
        section.__name__,
        __base__=section,
        __module__=section.__module__,
        __validators__={"checked": cast(Any, model_validator(mode="after")(checked))},
        **definitions,
    )
