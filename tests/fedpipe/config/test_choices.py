"""Folders whose files are the choices of a key."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from fedpipe.config.choices import ChoosingSection, chosen_from
from fedpipe.config.registry import Registry


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
    registry = Registry(package)

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
