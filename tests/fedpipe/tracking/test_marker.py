"""models/champion.json: the champion that git names."""

from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.tracking.marker import Marker
from layout import CHAMPION_MARKER
from tests import RECIPE

CHAMPION = Marker(
    weights_sha256="ab" * 32, model="fedpipe-mnist", accuracy=0.7, pool="cd" * 32, batches={"a": "ef" * 32}
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    assert Marker.read(path) == Marker()  # no file: no champion yet
    for marker in (Marker(), CHAMPION):
        path.write_text(marker.text())
        assert Marker.read(path) == marker and path.read_text().endswith("}\n")


def test_a_fresh_project_names_no_champion() -> None:
    assert (RECIPE / CHAMPION_MARKER).read_text() == Marker().text() == '{\n  "weights_sha256": null\n}\n'


@pytest.mark.parametrize(
    ("text", "key"),
    [("{", "the file"), ('{"weights_sha256": "AB"}', "weights_sha256"), ('{"batches": {"a": 1}}', "batches.a")],
)
def test_what_is_no_marker_is_named(text: str, key: str) -> None:
    with pytest.raises(PipelineError, match=rf"^HEAD does not name a champion \({key}: .*: restore the version before"):
        Marker.parse(text, "HEAD")
