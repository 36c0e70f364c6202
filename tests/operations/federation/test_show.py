"""What `make federation` prints of sites: what they have and allow, and what they would refuse."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.shards import SiteShards
from fedpipe.errors import PipelineError
from fedpipe.federation.messages import Description, pack
from fedpipe.federation.policy import Policy
from fedpipe.links.site_side import stay
from fedpipe.system.certificates import make_certificates
from operations.federation.show import link_settings, show, table, would_refuse
from tests import RECIPE
from tests.operations.federation.ports import free_port

SAMPLES = np.array([10, 20, 30])


def description(site: str, **policy: object) -> Description:
    allowed = Policy.model_validate({"least_clients": 1, "least_samples": 1} | policy)
    return Description(
        site=site,
        dataset="mnist",
        image_shape=[28, 28, 1],
        classes=10,
        digest="a" * 64,
        counts=allowed.counts,
        policy=allowed.model_dump(),
    )


def test_what_each_policy_would_refuse_is_named(tmp_path: Path) -> None:
    sites = [description("open"), description("strict", models=["mcmahan_cnn"], rounds=3, least_sites=5)]
    shards = [SiteShards(each.site, each.digest, SAMPLES) for each in sites]
    lines = list(table(sites, shards))
    assert "open" in lines[2] and lines[2].endswith("-") and "models mcmahan_cnn; rounds 3; least_sites 5" in lines[3]
    lines = list(would_refuse(RECIPE / "params.yaml", sites, shards, 2))
    assert lines[0].endswith("open would join, by its policy") and len(lines) == 4
    assert all("strict would refuse: its policy" in line for line in lines[1:])
    other = sites[0].model_copy(update={"policy": {"another": 1}})
    assert "is at another commit" in next(would_refuse(RECIPE / "params.yaml", [other], shards[:1], 2))


@contextmanager
def site(port: int, certificates: Path, name: str) -> Iterator[None]:
    ending = threading.Event()
    content = pack(description(name), [SAMPLES])
    arguments = (f"127.0.0.1:{port}", certificates, name, lambda question: content, lambda line: None, ending)
    thread = threading.Thread(target=stay, args=arguments, kwargs={"first_pause": 0.1}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def test_sites_that_do_not_come_are_named_after_those_that_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_certificates(tmp_path, ["coordinator", "site-1", "site-2"])
    port = free_port()
    with site(port, tmp_path, "site-1"), pytest.raises(PipelineError, match=r"^site-2 did not come within 3 s$"):
        show(f"127.0.0.1:{port}", tmp_path, ["site-1", "site-2"], 3.0, tmp_path / "params.yaml")
    output = capsys.readouterr().out
    assert "federation: site-1 is connected" in output and "site-1                      3         60  -" in output


def test_sites_are_asked_at_an_address_or_through_the_kits_of_federation_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert link_settings("127.0.0.1:8443", tmp_path, 3.0).link == "grpc"
    with pytest.raises(PipelineError, match="the address is 'nowhere', and should be host:port, or flare"):
        link_settings("nowhere", tmp_path, 3.0)
    (tmp_path / "federation.yaml").write_text("address: 127.0.0.1:8443\n")
    with pytest.raises(PipelineError, match=r"federation.yaml: write the folders of two kits"):
        link_settings("flare", tmp_path, 3.0)
    (tmp_path / "federation.yaml").write_text("link: flare\nflare: {server: kits/server, admin: kits/anna}\n")
    settings = link_settings("flare", tmp_path, 3.0)
    assert settings.flare is not None and settings.flare.admin == Path("kits/anna") and settings.wait_seconds == 3.0
