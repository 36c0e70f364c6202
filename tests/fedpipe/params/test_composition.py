"""Folders whose files are the choices of a key."""

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from pydantic import ValidationError

from fedpipe.config.choices import ChoosingSection, chosen_from
from fedpipe.config.folder import Folder
from fedpipe.contracts.choice import Choice
from fedpipe.contracts.registry import Registry
from fedpipe.errors import PipelineError
from fedpipe.params.composition import composed


class Kitchen(NamedTuple):
    """A section that chooses files, and where these are."""

    section: type[ChoosingSection]
    registry: Registry[Any]


@pytest.fixture
def section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Kitchen:
    package = f"choices_of_{request.node.name.split('[')[0]}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_shared.py").write_text("raise RuntimeError('not to be imported')")
    (folder / "plain.py").touch()
    (folder / "broken.py").write_text("raise RuntimeError('not chosen, so not to be imported')")
    (folder / "warm.py").write_text(
        "from fedpipe.config.section import Section\nclass Params(Section):\n    degrees: float\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    waters = Folder(package)

    class Kettle(ChoosingSection):
        CHOICES: ClassVar = {"water": waters}
        water: chosen_from(waters)  # type: ignore[valid-type]
        litres: float

    return Kitchen(Kettle, Registry(Kettle.CHOICES["water"], Choice))


def made(section: Kitchen, content: dict[str, Any]) -> ChoosingSection:
    return composed(section.section, content, {"water": section.registry}).model_validate(content)


def test_the_chosen_file_says_what_its_section_holds(section: Kitchen) -> None:
    kettle = made(section, {"water": "warm", "litres": 1.0, "warm": {"degrees": 40.0}})
    assert kettle.params_of("water").degrees == 40.0


def test_unused_sections_may_be_absent_or_there_but_not_wrong(section: Kitchen) -> None:
    assert made(section, {"water": "plain", "litres": 1.0, "plain": None})
    assert made(section, {"water": "plain", "litres": 1.0, "plain": {}, "warm": {"degrees": 40.0}})
    with pytest.raises(ValidationError, match="degrees"):
        made(section, {"water": "plain", "litres": 1.0, "plain": {}, "warm": {"degree": 40.0}})


def test_the_section_of_what_is_chosen_must_be_there(section: Kitchen) -> None:
    with pytest.raises(ValidationError, match=r"warm\n.*Field required"):
        made(section, {"water": "warm", "litres": 1.0})


def test_an_unknown_name_gets_the_list_and_the_nearest(section: Kitchen) -> None:
    with pytest.raises(ValidationError, match=r"choose one of broken, plain, warm \(did you mean warm\?\)"):
        made(section, {"water": "warn", "litres": 1.0})


def test_a_section_of_no_file_is_unknown(section: Kitchen) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        made(section, {"water": "plain", "litres": 1.0, "plain": {}, "hot": {}})


def test_a_file_cannot_have_the_name_of_another_key(section: Kitchen, tmp_path: Path) -> None:
    next(tmp_path.glob("choices_of_*")).joinpath("litres.py").touch()
    with pytest.raises(PipelineError, match=r"litres.py: 'litres' is another key of the same section of params.yaml"):
        made(section, {"water": "plain", "litres": 1.0, "plain": {}})


def test_a_section_may_be_incomplete_until_its_file_is_chosen(section: Kitchen, tmp_path: Path) -> None:
    next(tmp_path.glob("choices_of_*")).joinpath("spring.py").write_text(
        "from fedpipe.config.section import Section\n"
        "class Params(Section):\n    name: str\n"
        "    def check_chosen(self):\n        if not self.name:\n            raise ValueError('which spring?')\n"
    )
    assert made(section, {"water": "plain", "litres": 1.0, "plain": {}, "spring": {"name": ""}})
    with pytest.raises(ValidationError, match="which spring"):
        made(section, {"water": "spring", "litres": 1.0, "spring": {"name": ""}})
