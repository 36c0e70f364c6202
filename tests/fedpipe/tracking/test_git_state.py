"""Which commit a run is told to be of."""

import subprocess
from pathlib import Path

import layout
from fedpipe.tracking.git_state import git_tags


def test_git_tags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert set(git_tags(layout.WRITTEN).values()) == {"unknown: no git repository"}
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert set(git_tags(layout.WRITTEN).values()) == {"unknown: git is not installed"}
    for name in ("params.yaml", "dvc.lock", "metrics/rounds.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "1"]):
        subprocess.run([*git, *command], check=True)
    assert git_tags(layout.WRITTEN)["fedpipe.git_dirty"] == "false"
    assert len(git_tags(layout.WRITTEN)["mlflow.source.git.commit"]) == 40
    Path("metrics/rounds.csv").unlink()  # as DVC does before the stage runs
    assert git_tags(layout.WRITTEN)["fedpipe.git_dirty"] == "false"
    subprocess.run(["git", "config", "status.showUntrackedFiles", "no"], check=True)
    Path("forgotten_algorithm.py").touch()
    assert git_tags(layout.WRITTEN)["fedpipe.git_dirty"] == "true"
    Path("forgotten_algorithm.py").unlink()
    Path("params.yaml").write_text("2")
    assert git_tags(layout.WRITTEN)["fedpipe.git_dirty"] == "true"
