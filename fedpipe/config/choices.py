"""Sections of params.yaml that choose files by name, each with a section of its own.

    train:
      algorithm: fed_prox     # the file fedpipe/algorithms/fed_prox.py
      fed_prox:               # what its class Params asks for
        mu: 0.01

A section that belongs to no chosen file may be there, and is checked, or be absent. What must hold only once the file
is chosen is checked by the section's `Section.check_chosen`.
"""

from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, create_model, model_validator

from fedpipe.config.section import Section
from fedpipe.contracts.registry import Registry
from fedpipe.errors import PipelineError


def chosen_from(registry: Registry[Any]) -> Any:
    """The type of a key whose value names a file of ``registry``."""
    return Annotated[str, AfterValidator(registry.require)]


class ChoosingSection(Section):
    """A section with keys whose values name files of folders; ``CHOICES`` says which keys and folders.

    Declare such a key as ``algorithm: chosen_from(ALGORITHMS)``.
    """

    CHOICES: ClassVar[dict[str, Registry[Any]]] = {}

    @classmethod
    def fitting(cls, content: Any) -> type[Self]:
        """This class with a field for each section that ``content`` has, or needs, of a choice.

        Args:
          content: The section as params.yaml has it; anything that is no mapping gives this class itself.

        Raises:
          PipelineError: A file has the name of a key that the section has anyway, or of a file of another folder.
        """
        if not isinstance(content, dict):
            return cls
        fields: dict[str, Any] = {}
        for key, registry in cls.CHOICES.items():
            # DVC watches the section of what is chosen, so it must be there.
            wanted = [name for name in registry.names if name == content.get(key) or name in content]
            for name in wanted:
                if name in cls.model_fields or name in fields:
                    raise PipelineError(
                        f"{registry.folder}/{name}.py: '{name}' is another key of the same section of params.yaml; "
                        "give the file another name"
                    )
                fields[name] = (registry.params(name), ...)
        return create_model(cls.__name__, __base__=cls, __module__=cls.__module__, **fields) if fields else cls

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, content: Any) -> Any:
        """``fed_avg:`` with nothing after it is an empty section."""
        if not isinstance(content, dict):
            return content
        names = {name for registry in cls.CHOICES.values() for name in registry.names}
        return {key: {} if value is None and key in names else value for key, value in content.items()}

    @model_validator(mode="after")
    def _chosen_sections_are_complete(self) -> Self:
        for key in self.CHOICES:
            self.params_of(key).check_chosen()
        return self

    def choice(self, key: str) -> Any:
        """The choice that ``key`` names, with its file imported."""
        return self.CHOICES[key].of(getattr(self, key))

    def params_of(self, key: str) -> Any:
        """The params of the file that ``key`` names: an instance of its class ``Params``."""
        return getattr(self, getattr(self, key))
