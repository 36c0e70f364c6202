"""What DVC runs again when files and params of schemes change: nothing for those that a run does not use."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.stages.test_pipeline import edit, environment


@pytest.fixture(scope="module")
def partitioned(clone: Callable[[str], Path], raw: Path) -> Path:
    """A clone in which DVC has downloaded and partitioned."""
    folder = clone("reruns")
    done = subprocess.run(
        ["dvc", "repro", "partition"], cwd=folder, env=environment(raw), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def changed(partitioned: Path) -> Iterator[Callable[[dict[str, str | None]], list[object]]]:
    """Appends text to files, and says what DVC then finds changed for the stage; the files are as before afterwards."""
    before: dict[Path, bytes | None] = {}

    def change(texts: dict[str, str]) -> object:
        for name, text in texts.items():
            path = partitioned / name
            before.setdefault(path, path.read_bytes() if path.exists() else None)
            path.write_text((before[path] or b"").decode() + text, encoding="utf-8")
        return status(partitioned)

    yield change
    for path, content in before.items():
        path.unlink() if content is None else path.write_bytes(content)


def status(folder: Path) -> object:
    """What `dvc status` says of the stage."""
    with chdir(folder), Repo() as repo:
        return repo.status(["partition"])


@pytest.mark.parametrize(
    "file",
    [
        "fedpipe/partitioners/dirichlet.py",
        "fedpipe/partitioners/of_mine.py",
        "fedpipe/quantities/linear.py",
        "fedpipe/quantities/of_mine.py",
    ],
)
def test_a_file_that_is_not_used_reruns_nothing(changed: Callable[..., object], file: str) -> None:
    assert changed({file: "\n# changed or added\n"}) == {}


@pytest.mark.parametrize("file", ["fedpipe/partitioners/contiguous.py", "fedpipe/quantities/even.py"])
def test_the_file_that_is_used_reruns_the_stage(changed: Callable[..., object], file: str) -> None:
    assert changed({file: "\n# changed\n"}) == {"partition": [{"changed deps": {file: "modified"}}]}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("shards_per_client: 2", "shards_per_client: 3", None),
        ("rate: 0.01\n    min_size: 1", "rate: 0.02\n    min_size: 2", None),
        ("  iid: {}\n", "", None),  # a section that is not used may go
        ("seed: 2024", "seed: 2025", {"partition.seed": "modified"}),
        ("rotation: 0.0", "rotation: 1.0", {"partition.features": "modified"}),
    ],
)
def test_only_params_that_are_used_rerun_the_stage(
    partitioned: Path, old: str, new: str, expected: dict[str, str] | None
) -> None:
    original = (partitioned / "params.yaml").read_text(encoding="utf-8")
    edit(partitioned, {old: new})
    try:
        actual = status(partitioned)
    finally:
        (partitioned / "params.yaml").write_text(original, encoding="utf-8")
    assert actual == ({"partition": [{"changed deps": {"params.yaml": expected}}]} if expected else {})


def test_another_scheme_reruns_the_stage(partitioned: Path) -> None:
    """And another quantity, whose file is a dep then and whose section is watched."""
    original = (partitioned / "params.yaml").read_text(encoding="utf-8")
    edit(partitioned, {"scheme: contiguous": "scheme: iid", "quantity: even": "quantity: linear"})
    try:
        ((_, reasons),) = status(partitioned).items()  # type: ignore[attr-defined]
    finally:
        (partitioned / "params.yaml").write_text(original, encoding="utf-8")
    deps = next(reason["changed deps"] for reason in reasons if "changed deps" in reason)
    assert {"partition.scheme", "partition.quantity", "partition.linear"} <= set(deps["params.yaml"])
    assert "fedpipe/quantities/linear.py" in deps
