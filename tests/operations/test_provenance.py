"""What the bits were made with, and how a difference is explained."""

import json
import subprocess
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from operations import provenance

LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: python -E -m stages.train
    deps:
    - {{path: data/pool/ledger.csv, md5: {data}}}
    - {{path: fedpipe/runtime, md5: c1}}
    params:
      params.yaml: {{train.seed: 1, train.rounds: 10, partition.scheme: iid, partition.iid: {{}}}}
    outs:
    - {{path: models/weights.safetensors, md5: {weights}}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(LOCK.format(data="d1", weights="w1"))
    Path("metrics").mkdir()
    Path("metrics/evaluation.json").write_text('{"test": {"accuracy": 0.75}}')
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "results"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def test_same_bits(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provenance.verify()
    assert capsys.readouterr().out == (
        "repro: the same bits as the results of the last commit, with test accuracy 0.7500; look at them with "
        "`make report`\n"
    )


def test_other_bits_are_explained(project: Path) -> None:
    recorded = provenance.collect()
    recorded["cpu"]["model name"] = "A CPU of long ago"
    recorded["libraries"]["tensorflow"] = "1.0"
    Path("provenance.json").write_text(json.dumps(recorded))
    Path("dvc.lock").write_text(LOCK.format(data="d1", weights="w2"))
    with pytest.raises(PipelineError) as caught:
        provenance.verify()
    message = str(caught.value)
    assert "models/weights.safetensors (stage train)" in message
    assert "cpu.model name: 'A CPU of long ago' there" in message and "libraries.tensorflow: '1.0' there" in message
    Path("provenance.json").write_text(json.dumps(provenance.collect()))
    with pytest.raises(PipelineError, match="are the recorded ones, so this is a defect"):
        provenance.verify()


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("rounds: 10", "rounds: 20", "train.rounds (10 to 20)"),
        ("md5: d1", "md5: d2", "data/pool/ledger.csv"),
        ("md5: c1", "md5: c2", "code"),
        (
            "scheme: iid, partition.iid: {}",
            "scheme: shards, partition.shards: {n: 2}",
            "partition.scheme (iid to shards)",
        ),
        ("seed: 1, train.rounds: 10", "seed: 2, train.rounds: 20", "train.seed (1 to 2), train.rounds (10 to 20)"),
    ],
)
def test_one_line_says_what_changed_and_where_to_look(
    project: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, change: str
) -> None:
    lock = Path("dvc.lock").read_text()
    assert old in lock
    Path("dvc.lock").write_text(lock.replace(old, new).replace("md5: w1", "md5: w2"))
    Path("metrics/evaluation.json").write_text('{"test": {"accuracy": 0.875}}')
    provenance.verify()
    assert capsys.readouterr().out == (
        f"repro: test accuracy 0.8750, +0.1250 against the last commit's 0.7500, after a change of {change}; "
        'compare with `make report RUNS="HEAD workspace"`\n'
    )
    Path("dvc.lock").write_text(lock.replace(old, new))
    provenance.verify()
    assert f"the same bits as the results of the last commit, with test accuracy 0.8750, although {change} changed" in (
        capsys.readouterr().out
    )


def test_facts_are_there() -> None:
    facts = provenance.collect()
    assert facts["cpu"]["model name"] and "avx2" in facts["cpu"]["flags"]
    assert facts["libraries"]["tensorflow-federated"] == "0.87.0"
    assert facts["pinned"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_secret_noise_is_not_compared(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret, seeded = "train.privacy: {{noise: secret}}", "train.privacy: {{noise: seeded}}"
    at_sites = f"{seeded}, train.secure_sum: {{{{noise_multiplier: 0.5}}}}"
    exact = f"{seeded}, train.secure_sum: {{{{noise_multiplier: 0.0}}}}"
    for aggregator, noise, other in (
        ("dp_gaussian", secret, False),
        ("mean", secret, True),
        ("secure_sum", at_sites, False),
        ("secure_sum", exact, True),
    ):
        lock = LOCK.replace("train.seed: 1", f"train.aggregator: {aggregator}, {noise}, train.seed: 1")
        Path("dvc.lock").write_text(lock.format(data="d1", weights="w1"))
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qam", "x"], check=True
        )
        Path("dvc.lock").write_text(lock.format(data="d1", weights="w2"))
        if other:
            with pytest.raises(PipelineError, match="other bits than the committed ones"):
                provenance.verify()
        else:
            provenance.verify()
            assert "secret noise makes the bits of each run its own (stage train)" in capsys.readouterr().out
