"""The job that NVIDIA FLARE runs: what it holds, and what is removed when it is over."""

import json
import os
import time
from pathlib import Path

from fedpipe.links.flare.job import NAME, remove_old_jobs, write_job


def test_a_job_has_configurations_of_all_sites_and_no_code(tmp_path: Path) -> None:
    write_job(tmp_path / "job", ["site-1", "site-2"], "run")
    write_job(tmp_path / "job", ["site-1", "site-3"], "another")
    files = sorted(str(file.relative_to(tmp_path / "job")) for file in (tmp_path / "job").rglob("*") if file.is_file())
    assert files == ["app/config/config_fed_client.json", "app/config/config_fed_server.json", "meta.json"]
    meta = json.loads((tmp_path / "job/meta.json").read_text())
    assert meta["mandatory_clients"] == ["site-1", "site-3"] and meta["min_clients"] == 2
    assert meta["deploy_map"] == {"app": ["server", "site-1", "site-3"]}
    assert '"run": "another"' in (tmp_path / "job/app/config/config_fed_server.json").read_text()


def test_folders_of_our_jobs_are_removed_when_they_are_over(tmp_path: Path) -> None:
    long_ago = time.time() - 3600
    for folder, name, at in (
        ("old", NAME, long_ago),
        ("current", NAME, long_ago),
        ("running", NAME, time.time()),
        ("foreign", "another", long_ago),
    ):
        (tmp_path / folder).mkdir()
        meta = tmp_path / folder / "meta.json"
        meta.write_text(json.dumps({"name": name}))
        os.utime(meta, (at, at))
    (tmp_path / "local").mkdir()
    remove_old_jobs(tmp_path, "current")
    assert {path.name for path in tmp_path.iterdir()} == {"current", "running", "foreign", "local"}
