"""``make screenshots``: the pictures of the report and of the MLflow UI, anew (docs/comparing.md).

``python -m tests.screenshots [PROJECT]``: PROJECT is a folder that `make_project` made; without it, one is made first.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image

from fedpipe.tracking import views
from operations import pictures
from tests import ROOT
from tests.browser import Browser, chromium
from tests.fedpipe.tracking.mlflow_project import answers, eventually, free_port, running
from tests.small_pipeline import edit

IMAGES = ROOT / "docs/images"


# Two runs of the pipeline that take seconds, each the last one with these replacements in params.yaml.
RUNS = {
    "iid": {
        "  scheme: contiguous": "  scheme: iid",
        "  clients: 600": "  clients: 100",
        "  leave_out: 0": "  leave_out: 55000",
        "  rounds: 10": "  rounds: 8",
        "    learning_rate: 0.02": "    learning_rate: 0.1",
    },
    "dirichlet": {"  scheme: iid": "  scheme: dirichlet", "    min_size: 10": "    min_size: 2"},
}


def main() -> None:
    """Takes the pictures of the report and of the MLflow UI."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else make_project(Path(name, "compare"))
        with chromium() as browser:
            take_reports(browser, project)
            take_mlflow(browser, project)


def make_project(folder: Path) -> Path:
    """A clone in which both runs are made and committed; the second is registered, and champion."""

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True)

    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    run("git", "config", "user.name", "fedpipe")
    run("git", "config", "user.email", "fedpipe@example.com")
    for name, changes in RUNS.items():
        edit(folder, changes)
        run(sys.executable, "-m", "dvc", "repro")
        run("git", "commit", "-qam", name)
    for command in ("register", "promote"):
        run(sys.executable, "-m", f"operations.{command}")
    return folder


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """A module of ours, in the project's folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", *arguments]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)


def take_reports(browser: Browser, project: Path) -> None:
    """The page of one run, and of two."""
    for name, runs in {"report-one": ["HEAD"], "report-two": ["HEAD~1", "HEAD"]}.items():
        page = project / f"reports/{name}.html"
        if start(project, "operations.report", *runs, "--output", str(page)).wait():
            sys.exit(f"no report of {runs}")
        browser.resize(1100, 1250)
        browser.open(page.as_uri())
        take(browser, name)


def take_mlflow(browser: Browser, project: Path) -> None:
    """Runs table, chart and model page."""
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name LIKE 'fedpipe-%'")
    newest = client.search_runs([experiment.experiment_id])[0].info
    port = free_port()
    with running(start(project, "operations.ui", "--port", str(port))):
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(f"{address}/health"), 120)
        pages = {
            "mlflow-runs": (views.runs_table(newest.experiment_id), "test/accuracy"),
            "mlflow-chart": (views.runs_table(newest.experiment_id, chart=True), "Add chart"),
            "mlflow-run": (f"/#/experiments/{newest.experiment_id}/runs/{newest.run_id}", "Trained:"),
            "mlflow-model": (f"/#/models/{experiment.name}/versions/1?workflowType=machine_learning", "Outputs"),
        }
        for picture, (path, text) in pages.items():
            browser.resize(1200, 950 if picture == "mlflow-run" else 800)
            browser.open("about:blank")
            browser.open(address + path)
            eventually(lambda text=text: text in browser.script("return document.body.innerText"), 60)
            close_assistant(browser)
            browser.driver.implicitly_wait(2)
            browser.driver.find_elements("css selector", ".nothing-to-find")  # two seconds, for the charts to be drawn
            if picture == "mlflow-chart":  # of all metrics, those that people compare
                browser.driver.find_element("css selector", "[placeholder='Search metric charts']").send_keys(
                    "accuracy"
                )
                eventually(lambda: "examples" not in browser.script("return document.body.innerText"), 30)
                browser.driver.find_elements("css selector", ".nothing-to-find")
            if picture == "mlflow-model":
                browser.click_text("Inputs (1)")
                browser.click_text("Outputs (1)")
            take(browser, picture)


def close_assistant(browser: Browser) -> None:
    """The panel at the right covers a quarter of the window."""
    browser.script("document.querySelector('[aria-label=\"Close\"]')?.click()")


def take(browser: Browser, name: str) -> None:
    """Writes docs/images/``name``.png with a palette of 128 colours, which makes it a third as large."""
    path = IMAGES / f"{name}.png"
    browser.screenshot(path)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    pictures.record(path.relative_to(ROOT))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
