"""libraries.lock is the part of requirements.lock that decides bits."""

import pytest

from fedpipe.provenance import _LIBRARIES
from operations.libraries import LIBRARIES, REQUIREMENTS, ROOTS, deciding
from tests import ROOT


def test_libraries_agree_with_the_lock() -> None:
    requirements = (ROOT / REQUIREMENTS).read_text(encoding="utf-8")
    assert (ROOT / LIBRARIES).read_text(encoding="utf-8") == deciding(requirements), "run `make lock`"


def test_developers_tools_and_commands_decide_nothing() -> None:
    names = {line.split("==")[0] for line in (ROOT / LIBRARIES).read_text(encoding="utf-8").splitlines()}
    assert set(_LIBRARIES) == set(ROOTS) <= names
    assert {"keras", "grpcio", "jax", "opt-einsum", "pytz", "dm-tree"} <= names
    assert not names & {"pytest", "ruff", "mypy", "dvc", "mlflow", "selenium", "requests", "sqlalchemy", "tensorboard"}


def test_only_what_is_needed_comes_along() -> None:
    asking = dict.fromkeys(ROOTS, "# via pyproject") | {
        "pluggy": "# via pytest",
        "pytest": "# via pyproject",
        "six": "# via\n    #   pytest\n    #   tensorflow",
        "tensorboard": "# via tensorflow",
        "werkzeug": "# via tensorboard",
    }
    lock = "".join(f"{name}==1 \\\n    --hash=sha256:00\n    {askers}\n" for name, askers in asking.items())
    assert deciding(lock).splitlines()[1:] == [f"{name}==1" for name in sorted([*ROOTS, "six"])]
    with pytest.raises(ValueError, match="pins no numpy"):
        deciding(lock.replace("numpy==1", "other==1"))
