"""policy.yaml: what a site allows, and the sentences of what it does not."""

from pathlib import Path
from typing import Any

import pytest

from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError
from fedpipe.federation.audit import AnsweredRounds
from fedpipe.federation.policy import Policy
from tests.fedpipe.training import train_settings

COMMIT = "a" * 40
LEAST: dict[str, Any] = {"least_clients": 1, "least_samples": 1}


def test_defaults_allow_sums_over_clients_only() -> None:
    policy = Policy.model_validate(LEAST)
    assert not any(AGGREGATORS.of(name).COLLECTS for name in policy.aggregators)
    assert not any(ALGORITHMS.of(name).personal or ALGORITHMS.of(name).is_asynchronous for name in policy.algorithms)
    assert "afl" not in policy.algorithms and "keras_file" not in policy.models and policy.attacks == ["no_attack"]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("algorithms: [fedavg]", "there is no such file in fedpipe/algorithms"),
        ("rounds: many", "'rounds' is 'many': should be a valid integer"),
        ("round: 3", "'round'"),
        ("commits: [abc]", "commits"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, mistake: str) -> None:
    file = tmp_path / "policy.yaml"
    with pytest.raises(PipelineError, match=r"policy.yaml is missing: write what this site allows"):
        Policy.read(file)
    file.write_text(f"{text}\nleast_clients: 5\nleast_samples: 500\n")
    with pytest.raises(PipelineError, match=mistake):
        Policy.read(file)


def test_what_a_sum_needs_at_least_has_no_default(tmp_path: Path) -> None:
    """The error says what a sensible value is."""
    file = tmp_path / "policy.yaml"
    file.write_text("algorithms: [fed_avg]\nleast_samples:\n")
    sentences = "'least_clients' is missing: .* for example 5 .*; 'least_samples' is missing: .* for example 500 "
    with pytest.raises(PipelineError, match=sentences):
        Policy.read(file)
    file.write_text("least_clients: 5\nleast_samples: 500\n")
    assert Policy.read(file).protects_clients and not Policy.model_validate(LEAST).protects_clients


def test_a_small_sum_and_another_checkout_are_refused() -> None:
    policy = Policy(least_clients=3, least_samples=100, commits=[COMMIT])
    assert not policy.refused_sum(3, 100)
    assert "77" not in policy.refused_sum(3, 77)  # the coordinator reads it
    for few in ((2, 500), (5, 99)):
        assert "wants 3 clients and 100 samples in a sum at least" in policy.refused_sum(*few)
    assert not policy.refused_checkout(COMMIT, is_changed=False)
    assert not Policy.model_validate(LEAST).refused_checkout("", is_changed=True)
    assert "at commit bbb, which its policy does not list" in policy.refused_checkout("bbb", is_changed=False)[0]
    assert "has changes" in policy.refused_checkout(COMMIT, is_changed=True)[0]


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/start.keras", "data/../../start.keras"])
def test_a_keras_file_outside_of_the_project_is_refused(path: str) -> None:
    def refused(path: str) -> list[str]:
        settings = train_settings(
            algorithm="fed_avg", model="keras_file", keras_file={"path": path, "sha256": "a" * 64}
        )
        return Policy.model_validate(LEAST | {"models": "any"}).refused_settings(settings, 3, 0)

    assert not refused("data/start.keras")
    assert "files below its own project only" in refused(path)[0]


def test_rounds_are_counted_over_all_trainings_and_after_a_restart(tmp_path: Path) -> None:
    """A question that is repeated counts once, and so do the passes of a round."""
    file = tmp_path / "answered.txt"
    rounds = AnsweredRounds(file)
    for training, number, digest in [
        ("a", "0", "1"),
        ("a", "1", "2"),
        ("a", "0", "1"),
        ("a", "0", "3"),
        ("b", "0", "4"),
    ]:
        rounds.add(training, number, digest)
    for counted in (rounds, AnsweredRounds(file)):
        assert counted.count() == 3 and counted.count(but="a") == 1
        assert counted.with_question("a", "0", "1") == 3 and counted.with_question("a", "0", "9") == 4
        assert counted.count() == 3
    file.write_text("half a\n")
    with pytest.raises(PipelineError, match="is damaged"):
        AnsweredRounds(file)
