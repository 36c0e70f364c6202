"""The report of one run and of two: the right figures, from every kind of source, and clear refusals."""

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from operations.report import charts, comparison, page
from operations.report.runs import Run
from tests.operations.report.conftest import report, run


def test_markdown_of_two_runs_has_what_differs(project: Path, tmp_path: Path):
    code, output = report(
        project, "HEAD", "workspace", "--output", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")
    )
    assert code == 0, output
    text = (tmp_path / "r.md").read_text()
    assert "| partition.scheme | contiguous | dirichlet |" in text and "| train.rounds | 10 | 6 |" in text
    assert "train.model" not in text
    before = json.loads(run(project, "git", "show", "HEAD:metrics/evaluation.json").stdout)["test"]["accuracy"]
    after = json.loads((project / "metrics/evaluation.json").read_text())["test"]["accuracy"]
    change, word = abs(after - before), "better" if after > before else "worse"
    images = pd.read_csv(project / "metrics/classes.csv")["support"].sum()
    if change < 1.96 * math.sqrt((before * (1 - before) + after * (1 - after)) / images):
        word = "within noise"
    assert re.search(rf"\| test/accuracy \| {before:.4f} \| {after:.4f} \| .{change:.4f} {word} \|", text)
    assert "| rounds | 4 | 6 | +2 |" in text and "| bytes down to clients | 2.4 MB | 3.6 MB | +1.2 MB |" in text


@pytest.mark.slow
def test_partition_and_held_out_samples_are_compared(project: Path, tmp_path: Path):
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    assert report(project, "HEAD", "workspace", "--output", str(page), "--markdown", str(text))[0] == 0
    entropy = json.loads((project / "metrics/partition.json").read_text())["entropy"]["mean"]
    row = next(line for line in text.read_text().splitlines() if "partition/entropy/mean" in line)
    assert f" {entropy:.4f} " in row and "better" not in row and "worse" not in row
    clients = pd.read_csv(project / "metrics/clients.csv").dropna().sort_values(["test_accuracy", "client"])
    section = page.read_text().partition("on test samples of each client&#39;s own")[2]
    assert f"{clients['test_accuracy'].iloc[0]:.4f}" in section


@pytest.mark.slow
def test_clusters_have_a_section(project: Path, altered: Callable[..., None], tmp_path: Path):
    page = tmp_path / "r.html"
    assert report(project, "--output", str(page))[0] == 0 and "Clusters of clients" not in page.read_text()
    clients = pd.read_csv(project / "metrics/clients.csv")
    clients = clients.assign(cluster=clients["client"] % 3, train_personal_accuracy=clients["train_accuracy"])
    altered("metrics/clients.csv", clients.to_csv(index=False).encode())
    assert report(project, "--output", str(page))[0] == 0
    section = page.read_text().partition("Clusters of clients")[2]
    mine = clients[clients["client"] % 3 == 0]["train_accuracy"].dropna()
    rows = re.findall(r'<th scope="row">cluster 0: ([a-z ]+)</th>\s*<td class="number">([^<]*)</td>', section)
    expected = [("clients with samples", "199"), ("mean", f"{mine.mean():.4f}"), ("worst", f"{mine.min():.4f}")]
    assert rows == expected
    assert "the accuracy of its cluster&#39;s model on its train samples" in section
    assert "The personal models are measured on the samples that they were trained on" in page.read_text()
    assert "Accuracy by cluster, workspace. workspace: 199, 200, 200 clients with samples." in section


def test_same_input_same_bytes_and_nothing_of_this_machine(project: Path, tmp_path: Path):
    pages = []
    for name in ("one.html", "two.html"):
        assert report(project, "HEAD", "workspace", "--output", str(tmp_path / name))[0] == 0
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    assert str(project).encode() not in pages[0]
    assert not re.search(rb"(?<![a-z])(src|href)=\"(?!data:)", pages[0]) and b"<script" not in pages[0]


def test_the_default_is_the_workspace_in_reports(project: Path):
    code, output = report(project)
    assert code == 0 and output.splitlines()[-1] == "report: workspace in reports/report.html"
    assert (project / "reports/report.html").stat().st_size > 50_000
    assert "this MLflow store has no run that trained these weights" in output
    assert not (project / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nonsense",), "error: 'nonsense' is neither 'workspace', a git revision or DVC experiment of this project"),
        (("mlflow:abc",), "holds no runs yet: 'dvc repro' makes one"),
    ],
)
def test_an_unknown_run_is_refused(project: Path, arguments: tuple[str, ...], reason: str, tmp_path: Path):
    code, output = report(project, *arguments, "--output", str(tmp_path / "r.html"))
    assert code == 1 and reason in output and output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics/rounds.csv", None, "error: metrics/rounds.csv is missing: 'dvc repro' makes it"),
        (
            "metrics/rounds.csv",
            b"round,train_loss\n1,2.0\n",
            "error: metrics/rounds.csv of workspace has no column train_accuracy",
        ),
        ("metrics/clients.csv", b"", "error: metrics/clients.csv of workspace has no column client"),
        ("metrics/evaluation.json", b"{", "error: metrics/evaluation.json of workspace is not the JSON"),
        (
            "dvc.lock",
            b"stages: {}\n",
            "error: no params of partition and train are recorded for workspace: it is no",
        ),
        ("dvc.lock", b"a: [\n", "error: workspace: dvc.lock, line 2 is not valid YAML"),
        ("dvc.lock", b"a: 1\n", "error: workspace: dvc.lock is not as DVC writes it: restore it with `git checkout"),
    ],
)
def test_an_output_that_is_missing_or_wrong_is_named(
    project: Path, altered: Callable[..., None], tmp_path: Path, name: str, content: bytes | None, reason: str
):
    altered(name, content)
    code, output = report(project, "--output", str(tmp_path / "r.html"))
    assert code == 1 and output.startswith(reason) and output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_no_cache_has_are_left_out_and_said(project: Path, tmp_path: Path):
    clone = tmp_path / "clone"
    assert run(tmp_path, "git", "clone", "-q", str(project), str(clone)).returncode == 0
    code, output = report(clone, "HEAD", "--output", str(tmp_path / "r.html"))
    assert code == 0, output
    sentence = "plots/predictions.csv of HEAD is in neither git, DVC's cache nor its remote"
    assert sentence in output and sentence.replace("'", "&#39;") in (tmp_path / "r.html").read_text()


def test_sizes_and_verdicts():
    assert [comparison.size(n) for n in (0, 999, 1000, 1_305_840_000)] == ["0 B", "999 B", "1 kB", "1.31 GB"]
    assert comparison.size(5e15) == "5e+03 TB"
    table = pd.DataFrame({"class": [0, 1, 3], "recall": [0.5, 0.9, 0.5], "support": [100, 9, 100]})
    other = pd.DataFrame({"class": [0, 2, 3], "recall": [0.75, 0.1, 0.6], "support": [100, 9, 100]})
    runs = [type("R", (), {"classes": classes})() for classes in (table, other)]
    rows = comparison.classes(runs, "recall")
    assert [(row.name, row.values, row.verdict) for row in rows] == [
        ("0", ("0.5000", "0.7500"), "better"),
        ("1", ("0.9000", comparison.ABSENT), ""),
        ("2", (comparison.ABSENT, "0.1000"), ""),
        ("3", ("0.5000", "0.6000"), "within noise"),
    ]


def test_costs_until_a_test_accuracy_that_both_reach():
    def of(accuracies: list[float], **columns: float) -> Run:
        table = pd.DataFrame({"round": range(1, len(accuracies) + 1), "test_accuracy": accuracies, "clients": 2})
        table = table.assign(examples=9, bytes_down=600, bytes_up=400, **columns)
        empty = pd.DataFrame()
        return Run("a run", "", {}, {}, {}, table, empty, empty, None, None, None)

    first, other = of([0.5, math.nan, 0.93, 0.96]), of([0.91, 0.94, 0.94, 0.94], simulated_hours=0.5)
    rows = {row.name: row for row in comparison.costs([first, other])}
    assert rows["rounds until test accuracy 0.9"].values == ("3", "1")
    assert rows["bytes until test accuracy 0.9"].values == ("3 kB", "1 kB")
    assert rows["simulated hours until test accuracy 0.9"].values == (comparison.ABSENT, "0.50")
    assert rows["simulated hours of all rounds"].values == (comparison.ABSENT, "2.00")
    alone = [row.name for row in comparison.costs([first])]
    assert "rounds until test accuracy 0.95" in alone and not any("simulated" in name for name in alone)
    assert not any("until" in row.name for row in comparison.costs([first, of([math.nan])]))


def test_dvc_plots_show_and_diff_draw_the_curves_of_both_revisions(project: Path, tmp_path: Path):
    for command in (("show",), ("diff", "HEAD", "workspace")):
        done = run(project, "dvc", "plots", *command, "--out", str(tmp_path / command[0]))
        assert done.returncode == 0, done.stderr
        page = (tmp_path / command[0] / "index.html").read_text()
        points = [json.loads(point) for point in re.findall(r"\{[^{}]*\"round\"[^{}]*\"rev\"[^{}]*\}", page)]
        measured = {(point["rev"], key) for point in points for key in ("train_loss", "train_accuracy") if key in point}
        revisions = {"workspace"} if command == ("show",) else {"HEAD", "workspace"}
        assert "workspace_plots_partition.png" in page  # pictures too, of the revisions whose cache has them
        assert measured >= {(rev, key) for rev in revisions for key in ("train_loss", "train_accuracy")}
        assert "Confusion on the test images" in page
        for rev, rounds in {"HEAD": 4, "workspace": 6}.items():
            numbers = {int(point["round"]) for point in points if point["rev"] == rev}
            assert numbers == (set(range(1, rounds + 1)) if rev in revisions else set())


def test_params_are_those_of_the_run_not_of_todays_file(project: Path, altered: Callable[..., None], tmp_path: Path):
    """`train.rounds` is edited, and nothing runs."""
    altered("params.yaml", (project / "params.yaml").read_bytes().replace(b"rounds: 6", b"rounds: 7"))
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    code, output = report(project, "HEAD", "workspace", "--output", str(page), "--markdown", str(text))
    assert code == 0, output
    stale = "stage train is stale (train.rounds is 7 in params.yaml and was 6)"
    assert f"report: workspace: {stale}: what is shown is of its last run, and `dvc repro` runs it again\n" in output
    assert "| train.rounds | 10 | 6 |" in text.read_text() and f"`B: workspace`: {stale}" in text.read_text()
    assert "clients 6 rounds" in page.read_text() and stale in page.read_text()
    assert output.count("stale") == text.read_text().count("is stale") == 1


@pytest.mark.slow
def test_a_revision_whose_params_were_edited_without_a_run(project: Path, tmp_path: Path):
    clone = tmp_path / "clone"
    assert run(tmp_path, "git", "clone", "-q", str(project), str(clone)).returncode == 0
    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(text.replace("rounds: 10", "rounds: 11").replace("seed: 2024", "seed: 1", 1))
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    assert run(clone, *git, "commit", "-qam", "edited").returncode == 0
    code, output = report(clone, "HEAD", "--output", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md"))
    assert code == 0, output
    assert "report: HEAD: stage train is stale (train.rounds is 11 in params.yaml and was 10): what is shown" in output
    assert "report: HEAD: stage partition is stale (partition.seed is 1 in params.yaml and was 2024)" in output
    assert "| train.rounds | 10 |" in (tmp_path / "r.md").read_text()
    assert report(clone, "HEAD~1", "--output", str(tmp_path / "r.html"))[1].count("stale") == 0


def test_params_of_a_training_that_dvc_does_not_know_are_not_shown(
    project: Path, altered: Callable[..., None], tmp_path: Path
):
    """As after `python -m stages.train` by hand."""
    altered(
        "metrics/training.json", (project / "metrics/training.json").read_bytes().replace(b'"rounds"', b'"rounds" ')
    )
    text = tmp_path / "r.md"
    code, output = report(project, "workspace", "--output", str(tmp_path / "r.html"), "--markdown", str(text))
    assert code == 0, output
    assert (
        "stage train is stale (metrics/training.json is not what it made): what is shown is not of its last rec"
        in output
    )
    assert "| train.rounds |" not in text.read_text() and "| partition.scheme | dirichlet |" in text.read_text()


def of_clients(accuracies: np.ndarray, **params: str) -> Run:
    """A run of which only the clients matter."""
    table = pd.DataFrame({"client": range(len(accuracies)), "train_samples": 100, "train_accuracy": accuracies})
    empty = pd.DataFrame()
    return Run("a run", "", {}, params, {}, empty, empty, table, None, None, None)


def test_two_runs_are_compared_client_by_client():
    """W+ and its normal approximation, written out with the corrections for ties and continuity."""
    rng = np.random.default_rng(8)
    first = rng.integers(50, 90, 40) / 100
    other = first + rng.integers(-3, 6, 40) / 100
    first[7] = np.nan
    change = np.round(other - first, 12)
    change = change[~np.isnan(change) & (change != 0)]
    size = np.abs(change)
    ranks = np.array([(size < s).sum() + ((size == s).sum() + 1) / 2 for s in size])
    n, ties = len(size), np.unique(size, return_counts=True)[1]
    w = min(ranks[change > 0].sum(), ranks[change < 0].sum())
    deviation = np.sqrt(n * (n + 1) * (2 * n + 1) / 24 - (ties**3 - ties).sum() / 48)
    z = (abs(w - n * (n + 1) / 4) - 0.5) / deviation
    p = math.erfc(z / math.sqrt(2))
    assert comparison.paired_clients([of_clients(first), of_clients(other)], "train_accuracy") == (
        f"Of 39 clients, B serves {(change > 0).sum()} better and {(change < 0).sum()} worse than A "
        f"(Wilcoxon signed-rank test, two-sided: p = {p:.2g})."
    )


def test_few_differing_clients_and_other_clients_are_not_tested():
    first, other = np.full(20, 0.5), np.full(20, 0.5)
    assert "0 better and 0 worse than A: fewer than 10 differ" in comparison.paired_clients(
        [of_clients(first), of_clients(other)], "train_accuracy"
    )
    moved = of_clients(other + 0.1, **{"partition.seed": "2"})
    assert comparison.paired_clients([of_clients(first, **{"partition.seed": "1"}), moved], "train_accuracy") == ""
    assert comparison.paired_clients([of_clients(first), of_clients(other[:19])], "train_accuracy") == ""


def test_the_sentence_is_on_the_page_and_in_the_markdown(project: Path, tmp_path: Path):
    """Both runs are those of the workspace, so that the clients are the same and none differs."""
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    arguments = ("workspace", "workspace", "--output", str(page), "--markdown", str(text))
    assert report(project, *arguments)[0] == 0
    sentence = "clients, B serves 0 better and 0 worse than A: fewer than 10 differ"
    assert page.read_text().count(sentence) == 2  # train_accuracy and test_accuracy
    assert "`test_accuracy` of metrics/clients.csv: Of 600 clients, B serves" in text.read_text()
    assert report(project, "HEAD", "workspace", "--output", str(page))[0] == 0
    assert "B serves" not in page.read_text()  # they have other partitions


def test_curves_over_rounds_simulated_hours_and_bytes():
    table = pd.DataFrame({"round": [1, 2, 3], "train_loss": 1.0, "train_accuracy": 0.5, "clients": 2, "examples": 4})
    table = table.assign(bytes_down=2_000_000, bytes_up=1_000_000, test_loss=1.0, test_accuracy=[0.1, math.nan, 0.3])
    timed = table.assign(simulated_hours=[0.5, 0.25, 1.0])
    assert [each.tolist() for each in charts.positions_on_x([timed, timed], "hours")[1]] == [[0.5, 0.75, 1.75]] * 2
    title, sent = charts.positions_on_x([table], "bytes")
    assert title == "MB sent, down and up" and sent[0].tolist() == [3.0, 6.0, 9.0]  # also in rounds without a test

    def shown(*tables: pd.DataFrame) -> dict[str, str]:
        runs = [type("R", (), {"rounds": each, "seconds": None})() for each in tables]
        svgs = {each.caption: each.address for each in page._curves(runs, ["A", "B"][: len(runs)])}
        costs = {row.name: row.values for row in comparison.costs(runs)}
        assert (
            costs.get("simulated hours of all rounds")
            == {0: None, 1: ("1.75", comparison.ABSENT), 2: ("1.75", "1.75")}[
                sum("simulated_hours" in each for each in tables)
            ]
        )
        return {name: base64.b64decode(address.partition(",")[2]).decode() for name, address in svgs.items()}

    both = shown(timed, timed)
    assert ">simulated hours<" in both["Test accuracy by simulated hours"]
    assert ">MB sent, down and up<" in both["Test accuracy by bytes sent"] and "Test accuracy per round" in both
    assert "Test accuracy by simulated hours" not in shown(timed, table)
    assert "Training accuracy by bytes sent" in shown(table.drop(columns=["test_loss", "test_accuracy"]))


def test_clients_of_each_round_are_drawn_where_all_runs_have_them():
    rounds, clients = np.divmod(np.arange(40), 10)
    table = pd.DataFrame({"round": rounds + 1, "client": clients, "train_loss": 2.0 - clients / 10 - rounds / 5})
    table = table.assign(train_accuracy=clients / 10, update_norm=1.0).astype({"train_accuracy": float})
    table.loc[3, ["train_loss", "train_accuracy"]] = np.nan  # a client without samples
    with_rows = replace(of_clients(np.ones(10)), client_rounds=table)
    first, second, third = page._client_rounds([with_rows], ["A"])
    assert first.caption == "Training accuracy of the clients: median, 10th to 90th percentile, lowest and highest"
    assert "A: median 0.4500 in the last round" in first.alt
    assert second.alt.startswith("Training loss of the clients") and third.alt.startswith(
        "Norm of the clients' updates"
    )
    assert ">norm of the clients' updates<" in base64.b64decode(third.address.partition(",")[2]).decode()
    assert page._client_rounds([with_rows, of_clients(np.ones(10))], ["A", "B"]) == []


def test_withheld_figures_leave_a_report_of_the_test_images(
    project: Path, altered: Callable[..., None], tmp_path: Path
):
    """As with secret noise: empty columns, absent keys."""
    training = json.loads((project / "metrics/training.json").read_text())
    kept = {name: training[name] for name in ("rounds", "weights", "weights_sha256")}
    altered("metrics/training.json", json.dumps(kept | {"noise": "secret", "epsilon_rdp": 3.0}).encode())
    evaluation = json.loads((project / "metrics/evaluation.json").read_text())
    figures = {name: evaluation["test"][name] for name in ("loss", "accuracy")}
    altered("metrics/evaluation.json", json.dumps({"test": figures, "train": {}}).encode())
    rounds = pd.read_csv(project / "metrics/rounds.csv")
    rounds = rounds.assign(**{name: math.nan for name in rounds if name != "round"}, test_loss=0.5, test_accuracy=0.7)
    altered("metrics/rounds.csv", rounds.to_csv(index=False).encode())
    clients = pd.read_csv(project / "metrics/clients.csv")[["client"]].assign(train_samples=None, train_accuracy=None)
    altered("metrics/clients.csv", clients.to_csv(index=False).encode())
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    code, output = report(project, "HEAD", "workspace", "--output", str(page), "--markdown", str(text))
    assert code == 0, output
    withheld = [line for line in text.read_text().splitlines() if "bytes down" in line or "examples" in line]
    assert withheld and all(line.split("|")[3].strip() == comparison.ABSENT for line in withheld)
    assert report(project, "workspace", "--output", str(page), "--markdown", str(text))[0] == 0
    assert "partition/" not in text.read_text() and "withheld, for the training has secret noise" in page.read_text()
    assert "nan" not in text.read_text().lower()
