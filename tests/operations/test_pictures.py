"""Every picture of README and docs is made by a command, and shows its present inputs."""

import re
from pathlib import Path

import pytest
from PIL import Image

from operations import pictures
from tests import ROOT


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_picture_in_the_pages_is_made_by_a_command() -> None:
    shown = set()
    for page in [Path("README.md"), *sorted(Path("docs").glob("*.md"))]:
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", page.read_text(encoding="utf-8")):
            shown.add(page.parent / name)
    assert shown and shown == set(pictures.pictures())
    assert {path for folder in ("docs/images", "docs/results") for path in Path(folder).rglob("*.png")} == shown


def test_every_picture_is_as_new_as_its_inputs() -> None:
    made = pictures.read_digests()
    older = [str(path) for path, each in pictures.pictures().items() if made.get(str(path)) != pictures.digest(each)]
    assert not older, f"`make pictures` or `make screenshots` renews {', '.join(older)}"


@pytest.mark.slow
def test_drawn_anew_every_picture_has_the_committed_pixels(tmp_path: Path) -> None:
    drawn = [(path, each) for path, each in pictures.pictures().items() if each.plot and each.inputs]
    assert len(drawn) == 8
    for number, (path, each) in enumerate(drawn):
        new = tmp_path / f"{number}.png"
        assert each.plot is not None
        each.plot(new)
        assert new.read_bytes() == path.read_bytes(), f"`make pictures ARGS={path}` renews it"


def test_a_change_of_an_input_is_noticed(tmp_path: Path) -> None:
    picture = pictures.Picture(("a.csv", "b.py"))
    for name in picture.inputs:
        (tmp_path / name).write_text("1")
    before = pictures.digest(picture, tmp_path)
    (tmp_path / "b.py").write_text("2")
    assert pictures.digest(picture, tmp_path) != before


def test_pictures_are_legible_in_a_column_of_900_pixels() -> None:
    """None is shrunk to less than three quarters; the smallest text is of 8 points at 110 dots per inch."""
    wide = {str(path): Image.open(path).width for path in pictures.pictures()}
    assert {name: width for name, width in wide.items() if width > 1200} == {}
