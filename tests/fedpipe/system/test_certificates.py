"""Certificates: whose names they may have, and who can read their keys."""

from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.system.certificates import make_certificates


@pytest.mark.parametrize("name", ["ca", "revoked", "../site-1", "-a", "", "a" * 64])
def test_a_name_that_is_the_cas_or_a_path_is_refused_before_a_file_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match="cannot be the name of a certificate: take letters"):
        make_certificates(tmp_path / "certificates", ["coordinator", name])
    assert not any(tmp_path.iterdir())


def test_nobody_else_reads_a_key_even_where_a_file_was(tmp_path: Path) -> None:
    (tmp_path / "site-1.key").write_text("of another time")
    (tmp_path / "site-1.key").chmod(0o644)
    for file in make_certificates(tmp_path, ["site-1"]):
        assert file.stat().st_mode & 0o777 == 0o600, file
