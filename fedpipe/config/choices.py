"""Sections of params.yaml that choose files by name, each with a section of its own.

    train:
      algorithm: fed_prox     # the file fedpipe/algorithms/fed_prox.py
      fed_prox:               # what its class Params asks for
        mu: 0.01

The class of a section here knows the names of the files, and imports none. fedpipe/params adds the sections of files to
the class, and validates them by the files' rules.
"""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, model_validator

from fedpipe.config.folder import Folder
from fedpipe.config.section import Section

# Of no result, so that neither DVC nor MLflow records it: it may change while a stage runs.
DECIDE_NOTHING = {"checkpoint"}


def chosen_from(folder: Folder) -> Any:
    """The type of a key whose value names a file of ``folder``."""
    return Annotated[str, AfterValidator(folder.require)]


class ChoosingSection(Section):
    """A section with keys whose values name files of folders; ``CHOICES`` says which keys and folders.

    Declare such a key as ``algorithm: chosen_from(CHOICES["algorithm"])``.
    """

    CHOICES: ClassVar[dict[str, Folder]] = {}

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, content: Any) -> Any:
        """``fed_avg:`` with nothing after it is an empty section."""
        if not isinstance(content, dict):
            return content
        names = {name for folder in cls.CHOICES.values() for name in folder.names}
        return {key: {} if value is None and key in names else value for key, value in content.items()}

    def params_of(self, key: str) -> Any:
        """The params of the file that ``key`` names: an instance of its class ``Params``."""
        return getattr(self, getattr(self, key))

    def unchosen(self) -> set[str]:
        """The names of all files that are not chosen, whose sections decide nothing."""
        return {name for key, folder in self.CHOICES.items() for name in folder.names if name != getattr(self, key)}


def used(settings: Section) -> dict[str, Any]:
    """The params that results are made with: no sections of files that are not chosen, and none that decide nothing."""
    others = settings.unchosen() if isinstance(settings, ChoosingSection) else set()
    return settings.model_dump(exclude=others | DECIDE_NOTHING)
