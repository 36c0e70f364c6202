"""``python -m tests.screenshots PROJECT``: the pictures of docs/comparing.md, anew.

PROJECT is a folder in which two runs of the pipeline went through ``dvc repro``, the first committed:

    git clone . /tmp/compare && cd /tmp/compare         # with the environment's bin folder on the PATH
    sed -i 's/scheme: contiguous/scheme: iid/; s/clients: 600/clients: 100/; s/leave_out: 0/leave_out: 55000/
            s/rounds: 10/rounds: 8/; s/learning_rate: 0.02/learning_rate: 0.1/' params.yaml
    dvc repro && git commit -qam iid
    sed -i 's/scheme: iid/scheme: dirichlet/; s/min_size: 10/min_size: 2/' params.yaml && dvc repro
"""

import os
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image

from fedpipe.tracking import views
from tests import ROOT
from tests.browser import Browser, chromium
from tests.fedpipe.tracking.mlflow_project import answers, eventually, free_port, running

IMAGES = ROOT / "docs/images"


def main() -> None:
    """Takes the pictures of the report and of the MLflow UI."""
    project = Path(sys.argv[1]).resolve()
    with chromium() as browser:
        take_reports(browser, project)
        take_mlflow(browser, project)


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """A module of ours, in the project's folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", *arguments]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)


def take_reports(browser: Browser, project: Path) -> None:
    """The page of one run, and of two."""
    for name, runs in {"report-one": ["workspace"], "report-two": ["HEAD", "workspace"]}.items():
        page = project / f"reports/{name}.html"
        if start(project, "operations.report", *runs, "--output", str(page)).wait():
            sys.exit(f"no report of {runs}")
        browser.resize(1100, 1250)
        browser.open(page.as_uri())
        take(browser, name)


def take_mlflow(browser: Browser, project: Path) -> None:
    """Runs table, chart and model page."""
    name = register(project)
    port = free_port()
    with running(start(project, "operations.ui", "--port", str(port))):
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(f"{address}/health"), 120)
        pages = {
            "mlflow-runs": (views.runs_table("1"), "test/accuracy"),
            "mlflow-chart": (views.runs_table("1", chart=True), "accuracy"),
            "mlflow-model": (f"/#/models/{name}/versions/1?workflowType=machine_learning", "Outputs"),
        }
        for picture, (path, text) in pages.items():
            browser.resize(1800, 800)
            browser.open("about:blank")
            browser.open(address + path)
            eventually(lambda text=text: text in browser.script("return document.body.innerText"), 60)
            close_assistant(browser)
            browser.driver.implicitly_wait(2)
            browser.driver.find_elements("css selector", ".nothing-to-find")  # two seconds, for the charts to be drawn
            if picture == "mlflow-model":
                browser.click_text("Inputs (1)")
                browser.click_text("Outputs (1)")
            take(browser, picture)


def register(project: Path) -> str:
    """The name of a registered model, made of the newest run's model where there is none."""
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name LIKE 'fedpipe-%'")
    if not client.search_registered_models():
        run = client.search_runs([experiment.experiment_id])[0]
        model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
        client.create_registered_model(experiment.name)
        client.create_model_version(experiment.name, model.artifact_location, run.info.run_id, model_id=model.model_id)
    return experiment.name


def close_assistant(browser: Browser) -> None:
    """The panel at the right covers a quarter of the window."""
    browser.script("document.querySelector('[aria-label=\"Close\"]')?.click()")


def take(browser: Browser, name: str) -> None:
    """Writes docs/images/``name``.png with a palette of 128 colours, which makes it a third as large."""
    path = IMAGES / f"{name}.png"
    browser.screenshot(path)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
