"""Folders whose files are the choices of a key."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from fedpipe.config.choices import ChoosingSection, chosen_from
from fedpipe.contracts.choice import Choice
from fedpipe.contracts.registry import Registry
from fedpipe.errors import PipelineError


@pytest.fixture
def section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> type[ChoosingSection]:
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
    registry = Registry(package, Choice)

    class Kettle(ChoosingSection):
        CHOICES: ClassVar = {"water": registry}
        water: chosen_from(registry)  # type: ignore[valid-type]
        litres: float

    return Kettle


def made(section: type[ChoosingSection], content: dict[str, object]) -> ChoosingSection:
    return section.fitting(content).model_validate(content)


def test_the_chosen_file_says_what_its_section_holds(section: type[ChoosingSection]) -> None:
    kettle = made(section, {"water": "warm", "litres": 1.0, "warm": {"degrees": 40.0}})
    assert kettle.params_of("water").degrees == 40.0


def test_unused_sections_may_be_absent_or_there_but_not_wrong(section: type[ChoosingSection]) -> None:
    assert made(section, {"water": "plain", "litres": 1.0, "plain": None})
    assert made(section, {"water": "plain", "litres": 1.0, "plain": {}, "warm": {"degrees": 40.0}})
    with pytest.raises(ValidationError, match="degrees"):
        made(section, {"water": "plain", "litres": 1.0, "plain": {}, "warm": {"degree": 40.0}})


def test_the_section_of_what_is_chosen_must_be_there(section: type[ChoosingSection]) -> None:
    with pytest.raises(ValidationError, match=r"warm\n.*Field required"):
        made(section, {"water": "warm", "litres": 1.0})


def test_an_unknown_name_gets_the_list_and_the_nearest(section: type[ChoosingSection]) -> None:
    with pytest.raises(ValidationError, match=r"choose one of broken, plain, warm \(did you mean warm\?\)"):
        made(section, {"water": "warn", "litres": 1.0})


def test_a_section_of_no_file_is_unknown(section: type[ChoosingSection]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        made(section, {"water": "plain", "litres": 1.0, "plain": {}, "hot": {}})


def test_a_file_cannot_have_the_name_of_another_key(section: type[ChoosingSection], tmp_path: Path) -> None:
    next(tmp_path.glob("choices_of_*")).joinpath("litres.py").touch()
    with pytest.raises(PipelineError, match=r"litres.py: 'litres' is another key of the same section of params.yaml"):
        made(section, {"water": "plain", "litres": 1.0, "plain": {}})


def test_a_section_may_be_incomplete_until_its_file_is_chosen(section: type[ChoosingSection], tmp_path: Path) -> None:
    next(tmp_path.glob("choices_of_*")).joinpath("spring.py").write_text(
        "from fedpipe.config.section import Section\n"
        "class Params(Section):\n    name: str\n"
        "    def check_chosen(self):\n        if not self.name:\n            raise ValueError('which spring?')\n"
    )
    assert made(section, {"water": "plain", "litres": 1.0, "plain": {}, "spring": {"name": ""}})
    with pytest.raises(ValidationError, match="which spring"):
        made(section, {"water": "spring", "litres": 1.0, "spring": {"name": ""}})
