"""params.yaml is refused by name: the key, what is wrong, and what would be right."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fedpipe import params
from fedpipe.contracts.partition import PARTITIONERS, QUANTITIES
from fedpipe.errors import PipelineError
from tests import RECIPE, ROOT

DEFAULTS = (RECIPE / "params.yaml").read_text(encoding="utf-8")


def refusal(tmp_path: Path, section: type | None, old: str, new: str) -> str:
    """The message of `load`, or without a section that of `validate`."""
    assert old in DEFAULTS
    path = tmp_path / "params.yaml"
    path.write_text(DEFAULTS.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        params.load(section, path) if section else params.validate(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("section", params.SECTIONS)
def test_defaults_are_valid(section: type) -> None:
    assert isinstance(params.load(section, ROOT / "params.yaml"), section)


@pytest.mark.parametrize(
    ("section", "old", "new", "reason"),
    [
        (
            params.Train,
            "rounds: 10",
            "rouns: 10",
            "unknown key 'train.rouns' (did you mean rounds?); allowed: algorithm, aggregator, ",
        ),
        (params.Train, "rounds: 10\n", "\n", "key 'train.rounds' is missing"),
        (params.Train, "batch_size: 20", "batch_size: 0", "'train.batch_size' is 0: should be greater than or equal"),
        (params.Train, "rounds: 10", "rounds: ten", "'train.rounds' is 'ten': should be a valid integer"),
        (params.Train, "rounds: 10", "rounds: 1.5", "'train.rounds' is 1.5: should be a valid integer"),
        (params.Train, "rounds: 10", "rounds: true", "'train.rounds' is True"),
        (params.Train, "per_round: all", "per_round: some", "should be 'all', or should be a valid integer"),
        (
            params.Train,
            "model: baseline_cnn",
            "model: basline_cnn",
            "'train.model' is 'basline_cnn': there is no such file in fedpipe/models; choose one of bag_of_tokens, ",
        ),
        (params.Train, "model: baseline_cnn", "model: basline_cnn", " (did you mean baseline_cnn?)"),
        (params.Train, "m: fed_avg", "m: fedavg", "in fedpipe/algorithms; choose one of afl, centralised, ditto, "),
        (params.Train, "\n  fed_avg: {}", "", "key 'train.fed_avg' is missing"),
        (
            params.Train,
            "metrics: []",
            "metrics: [f1]",
            "'train.metrics.0' is 'f1': there is no such file in ",
        ),
        (params.Train, "mu: 0.01", "mu: -1.0", "'train.fed_prox.mu' is -1.0: should be greater than or equal to 0"),
        (params.Train, "option: 2", "option: 3", "'train.scaffold.option' is 3: should be 1 or 2"),
        (
            params.Train,
            "accuracy:      #",
            "accuracy: 0.0 #",
            "'train.stop_at.accuracy' is 0.0: should be greater",
        ),
        (
            params.Train,
            "constant\n      warm_up: 0 #",
            "cosine\n      rounds: 5\n      warm_up: 5 #",
            "'train.client_optimizer.schedule': cosine needs 'rounds' above 'warm_up' (5), not 5",
        ),
        (
            None,
            "accuracy:      #",
            "accuracy: 0.9 #",
            "'train.stop_at.accuracy' chooses a round by its validation accuracy, and 'partition.validation' is 0: set "
            "'partition.validation' to a number of samples, or 'train.selection' to test",
        ),
        (
            None,
            "keep_best: false",
            "keep_best: true",
            "'train.keep_best' chooses a round by its validation accuracy, and 'partition.validation' is 0",
        ),
        (params.Partition, "validation: 0", "validation: -1", "'partition.validation' is -1: should be greater than"),
        (params.Train, "init: fresh", "init: warm", "'train.init' is 'warm': should be 'fresh', 'champion' or 'file'"),
        (
            params.Train,
            "learning_rate: 1.0\n    momentum: 0.0",
            "learning_rate: 1.0\n    momentum: 1.0",
            "'train.server_optimizer.momentum' is 1.0: should be less than 1",
        ),
        (params.Train, "local_epochs: 1", "local_epochs: 10001", "'train.local_epochs' is 10001: should be less than"),
        (params.Train, "rate: 0.02", "rate: 0", "'train.client_optimizer.learning_rate' is 0"),
        (params.Train, "rate: 0.02", "rate: .nan", "'train.client_optimizer.learning_rate' is nan"),
        (
            params.Train,
            "\n    name: sgd",
            "\n    nam: sgd",
            "unknown key 'train.client_optimizer.nam' (did you mean name?); allowed: name, ",
        ),
        (params.Train, "seed: 2024\n  # Algo", "seed: -1\n  # Algo", "'train.seed' is -1"),
        (
            params.Partition,
            "alpha: 0.5",
            "alpha: 0",
            "'partition.dirichlet.alpha' is 0: should be greater than or equal to 0.001",
        ),
        (params.Partition, "alpha: 0.5", "alpha: -1", "'partition.dirichlet.alpha' is -1: should be greater"),
        (
            params.Partition,
            "rotation: 0.0",
            "rotation: 181",
            "'partition.features.rotation' is 181: should be less than",
        ),
        (params.Partition, "noise: 0.0", "noise: -0.1", "'partition.features.noise' is -0.1: should be greater than"),
        (
            params.Partition,
            "noise: 0.0",
            "niose: 0.0",
            "unknown key 'partition.features.niose' (did you mean noise?); all",
        ),
        (params.Partition, "values: drawn", "values: random", "should be 'drawn' or 'by_client'"),
        (params.Partition, "share: 0.0", "share: 1.1", "'partition.concept.share' is 1.1: should be less than or"),
        (params.Partition, "test: none", "test: some", "should be 'none', 'same_distribution' or 'fraction'"),
        (
            params.Partition,
            "scheme: contiguous",
            "scheme: at_sites",
            "scheme at_sites needs 'partition.at_sites.sites', a list of different names",
        ),
        (params.Partition, "    sites: []", "    sites: [Clinic_A]", "'partition.at_sites.sites.0' is 'Clinic_A'"),
        (
            params.Partition,
            "  sites: #",
            "  sites: [200, 300] #",
            "'sites' has 500 clients in all, and 'clients' is 600: they must be equal",
        ),
        (params.Partition, "fraction: 0.2", "fraction: 0", "'partition.client_test_fraction' is 0: should be greater"),
        (
            params.Partition,
            "client_test: none # test samples of each client's own: none | same_distribution | fraction\n"
            "  client_test_fraction: 0.2",
            "client_test: fraction\n  client_test_fraction: 1.0",
            "with client_test fraction, client_test_fraction must be below 1, not 1.0",
        ),
        (params.Partition, "clients: 600", "clients: 0", "'partition.clients' is 0"),
        (
            params.Partition,
            "scheme: contiguous",
            "scheme: dirichlets",
            "'partition.scheme' is 'dirichlets': there is no such file in fedpipe/partitioners; choose one of "
            "at_sites, by_column, contiguous, dirichlet, distribution, iid, inner_dirichlet, pathological, shards "
            "(did you mean dirichlet?)",
        ),
        (
            params.Partition,
            "quantity: even",
            "quantity: log_normal",
            "'partition.quantity' is 'log_normal': there is no such file in fedpipe/quantities; choose one of "
            "dirichlet_quantity, even, exponential, linear, lognormal, sizes, square (did you mean lognormal?)",
        ),
        (params.Partition, "  even: {}\n", "", "key 'partition.even' is missing"),
        (
            params.Partition,
            "    shards_per_client: 2",
            "    shards: 2",
            "unknown key 'partition.shards.shards'; allowed: sha",
        ),
        (
            params.Partition,
            "scheme: contiguous",
            "scheme: linear",
            "no such file in fedpipe/partitioners; choose",
        ),
        (params.Partition, "choice: first", "choice: last", "'random', 'deterministic' or 'first_deterministic'"),
        (
            params.Partition,
            "values: [] # one",
            "values: [3, -1] # one",
            "'partition.sizes.values.1' is -1: should be greater",
        ),
        (
            params.Partition,
            "values: [] # r",
            "values: [[.nan]] # r",
            "'partition.distribution.values.0' is nan: should",
        ),
        (
            params.Partition,
            "values: [] # r",
            "values: [[1, -1]] # r",
            "'partition.distribution.values.0' is -1: should",
        ),
        (
            params.Partition,
            "table: ''",
            "table: a.csv",
            "'partition.distribution': the table needs its SHA-256 in 'sha256'; `sha256sum a.csv` prints it",
        ),
        (params.Partition, "sha256: ''", "sha256: 0a", "'partition.distribution.sha256' is '0a': string should match"),
        (
            params.Partition,
            "quantity: even",
            "quantity: sizes",
            "either 'partition.sizes.values' or 'partition.sizes.",
        ),
        (params.Partition, "scheme: contiguous", "scheme: distribution", "either 'partition.distribution.values' or "),
        (params.Download, "connect_timeout: 10", "connect_timeout: soon", "'download.connect_timeout' is 'soon'"),
        (params.Evaluate, "batch_size: 1000", "batch_size: 0", "'evaluate.batch_size' is 0"),
        (params.Promote, "accuracy_margin: 0.0", "accuracy_margin: 1.0", "'promote.accuracy_margin' is 1.0: should be"),
        (params.Promote, "level: 0.05", "level: 0", "'promote.mcnemar.level' is 0: should be greater than 0"),
        (params.Promote, "require: not_worse", "require: no", "should be 'not_worse' or 'better'"),
        (None, "\ntrain:", "\ntrian:", "unknown section 'trian' (did you mean train?); allowed: download, partition"),
        (params.Train, "\ntrain:", "\ntrain: [", "is not valid YAML"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, section: type, old: str, new: str, reason: str) -> None:
    assert reason in refusal(tmp_path, section, old, new)


def test_a_misspelt_key_is_one_mistake_and_gets_the_nearest(tmp_path: Path) -> None:
    assert "missing" not in refusal(tmp_path, params.Train, "rounds: 10", "round: 10")
    # The section of a choice, chosen or not; the keys of all choices are not listed.
    for name in ("fed_prox", "fed_avg"):
        message = refusal(tmp_path, params.Train, f"  {name}:", f"  {name.replace('_', '')}:")
        assert f"unknown key 'train.{name.replace('_', '')}' (did you mean {name}?); allowed: algorithm, " in message
        assert "missing" not in message and "zeroed_mean" not in message
    assert "' (did you mean examples?)" not in refusal(tmp_path, params.Train, "weighting: examples", "weighting: x")
    assert "(did you mean examples?)" in refusal(tmp_path, params.Train, "weighting: examples", "weighting: example")


def test_missing_file_and_section(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is missing; run from the project's top folder"):
        params.load(params.Train, tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("download: {}\n", encoding="utf-8")
    with pytest.raises(PipelineError, match="section 'train' is missing"):
        params.load(params.Train, tmp_path / "params.yaml")


def test_momentum_is_for_sgd(tmp_path: Path) -> None:
    """Taken in silence, it would look like a comparison and be none."""
    message = refusal(
        tmp_path,
        params.Train,
        "name: sgd\n    learning_rate: 0.02\n    momentum: 0.0",
        "name: adam\n    learning_rate: 0.02\n    momentum: 0.5",
    )
    assert "adam takes no momentum: set it to 0.0, or the name to sgd" in message


def test_a_mistake_is_said_before_the_first_stage(tmp_path: Path) -> None:
    assert "'train.batch_size' is 0" in refusal(tmp_path, None, "batch_size: 20", "batch_size: 0")


def test_a_section_is_loaded_whatever_is_wrong_with_others(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(DEFAULTS.replace("batch_size: 20", "batch_size: 0") + "mistake: 1\n", encoding="utf-8")
    assert params.load(params.Download, path).dataset == "mnist"


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    """DVC writes such numbers, and reads them as YAML 1.2 does."""
    (tmp_path / "params.yaml").write_text(DEFAULTS.replace("rate: 0.02", "rate: 1e-3"), encoding="utf-8")
    assert params.load(params.Train, tmp_path / "params.yaml").client_optimizer.learning_rate == 1e-3


words = st.text("abcxyz", max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)


@given(key=st.sampled_from(sorted(params.Train.model_fields)), value=values)
def test_any_value_is_taken_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    content = YAML(typ="safe").load(DEFAULTS)
    content["train"][key] = value
    path = tmp_path_factory.mktemp("any") / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(content, file)
    try:
        params.load(params.Train, path)
    except PipelineError as error:
        assert f"train.{key}" in str(error)


@pytest.mark.parametrize(
    ("scheme", "section", "hint"),
    [
        ("dirichlet", {}, "or scheme to inner_dirichlet, the Dirichlet label skew for given sizes"),
        ("by_column", {"table": "a.csv", "sha256": "0" * 64}, "or take another scheme"),
        ("pathological", {}, "or 'pathological.keep_sizes' to true"),
        (
            "distribution",
            {"values": [[1.0]], "proportions_of": "labels"},
            "or 'distribution.proportions_of' to clients",
        ),
    ],
)
def test_two_cannot_decide_the_sizes(tmp_path: Path, scheme: str, section: dict[str, object], hint: str) -> None:
    content = YAML(typ="safe").load(DEFAULTS)
    content["partition"] |= {"scheme": scheme, "quantity": "linear"}
    content["partition"][scheme] |= section
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(content, path)
    with pytest.raises(PipelineError) as refused:
        params.validate(path)
    assert str(refused.value) == (
        f"{path}: 'partition': 'scheme: {scheme}' and 'quantity: linear' both decide the sizes of the clients: set "
        f"quantity to even, {hint}"
    )


def test_sections_of_unused_schemes_may_be_absent(tmp_path: Path) -> None:
    content = YAML(typ="safe").load(DEFAULTS)
    unused = {*PARTITIONERS.names, *QUANTITIES.names} - {"contiguous", "even"}
    content["partition"] = {key: value for key, value in content["partition"].items() if key not in unused}
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(content, path)
    assert params.load(params.Partition, path).scheme == "contiguous"


def test_the_champion_and_held_out_samples_do_not_go_together(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    held_out = DEFAULTS.replace("client_test: none", "client_test: fraction")
    path.write_text(held_out.replace("init: fresh", "init: champion"), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"'train\.init' is champion, but with 'partition\.client_test' fraction"):
        params.validate(path)
    for text in (held_out, DEFAULTS.replace("init: fresh", "init: champion")):
        path.write_text(text, encoding="utf-8")
        params.validate(path)


@pytest.mark.parametrize("algorithm", ["centralised", "local_only"])
def test_a_baseline_has_no_sites_of_its_own(tmp_path: Path, algorithm: str) -> None:
    path, text = tmp_path / "params.yaml", DEFAULTS.replace("algorithm: fed_avg", f"algorithm: {algorithm}", 1)
    path.write_text(text, encoding="utf-8")
    params.validate(path)
    at_sites = text.replace("scheme: contiguous", "scheme: at_sites", 1).replace(
        "    sites: []", "    sites: [a, b]", 1
    )
    path.write_text(at_sites, encoding="utf-8")
    with pytest.raises(PipelineError, match=rf"'train\.algorithm' {algorithm} is a baseline without a federation"):
        params.validate(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    epochs: 0",
            "    epochs: 2",
            r"'evaluate\.personalise\.epochs' is 2, which trains a global model further at each client",
        ),
        (
            "  held_out_clients: 0 ",
            "  held_out_clients: 5 ",
            r"'evaluate\.held_out_clients' is 5, which measures the gl",
        ),
    ],
)
def test_a_global_model_that_is_not_there_is_not_measured(tmp_path: Path, old: str, new: str, message: str) -> None:
    path, text = tmp_path / "params.yaml", DEFAULTS.replace("algorithm: fed_avg", "algorithm: local_only", 1)
    text = text.replace("client_test: none", "client_test: fraction", 1)
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PipelineError, match=message):
        params.validate(path)


SECOND = {"devices": {"seconds_per_sample": 1.0}}


@pytest.mark.parametrize(
    ("enough", "clients", "train", "reason"),
    [
        (
            601,
            600,
            {"clients_per_round": 601},
            "'train.clients_per_round' is 601, but there are 600 clients; give a number",
        ),
        (
            6,
            5,
            {"availability": SECOND | {"report_goal": 5}},
            "'train.availability.report_goal' is 5, and 'train.clients_per_round' asks 5 clients: lower the goal, or ",
        ),
        (6, 5, {"cohort": "fixed", "fixed": {"ids": [0, 5]}}, "'train.fixed.ids' has 5, but there are 5 clients; give"),
        (
            10,
            8,
            {"algorithm": "fed_buff", "availability": SECOND},
            "'train.fed_buff.buffer_size' is 10, but there are 8 clients; give a number up to 8",
        ),
        (
            11,
            10,
            {"algorithm": "fed_async", "availability": SECOND, "fed_async": {"concurrency": 11}},
            "'train.fed_async.concurrency' is 11, but there are 10 clients; give a number up to 10",
        ),
        (
            5,
            4,
            {"aggregator": "krum"},
            "'train.aggregator' krum needs 5 clients in a round, and a round has 4: make rounds larger with "
            "'partition.clients', or lower 'train.krum.attackers'",
        ),
        (
            600,
            100,
            {"aggregator": "multi_krum", "cohort": "poisson"},  # 10 on average, with a standard deviation of 3
            "'train.aggregator' multi_krum needs 5 clients in a round, and a round may have only 0: make rounds larger "
            "with 'train.poisson.probability', or lower 'train.multi_krum.attackers'",
        ),
        (
            100,
            600,
            {"aggregator": "secure_sum", "client_weighting": "uniform", "secure_sum": {"bits": 8}},
            "'train.secure_sum.bits' 8 has no room for the sum of 600 clients; set it to 18 or more",
        ),
    ],
)
def test_what_does_not_go_with_the_number_of_clients_is_said_before_the_first_stage(
    tmp_path: Path, enough: int, clients: int, train: dict[str, Any], reason: str
) -> None:
    content = YAML(typ="safe").load(DEFAULTS)
    path = tmp_path / "params.yaml"
    for key, value in train.items():
        content["train"][key] = content["train"][key] | value if isinstance(value, dict) else value
    content["partition"]["clients"] = enough
    YAML(typ="safe").dump(content, path)
    params.validate(path)
    content["partition"]["clients"] = clients
    YAML(typ="safe").dump(content, path)
    with pytest.raises(PipelineError) as refused:
        params.validate(path)
    assert str(refused.value).startswith(f"{path}: {reason}") and "\n" not in str(refused.value)


def test_an_edit_while_a_stage_ran(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(DEFAULTS, encoding="utf-8")
    settings = params.load(params.Train, path)
    # Of no result, and so not recorded by DVC.
    checkpoints = DEFAULTS.replace("    seconds: 10 # from one", "    seconds: 77 # from one")
    assert checkpoints != DEFAULTS
    for text in (DEFAULTS, DEFAULTS.replace("clients: 600", "clients: 5"), DEFAULTS + "mistake: 1\n", checkpoints):
        path.write_text(text, encoding="utf-8")
        params.require_unchanged(settings, path)  # what DVC records of the section is as it was
    for old, new in (("rounds: 10", "rounds: 11"), ("rounds: 10", "rouns: 10"), ("train:", "train: 1\ntrained:")):
        path.write_text(DEFAULTS.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(
            PipelineError, match=r"section 'train' was edited while the stage ran, .*`dvc commit --force train`"
        ):
            params.require_unchanged(settings, path)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("leave_out: 0", "leave_out: 5", "leave_out"),
        ("validation: 0", "validation: 5", "validation"),
        ("client_test: none", "client_test: fraction", "client_test"),
        ("rotation: 0.0", "rotation: 3.0", "features"),
        ("share: 0.0 # of the clients, each", "share: 0.5 # of the clients, each", "concept.share"),
        ("  sites: #", "  sites: [200, 400] #", "sites"),
    ],
)
def test_what_sites_have_is_not_changed_by_the_coordinator(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = DEFAULTS.replace("scheme: contiguous", "scheme: at_sites", 1).replace(
        "    sites: []", "    sites: [a, b]", 1
    )
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    assert params.load(params.Partition, path).params_of("scheme").sites == ["a", "b"]
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(
        PipelineError, match=rf"'partition\.{re.escape(key)}' is .* each site partitions its own samples"
    ):
        params.load(params.Partition, path)
