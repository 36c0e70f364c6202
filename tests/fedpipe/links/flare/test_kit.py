"""What fedpipe changes in kits of NVIDIA FLARE, and refuses to work without (what it is good for: test_flare_traps)."""

import json
import stat
import sys
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.links.flare import kit as kits
from tests.fedpipe.links.flare.kits import make_kit


@pytest.mark.parametrize("role", ["server", "site"])
def test_a_kit_is_refused_until_it_is_secured(tmp_path: Path, role: str) -> None:
    kit = make_kit(tmp_path / "kit", role)
    with pytest.raises(PipelineError, match=r"is not safe to use \(.*comm_config.json.*client.key\): run `make flare"):
        kits.require_secure(kit)
    assert {file.name for file in kits.secure(kit)} == {
        "comm_config.json",
        "authorization.json",
        "resources.json",
        "client.key",
    }
    kits.require_secure(kit)
    assert kits.secure(kit) == []
    assert stat.S_IMODE((kit / "startup/client.key").stat().st_mode) == 0o600
    resources = json.loads((kit / "local/resources.json").read_text())
    assert len(resources["class_allow_list"]) == 1 and not resources["allow_log_streaming"]
    assert {"id": "process_launcher", "args": {}} in resources["components"]  # what else is there stays


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("comm_config.json", '"mtls"', '"clear"'),
        ("authorization.json", '"byoc": "none"', '"byoc": "any"'),
        ("resources.json", "fedpipe.links.flare.site_executor.SiteExecutor", "*"),
        ("resources.json", '"enforce"', '"warn"'),
        ("resources.json", '"allow_log_streaming": false', '"allow_log_streaming": true'),
    ],
)
def test_a_kit_that_was_changed_back_is_refused(tmp_path: Path, file: str, old: str, new: str) -> None:
    kit = make_kit(tmp_path / "kit", "site")
    kits.secure(kit)
    path = kit / "local" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(PipelineError, match=rf"is not safe to use \(local/{file}\)"):
        kits.require_secure(kit)


def test_the_server_keeps_jobs_in_its_own_kit_which_may_not_move_away_from_them(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "kit", "server")
    kits.secure(kit)
    assert "/shared" not in (kit / "local/resources.json").read_text()
    with pytest.raises(PipelineError, match="not safe to use"):
        kits.require_secure(kit.rename(tmp_path / "moved"))


def test_kits_say_whose_they_are(tmp_path: Path) -> None:
    site, admin = make_kit(tmp_path / "site", "site"), make_kit(tmp_path / "admin", "admin")
    assert kits.site_name(site) == "site-1" and kits.user_name(admin) == "anna@example.org"
    with pytest.raises(PipelineError, match="is a kit of NVIDIA FLARE for a user, and not for a site"):
        kits.site_name(admin)
    with pytest.raises(PipelineError, match="is no kit of `nvflare provision`"):
        kits.role(tmp_path)
    (site / "local/resources.json").write_text("{")
    with pytest.raises(PipelineError, match=r"resources.json cannot be read"):
        kits.secure(site)


def test_a_job_process_without_an_encrypted_parent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["worker_process.py", "-m", "kit", "--parent_conn_sec", "mtls"])
    kits.require_encrypted()
    for arguments in (["worker_process.py"], ["worker_process.py", "--parent_conn_sec", "clear"]):
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(PipelineError, match="inside of this machine has no mTLS"):
            kits.require_encrypted()
