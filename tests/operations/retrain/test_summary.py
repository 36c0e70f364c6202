"""The summary of a retraining, which a workflow shows to whoever sees the job."""

import json
from pathlib import Path

import pytest

import layout
from operations.promote.decision import Decision
from operations.retrain import summary

KEPT = Decision("fedpipe-mnist", 2, "kept", "version 1 stays champion", None, None, 1)


@pytest.mark.parametrize("noise", ["seeded", "secret"])
def test_secret_noise_leaves_no_figures_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "job"))
    for path, text in (
        (layout.TRAINING, json.dumps({"rounds": 3, "weights_sha256": "abc", "noise": noise})),
        (summary.COMPARISON, "600 clients with 100 samples each"),
        (Path("data/pool/ledger.csv"), "batch\n"),
        (Path("data/held/week-2.reason.txt"), "its images are inverted"),
        (Path("data/rejected/week-3.reason.txt"), "its hash is wrong"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    summary.write("mnist", "fresh", [], KEPT)
    for text in (summary.SUMMARY.read_text(), (tmp_path / "job").read_text()):
        assert "Trained 3 rounds from fresh weights" in text
        for message in ("`week-2`: `its images are inverted`", "`week-3`: `its hash is wrong`"):
            assert (message in text) == (noise == "seeded")
        assert ("100 samples" in text) == (noise == "seeded") == ("withheld" not in text)
