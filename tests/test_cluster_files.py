"""The files of docs/cluster have the right form, and ask for what this project has."""

import re
import shlex
import subprocess

from ruamel.yaml import YAML

from operations.cluster.__main__ import arguments
from tests import ROOT

SBATCH = ROOT / "docs/cluster/slurm.sbatch"
MANIFESTS = list(YAML(typ="safe").load_all((ROOT / "docs/cluster/kubernetes.yaml").read_text(encoding="utf-8")))


def test_the_batch_script_is_bash() -> None:
    assert subprocess.run(["bash", "-n", str(SBATCH)], capture_output=True, check=False).returncode == 0
    text = SBATCH.read_text(encoding="utf-8")
    options = re.findall(r"^#SBATCH (.*)$", text, re.M)
    assert text.startswith("#!/bin/bash\n") and len(options) > 4
    assert all(re.fullmatch(r"--[a-z-]+=\S+", option) for option in options)
    assert max(text.find(f"#SBATCH {option}") for option in options) < text.find("set -euo")  # Slurm stops at a command


def test_the_batch_script_starts_what_there_is() -> None:
    lines = [line.partition("operations.cluster ")[2] for line in SBATCH.read_text(encoding="utf-8").splitlines()]
    started = [arguments(shlex.split(line.rstrip("& "))).command for line in lines if line]
    assert started == ["scheduler", "worker"]


def test_the_manifests_are_whole() -> None:
    assert [manifest["kind"] for manifest in MANIFESTS] == [
        *("Service", "Deployment", "Deployment", "NetworkPolicy", "NetworkPolicy")
    ]
    for manifest in MANIFESTS:
        assert manifest["apiVersion"] in ("v1", "apps/v1", "networking.k8s.io/v1") and manifest["metadata"]["name"]


def test_the_manifests_fit_together() -> None:
    deployments = {
        manifest["metadata"]["name"]: manifest["spec"] for manifest in MANIFESTS if manifest["kind"] == "Deployment"
    }
    labels = [spec["template"]["metadata"]["labels"] for spec in deployments.values()]
    for name, spec in deployments.items():
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        (container,), volumes = spec["template"]["spec"]["containers"], spec["template"]["spec"]["volumes"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in volumes}
        command = container["command"]
        assert command[:3] == [".venv/bin/python", "-m", "operations.cluster"]
        assert arguments(command[3:]).command == name.removeprefix("fedpipe-")
    service = MANIFESTS[0]["spec"]
    assert service["selector"] in labels and service["ports"][0]["port"] == 8786
    assert all(manifest["spec"]["podSelector"]["matchLabels"] in labels for manifest in MANIFESTS[3:])


def test_no_key_of_the_authority_goes_to_the_cluster() -> None:
    assert "ca.key" not in (ROOT / "docs/cluster/kubernetes.yaml").read_text(encoding="utf-8")
