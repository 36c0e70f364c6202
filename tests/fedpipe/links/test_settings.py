"""federation.yaml: which link, and what it needs."""

from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.links.settings import LinkSettings


def read(folder: Path, text: str) -> LinkSettings:
    (folder / "federation.yaml").write_text(text)
    return LinkSettings.read(folder / "federation.yaml", Path("certificates"))


def test_a_link_has_what_it_needs(tmp_path: Path) -> None:
    assert read(tmp_path, "address: 0.0.0.0:8443\n").link == "grpc"
    flare = read(tmp_path, "link: flare\nflare: {server: kits/server, admin: kits/anna}\n").flare
    assert flare is not None and flare.server == Path("kits/server")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("wait_seconds: 5.0\n", "key 'address' is missing: write where the coordinator listens"),
        ("link: flare\n", "write the folders of two kits as 'flare.server' and 'flare.admin'"),
        ("link: flare\nflare: {server: kits/server}\n", "key 'flare.admin' is missing"),
        ("link: carrier-pigeon\n", "'link' is 'carrier-pigeon'"),
        ("address: nowhere\n", "'address' is 'nowhere'"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, text: str, mistake: str) -> None:
    with pytest.raises(PipelineError, match=mistake):
        read(tmp_path, text)
