"""The tables of names in docs/extending.md are made from the contracts."""

import pytest

from fedpipe.errors import PipelineError
from operations.contracts import PAGE, registries, renewed, tables
from tests import ROOT


def test_the_page_has_the_names_of_today() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert renewed(page) == page, "run python -m operations.contracts"


def test_every_name_of_every_folder_is_there() -> None:
    text = tables()
    assert len(registries()) == 10
    for registry in registries():
        for name in registry.contract.names():
            assert f"| `{name}" in text


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(PipelineError, match="put both lines back"):
        renewed("# Adding your own\n")
