"""The page in a real browser: no error, nothing from the network, pictures drawn, figures right, room enough."""

from pathlib import Path

import pandas as pd
import pytest

from tests.browser import Browser
from tests.operations.report.conftest import report, write_run
from tests.recorded import record

pytestmark = pytest.mark.slow

# For each picture whether it is drawn, and whether it says what it shows.
_PICTURES = (
    "return [...document.images].map(i => i.complete && i.naturalWidth > 0 && i.clientWidth > 50 && i.alt.length > 20)"
)
_TABLE = """return Object.fromEntries([...document.querySelectorAll('#' + arguments[0] + ' tbody tr')].map(
    row => [row.cells[0].textContent.trim(), [...row.cells].slice(1).map(cell => cell.textContent.trim())]))"""


@pytest.fixture(scope="module")
def pages(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The report of one run and of two."""
    folder = tmp_path_factory.mktemp("pages")
    for count, runs in {1: ("workspace",), 2: ("HEAD", "workspace")}.items():
        assert report(project, *runs, "--output", str(folder / f"{count}.html"))[0] == 0
    return {count: folder / f"{count}.html" for count in (1, 2)}


def open_page(browser: Browser, path: Path) -> None:
    """Opens it, and checks that it needs nothing and complains of nothing."""
    browser.open(path.as_uri())
    assert browser.errors() == []
    assert [address for address in browser.requests() if not address.startswith("chrome")] == [path.as_uri()]


@pytest.mark.parametrize(("count", "pictures"), [(1, 10), (2, 13)])
def test_everything_is_drawn(browser: Browser, pages: dict[int, Path], count: int, pictures: int):
    browser.resize(1280, 900)
    open_page(browser, pages[count])
    assert browser.script(_PICTURES) == [True] * pictures
    assert browser.script("return document.querySelectorAll('h1').length") == 1


def test_figures_of_one_run(browser: Browser, pages: dict[int, Path], project: Path):
    open_page(browser, pages[1])
    clients = pd.read_csv(project / "metrics/clients.csv")
    table = browser.script(_TABLE, "clients-1")
    assert table["clients"] == ["600"] and table["clients without samples"] == ["1"]
    assert table["worst"] == [f"{clients['train_accuracy'].min():.4f}"]
    assert table["percentile_10"] == [f"{clients['train_accuracy'].quantile(0.1):.4f}"]
    assert browser.script(_TABLE, "params")["partition.scheme"] == ["dirichlet"]
    assert browser.script(_TABLE, "costs")["seconds per round, median"] == ["\N{EN DASH}"]
    recall = pd.read_csv(project / "metrics/classes.csv")["recall"]
    assert list(browser.script(_TABLE, "recall").values()) == [[f"{value:.4f}"] for value in recall]


def test_figures_of_two_runs(browser: Browser, pages: dict[int, Path]):
    open_page(browser, pages[2])
    differing = {"partition.scheme": ["contiguous", "dirichlet"], "train.rounds": ["10", "6"]}
    assert differing.items() <= browser.script(_TABLE, "differing-params").items()
    assert browser.script(_TABLE, "metrics")["train/accuracy"] == ["0.7100", "0.7200", "+0.0100 better"]
    assert browser.script(_TABLE, "metrics")["train/loss"][2] == "\N{MINUS SIGN}0.0100 within noise"
    assert len(browser.script(_TABLE, "metrics")) == 10 and len(browser.script(_TABLE, "more-metrics")) > 0
    assert not browser.script("return document.querySelector('details:has(#more-metrics)').open")
    assert browser.script(_TABLE, "costs")["rounds"] == ["4", "6", "+2"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("count", [1, 2])
def test_it_fits_a_phone_in_both_themes(browser: Browser, pages: dict[int, Path], count: int, theme: str):
    browser.prefer(theme)
    browser.resize(360, 740)
    open_page(browser, pages[count])
    wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, width = browser.script(wide)
    assert needed <= width
    ground = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 24, 29)")


@pytest.mark.parametrize(("clients", "classes", "rounds"), [(2, 2, 1), (3000, 60, 200)])
def test_other_sizes(browser: Browser, tmp_path: Path, clients: int, classes: int, rounds: int):
    record(tmp_path, {"partition": [], "train": []})
    write_run(tmp_path, 3, clients, classes, rounds)
    assert report(tmp_path)[0] == 0
    browser.resize(1280, 900)
    open_page(browser, tmp_path / "reports/report.html")
    assert browser.script(_PICTURES) == [True] * 10
    assert (tmp_path / "reports/report.html").stat().st_size < 2_000_000
