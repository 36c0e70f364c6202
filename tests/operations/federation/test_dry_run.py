"""A site's dry run: what it checks and shows, and that nothing is sent or written."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.shards import write_shards
from fedpipe.errors import PipelineError
from fedpipe.federation.pinned_roster import PinnedRoster, make_identity, read_identity
from fedpipe.federation.policy import Policy
from fedpipe.federation.secure_site import Party
from fedpipe.system.certificates import make_certificates
from operations.federation import certificates as certificates_command
from operations.federation.dry_run import check_roster, dry_run
from tests import RECIPE


@pytest.fixture
def shards(tmp_path: Path, training_set: tuple[np.ndarray, np.ndarray]) -> Path:
    folder = tmp_path / "clients"
    folder.mkdir()
    images, labels = training_set
    write_shards(folder, "mnist", images[:60], labels[:60], list(np.arange(60).reshape(6, 10)), 10)
    make_certificates(tmp_path / "certificates", ["coordinator", "hospital-a"])
    text = (RECIPE / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("model: baseline_cnn", "model: logistic_regression", 1))
    return folder


def shown(folder: Path, capsys: pytest.CaptureFixture[str], **policy: object) -> str:
    allowed = Policy.model_validate({"least_clients": 5, "least_samples": 50} | policy)
    dry_run(
        "hospital-a",
        folder / "certificates",
        folder / "clients",
        allowed,
        folder / "logs",
        folder / "params.yaml",
        ("", False),
    )
    return capsys.readouterr().out


def test_what_would_be_sent_is_shown_and_nothing_is_written(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    output = shown(tmp_path, capsys, counts="rounded")
    assert "hospital-a.pem is valid until" in output and "images (28, 28, 1) of 10 classes; 6 clients" in output
    assert "the training of " in output and "would be joined: fed_avg, mean, logistic_regression" in output
    assert "at most 1 sums leave over 6 clients, 31," in output and output.endswith("nothing was sent\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_whether_a_site_could_sum_securely_is_shown(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    for old, new in {"aggregator: mean": "aggregator: secure_sum", "weighting: examples": "weighting: uniform"}.items():
        text = text.replace(old, new, 1)
    (tmp_path / "params.yaml").write_text(text)
    output = shown(tmp_path, capsys)
    assert "there is no roster.yaml" in output and "in a round: one sum leaves over 6 clients, under masks" in output
    keys = {name: make_identity(tmp_path / "certificates", name) for name in ("hospital-a", "hospital-b", "hospital-c")}
    party = Party(read_identity(tmp_path / "certificates", "hospital-a"), PinnedRoster.of(keys))
    assert list(check_roster("hospital-a", party)) == [
        "secure sums: roster of hospital-a, hospital-b, hospital-c; a sum is one of 3 sites at least"
    ]
    assert "has another identity for hospital-b than its own" in next(check_roster("hospital-b", party))


def test_what_the_policy_forbids_is_shown(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = shown(tmp_path, capsys, models=["mcmahan_cnn"], rounds=3, least_clients=7)
    assert "would be refused: its policy does not allow 'train.model' logistic_regression" in output
    assert "would be refused: its policy allows 3 rounds in all" in output
    assert "no sum can leave this site: its policy wants 7 clients" in output and "would be joined" not in output


def test_a_certificate_of_another_ca_ends_it(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_certificates(tmp_path / "other", ["hospital-a"])
    (tmp_path / "certificates/hospital-a.pem").write_bytes((tmp_path / "other/hospital-a.pem").read_bytes())
    with pytest.raises(PipelineError, match="is not a certificate that the CA"):
        shown(tmp_path, capsys)


def test_a_certificate_that_ends_soon_is_an_error_of_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_certificates(tmp_path, ["hospital-a"])
    args = argparse.Namespace(command="expiry", certificates=tmp_path, name="hospital-a", days=30)
    certificates_command.run(args)
    assert "is valid until" in capsys.readouterr().out
    with pytest.raises(PipelineError, match="more days: renew it before"):
        certificates_command.run(argparse.Namespace(**vars(args) | {"days": 400}))
