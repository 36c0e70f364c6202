"""A headless Chromium for tests: its pages, what it logged, and what it asked the network for.

The browser is the system's (``apt-get install chromium chromium-driver``); selenium downloads none.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_QUIET = (
    "--headless=new",
    "--no-sandbox",  # a container's root has no other way
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--force-color-profile=srgb",
)
_OWN_SCHEMES = ("data:", "blob:", "about:", "chrome:")


class Browser:
    """Chromium with one page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Goes to ``address`` with empty logs; `errors` and `requests` then speak of it alone."""
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(address)

    def resize(self, width: int, height: int) -> None:
        """Makes the page's own area this many pixels (a window cannot be narrower than 500)."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, theme: str) -> None:
        """Sets the theme that the reader prefers: ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def errors(self) -> list[str]:
        """What the console has of errors and warnings since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last time, but for what the page itself holds."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        addresses = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [address for address in addresses if not address.startswith(_OWN_SCHEMES)]

    def script(self, code: str, *arguments: object):
        """The value of JavaScript ``code``."""
        return self.driver.execute_script(code, *arguments)

    def click_text(self, text: str) -> None:
        """Clicks the innermost element that says exactly ``text``."""
        self.driver.find_element("xpath", f"(//*[normalize-space(.)='{text}'])[last()]").click()

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Writes what the window shows, or the whole page, to ``path`` as a PNG."""
        if whole:
            width, height = self.script(
                "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
            )
            self.resize(width, height)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(path))


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """Yields a browser with a fresh profile, and ends it; skips the test where there is no Chromium."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        lacking = "chromium" if not binary else "chromedriver"
        pytest.skip(f"no {lacking} on the PATH: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", "performance": "ALL"})
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        for switch in (*_QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(switch)
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield Browser(browser)
        finally:
            browser.quit()
