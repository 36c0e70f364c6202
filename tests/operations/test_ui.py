"""The MLflow UI in a real browser, over runs that went through the journal: can a person compare them there?"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpipe.tracking import views
from tests.browser import Browser
from tests.fedpipe.tracking.mlflow_project import EVALUATE, Project, answers, eventually, fill, free_port, running

pytestmark = pytest.mark.slow

NAME = "fedpipe-mnist"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Project:
    """A store with two trainings of three and five rounds, one evaluated, and a model registered."""
    folder = tmp_path_factory.mktemp("ui")
    shutil.copy(empty_database, folder)
    project = fill(folder)
    trainings = [project.train(rounds) for rounds in (3, 5)]
    assert [training.wait(100) for training in trainings] == [0, 0]
    assert project.run("-c", EVALUATE)[0] == 0
    client, newest = project.client, project.runs()[0]
    model = client.get_logged_model(newest.outputs.model_outputs[0].model_id)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, model.artifact_location, newest.info.run_id, model_id=model.model_id)
    return project


@pytest.fixture(scope="module")
def address(project: Project) -> Iterator[str]:
    """The UI's address, without the /."""
    port = free_port()
    with running(project.start("-m", "operations.ui", "--port", str(port))) as ui:
        opened = [ui.stdout.readline() for _ in range(2)]
        assert opened[1].endswith(f"http://127.0.0.1:{port}{views.runs_table('1')}\n"), opened
        eventually(lambda: answers(f"http://127.0.0.1:{port}/health"), 60)
        yield f"http://127.0.0.1:{port}"


def texts(browser: Browser, selector: str) -> list[str]:
    """What the elements say, in one call: the UI replaces them while it loads."""
    return browser.script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", selector
    )


def test_the_runs_table_has_params_and_metrics(browser: Browser, address: str, project: Project):
    browser.resize(2400, 700)
    browser.open(address + views.runs_table("1"))
    eventually(lambda: "test/accuracy" in texts(browser, ".ag-header-cell"), 60)
    eventually(lambda: "train.rounds" in texts(browser, ".ag-header-cell"), 10)
    heads = set(texts(browser, ".ag-header-cell"))
    assert {"train/accuracy", "train/loss", "test/accuracy", "partition.scheme", "train.model", "train.rounds"} <= heads
    eventually(lambda: "0.79" in texts(browser, ".ag-cell"), 10)
    cells = texts(browser, ".ag-cell")
    assert cells.count("contiguous") == 2 and cells.count("baseline_cnn") == 2
    elsewhere = [request for request in browser.requests() if not request.startswith((address, "chrome"))]
    assert elsewhere == []


def test_the_chart_of_two_runs_accuracy_is_drawn(browser: Browser, address: str):
    browser.resize(1600, 1000)
    browser.open(address + views.runs_table("1", chart=True))
    # Each card's title, and how many colours its lines have: a colour is a run.
    code = """
        return Object.fromEntries([...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')].map(
            card => [card.textContent.trim().match(/^[a-z_/]+/)[0], new Set([...card.querySelectorAll('path.js-line')]
                .filter(line => line.getBoundingClientRect().width > 20).map(line => line.style.stroke)).size]))"""
    eventually(lambda: any(lines == 2 for title, lines in browser.script(code).items() if "accuracy" in title), 60)
    # The UI draws a chart when it comes into view.
    show = "[...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')].at(-1).scrollIntoView()"
    browser.script(show)
    eventually(lambda: any(lines == 2 for title, lines in browser.script(code).items() if "loss" in title), 20)


def test_the_model_page_shows_version_and_signature(browser: Browser, address: str):
    browser.resize(1600, 1000)
    browser.open(f"{address}/#/models/{NAME}/versions/1?workflowType=machine_learning")
    output = "return document.body.innerText"
    eventually(lambda: "Version 1" in browser.script(output) and "Outputs (1)" in browser.script(output), 60)
    browser.click_text("Inputs (1)")
    browser.click_text("Outputs (1)")
    eventually(lambda: "uint8" in browser.script(output) and "float32" in browser.script(output), 10)
    assert "[-1,28,28,1]" in browser.script(output).replace(" ", "").replace("(", "[").replace(")", "]")
