"""A table of clients' weights: read in the clients' order, or refused by its line before any stage runs."""

import hashlib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedpipe import params
from fedpipe.baseline import train_settings
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from tests import RECIPE


def settings_with(table: Path, text: str) -> Train:
    table.write_text(text, encoding="utf-8")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return train_settings(client_weighting="per_client", client_weights={"table": str(table), "sha256": sha256})


def manifest(clients: int, numbers: tuple[int, ...] | None = None) -> Manifest:
    return Manifest(
        dataset="mnist", image_shape=(28, 28, 1), classes=10, clients=clients, samples=9, digest="", numbers=numbers
    )


def test_weights_come_in_the_order_of_the_clients(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / "weights.csv", "site,weight,client\nA,0.5,2\nB,0,0\nA,3e2,1\n")
    assert params.with_client_weights(settings, tmp_path, manifest(3)).client_weights.values == [0.0, 300.0, 0.5]
    of_two = params.with_client_weights(settings, tmp_path, manifest(2, (0, 2)))  # client 1 never trains
    assert of_two.client_weights.values == [0.0, 0.5]
    listed = train_settings(client_weighting="per_client", client_weights={"values": [1.0, 2.0, 3.0]})
    assert params.with_client_weights(listed, tmp_path, manifest(2, (0, 2))).client_weights.values == [1.0, 3.0]
    with pytest.raises(PipelineError, match="has 3 numbers, and there is a client 3: give one number for each"):
        params.with_client_weights(listed, tmp_path, manifest(4))
    uniform = train_settings(client_weighting="uniform")
    assert params.with_client_weights(uniform, tmp_path, manifest(3)) is uniform


def test_clients_with_names_are_named(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text('client,name\n0,"Bern, CH"\n1,07\n', encoding="utf-8")
    settings = settings_with(tmp_path / "weights.csv", 'client,weight\n07,2\n"Bern, CH",1\n')
    assert params.with_client_weights(settings, tmp_path, manifest(2)).client_weights.values == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client,weight\n0,1\n2,1\n", "has no weight of client 1: it needs a row for each client"),
        ("client,weight\n2,1\n", "has no weight of client 0 and 1 other clients"),
        ("client,weight\n0,1\n1,1\n2,1\n3,1\n", "has a weight of client 3, and the partition has no such client"),
        ("client,weight\n0,1\n1,-1\n2,1\n", "line 3: the weight of client 1 is '-1'; weights are numbers from 0 to"),
        ("client,weight\n0,nan\n1,1\n2,1\n", "line 2: the weight of client 0 is 'nan'"),
        ("client,weight\n0,1e10\n1,1\n2,1\n", "line 2: the weight of client 0 is '1e10'"),
        ("client,weight\n0\n1,1\n2,1\n", "line 2: the weight of client 0 is None"),
        ("client,weight\n0,1\n0,1\n1,1\n2,1\n", "line 3: client 0 has a weight already"),
        ("client,weight\n0,0\n1,0.0\n2,0\n", "are 0: give one client or more a weight above 0"),
        ("client,weights\n0,1\n", "has no column 'weight'; it needs client and weight"),
        ("", "has no column 'client'"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    settings = settings_with(tmp_path / "weights.csv", text)
    with pytest.raises(PipelineError) as caught:
        params.with_client_weights(settings, tmp_path, manifest(3))
    assert message in str(caught.value) and "weights.csv" in str(caught.value)


def test_the_table_is_checked_before_the_first_stage(tmp_path: Path) -> None:
    content = YAML(typ="safe").load((RECIPE / "params.yaml").read_text(encoding="utf-8"))
    content["partition"]["clients"] = 2
    table, path = tmp_path / "weights.csv", tmp_path / "params.yaml"

    def refusal(text: str, **changes: str) -> str:
        settings = settings_with(table, text)
        content["train"] |= settings.model_dump(include={"client_weighting", "client_weights"})
        content["train"]["client_weights"] |= changes
        YAML().dump(content, path)
        try:
            params.validate(path)
        except PipelineError as error:
            return str(error)
        return ""

    assert refusal("client,weight\n0,1\n1,2\n") == ""
    assert "has no weight of client 1" in refusal("client,weight\n0,1\n")
    assert "has the SHA-256" in refusal("client,weight\n0,1\n1,2\n", sha256="0" * 64)
    assert "there is no such file" in refusal("client,weight\n0,1\n1,2\n", table="other.csv")
    assert "'train.client_weights.values' has 3 numbers, and 'partition.clients' is 2" in refusal(
        "client,weight\n", table="", sha256="", values=[1.0, 2.0, 3.0]
    )
    assert refusal("client,weight\n", table="", sha256="", values=[1.0, 2.0]) == ""
    content["partition"] |= {"scheme": "at_sites", "at_sites": {"sites": ["a", "b"]}}
    assert "with which a coordinator could single out a client" in refusal("client,weight\n0,1\n1,2\n")
