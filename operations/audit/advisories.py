"""The advisories that are known: what they concern, and whether they are reachable here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fedpipe.config.section import Section
from fedpipe.errors import PipelineError

FILE = Path("operations/audit/advisories.yaml")
_Id = Annotated[
    str, StringConstraints(pattern=r"^(CVE-\d{4}-\d+|GHSA(-[23456789cfghjmpqrvwx]{4}){3}|PYSEC-\d{4}-\d+)$")
]
_Text = Annotated[str, StringConstraints(min_length=3)]


class Advisory(Section):
    """An advisory that concerns a pinned package; operations/audit/advisories.yaml explains the fields."""

    id: _Id
    aliases: list[_Id] = Field(default_factory=list)
    package: _Text
    version: _Text
    affected: _Text
    fixed: _Text
    held_by: _Text
    summary: _Text
    reachable: Literal["no", "shared", "file"]
    reason: _Text

    @property
    def ids(self) -> frozenset[str]:
        """All its names."""
        return frozenset({self.id, *self.aliases})


def load(file: Path = FILE) -> list[Advisory]:
    """All known advisories, in the order of the file.

    Raises:
      PipelineError: The file is missing or is not a list of advisories, or two of them are the same.
    """
    try:
        content = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
        known = TypeAdapter(list[Advisory]).validate_python(content)
    except FileNotFoundError:
        raise PipelineError(f"{file} is missing: restore it with git") from None
    except (YAMLError, ValidationError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(map(str, reason["loc"])) or "the file"
        raise PipelineError(f"{file}: {place}: {reason['msg']}: write it as its first lines explain") from None
    seen: set[tuple[str, str]] = set()
    for advisory in known:
        names = {(advisory.package, name) for name in advisory.ids}
        if seen & names:
            raise PipelineError(f"{file} has {advisory.id} twice for {advisory.package}: remove one of the two")
        seen |= names
    return known
