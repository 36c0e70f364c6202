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
    - {{path: data/clients, md5: {data}}}
    outs:
    - {{path: models/weights.safetensors, md5: {weights}}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(LOCK.format(data="d1", weights="w1"))
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "results"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def test_same_bits(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provenance.verify()
    assert capsys.readouterr().out == "same bits as the committed dvc.lock in 1 of 1 stages\n"


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


def test_other_work_is_not_compared(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").write_text(LOCK.format(data="d2", weights="w2"))
    provenance.verify()
    assert "not comparable" in capsys.readouterr().out


def test_facts_are_there() -> None:
    facts = provenance.collect()
    assert facts["cpu"]["model name"] and "avx2" in facts["cpu"]["flags"]
    assert facts["libraries"]["tensorflow-federated"] == "0.87.0"
    assert facts["pinned"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_secret_noise_is_not_compared(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = """\
    params:
      params.yaml:
        train.aggregator: {aggregator}
        train.privacy: {{noise: secret}}
"""
    for aggregator, other in (("dp_gaussian", False), ("mean", True)):
        lock = LOCK.replace("    outs:", params.replace("{aggregator}", aggregator) + "    outs:")
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
            said = capsys.readouterr().out
            assert "secret noise makes the bits of a run its own: train\n" in said and "in 0 of 1 stages" in said
