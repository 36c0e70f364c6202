"""Tables are checked as a whole before anything runs, and a mistake is one sentence."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fedpipe.errors import PipelineError
from operations.table import definition
from tests import RECIPE, ROOT

BASE = (RECIPE / "params.yaml").read_text(encoding="utf-8")
SMALL: dict[str, Any] = {
    "title": "Small",
    "measure": "test_accuracy",
    "base": {"train": {"model": "logistic_regression"}},
    "axes": {
        "split": {"iid": {"partition": {"scheme": "iid"}}, "as_it_is": None},
        "rate": {"key": "train.client_optimizer.learning_rate", "values": [0.1, 0.2]},
    },
    "grid": ["rate"],
    "seeds": [1, 2],
    "published": [{"name": "paper", "source": "A paper", "figures": [{"split": "iid", "value": 0.9}]}],
}


def load(folder: Path, content: dict[str, Any]) -> definition.Table:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    with (folder / "small.yaml").open("w") as file:
        yaml.dump(content, file)
    return definition.load("small", BASE, folder)


def test_cells_are_the_product_of_axes_and_seeds(tmp_path: Path) -> None:
    table = load(tmp_path, SMALL)
    assert [cell.name for cell in table.cells] == [
        f"{split}_{rate}_seed{seed}" for split in ("iid", "as_it_is") for rate in (0.1, 0.2) for seed in (1, 2)
    ]
    params = table.params["iid_0.2_seed2"]
    assert (params["train"]["seed"], params["partition"]["seed"], params["partition"]["scheme"]) == (2, 2, "iid")
    assert params["train"]["client_optimizer"]["learning_rate"] == 0.2
    assert params["train"]["client_optimizer"]["name"] == "sgd"  # params.yaml's
    assert table.params["as_it_is_0.2_seed2"]["partition"]["scheme"] == "contiguous"
    assert "checkpoint" not in params["train"] and "fed_prox" not in params["train"]
    assert "# Every param of the pipeline." in table.texts["iid_0.2_seed2"]  # comments stay


def test_a_pattern_chooses_cells(tmp_path: Path) -> None:
    table = load(tmp_path, SMALL)
    assert [cell.name for cell in table.choose("iid_*_seed1")] == ["iid_0.1_seed1", "iid_0.2_seed1"]
    with pytest.raises(PipelineError, match=r"table small has no cell 'niid\*'; its cells are iid_0.1_seed1, "):
        table.choose("niid*")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"base": {"train": {"rouns": 3}}},
            "cell iid_0.1_seed1: unknown key 'train.rouns' (did you mean rounds?); all",
        ),
        ({"base": {"training": {}}}, "cell iid_0.1_seed1: unknown section 'training' (did you mean train?); "),
        ({"base": {"train": {"rounds": 0}}}, "cell iid_0.1_seed1: 'train.rounds' is 0: should be greater than"),
        (
            {"base": {"train": {"clients_per_round": 601}}},
            "cell iid_0.1_seed1: 'train.clients_per_round' is 601, but there are 600 clients",
        ),
        (
            {"base": {"train": {"algorithm": "mime", "client_optimizer": {"momentum": 0.9}}}},
            "mime gives clients the server's momentum: set ",
        ),
        ({"base": {"train": {"init": "champion"}}}, "'train.init' must be fresh"),
        (
            {"base": {"partition": {"scheme": "at_sites", "at_sites": {"sites": ["a", "b"]}}}},
            "cell as_it_is_0.1_seed1: 'partition.scheme' is at_sites, and a table trains on samples that are here",
        ),
        (
            {
                "base": {
                    "train": {
                        "aggregator": "dp_gaussian",
                        "client_weighting": "uniform",
                        "privacy": {"noise": "secret"},
                    }
                }
            },
            "'train.privacy.noise' must be seeded, since nobody could verify a secret cell",
        ),
        ({"measure": "rounds_to_target"}, "'train.stop_at.accuracy' must be the target"),
        ({"measure": "best_test_accuracy", "base": {"train": {"evaluate_every": 0}}}, "must not be 0"),
        ({"measure": "best_test_accuracy"}, "'measure' is best_test_accuracy, and 'partition.validation' is 0: set it"),
        ({"measure": "accuracy"}, "small.yaml: 'measure' is 'accuracy': should be 'rounds_to_target', "),
        ({"axis": {}}, "small.yaml: unknown key 'axis' (did you mean axes?); allowed: "),
        ({"grid": ["rates"]}, "small.yaml: 'grid' names rates, which is no axis; the axes are split, rate"),
        ({"seeds": [1, 1]}, "'seeds' has a seed twice: 1, 1"),
        ({"axes": {"rounds": {"a": {}}}, "grid": []}, "'axes.rounds' has a name that the results need themselves"),
        ({"axes": {"a": {"x/y": {}}}, "grid": []}, "'axes.a' has the name 'x/y', which is part of file names"),
        ({"axes": {"a": {"key": "train.rounds"}}, "grid": []}, "'axes.a' must have 'key', such as train.batch_size"),
        ({"axes": {"a": {"key": "train.rounds", "values": [1, 1]}}, "grid": []}, "'axes.a' has a value twice: 1, 1"),
        (
            {"published": [{"name": "p", "source": "s", "figures": [{"split": "iid", "rate": 0.1, "value": 1}]}]},
            "a figure of 'published' p has the keys split, rate, value: it must have split, value",
        ),
        (
            {"published": [{"name": "p", "source": "s", "figures": [{"split": "non", "value": 1}]}]},
            "a figure of 'published' p has split non, and the axis has iid, as_it_is",
        ),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as error:
        load(tmp_path, SMALL | changes)
    assert message in str(error.value) and str(error.value).startswith(str(tmp_path / "small.yaml"))
    assert "\n" not in str(error.value)


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    load(tmp_path, SMALL)
    with pytest.raises(
        PipelineError, match=r"there is no table 'smal' in .*; there are small \(did you mean small\?\)"
    ):
        definition.load("smal", BASE, tmp_path)


@pytest.mark.parametrize("name", definition.names(ROOT / definition.TABLES))
def test_the_project_s_tables_are_right(name: str) -> None:
    table = definition.load(name, BASE, ROOT / definition.TABLES)
    groups = {cell.group(table.definition.group_axes) for cell in table.cells}
    for published in table.definition.published:
        figures = [tuple(str(figure[axis]) for axis in table.definition.group_axes) for figure in published.figures]
        assert len(figures) == len(set(figures)) and set(figures) <= groups
    for params in table.params.values():
        assert params["partition"]["leave_out"] == 0 and params["download"]["dataset"] == "mnist"


def test_the_papers_settings() -> None:
    params = definition.load("mcmahan_2nn", BASE, ROOT / definition.TABLES).params["non-iid_0.1_seed2024"]
    assert params["partition"]["shards"] == {"shards_per_client": 2} and params["partition"]["clients"] == 100
    train = params["train"]
    assert (train["clients_per_round"], train["local_epochs"], train["batch_size"]) == (10, 1, 10)
    params = definition.load("niid_bench_mnist", BASE, ROOT / definition.TABLES).params
    optimizer = params["two-labels_fed_nova_seed2024"]["train"]["client_optimizer"]
    assert (optimizer["learning_rate"], optimizer["momentum"], optimizer["weight_decay"]) == (0.01, 0.9, 1e-5)
    assert params["two-labels_scaffold_seed2024"]["train"]["client_optimizer"]["momentum"] == 0.9
