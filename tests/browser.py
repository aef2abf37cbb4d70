"""A real Chromium for the tests of pages: what it opens may neither complain nor look beyond its folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM} (name one in CHROMIUM)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, **context: Any) -> Iterator[Any]:
    """A page opened from the disk. Fails if it logs an error, opens a dialog, or leaves its folder."""
    faults: list[str] = []
    folder = path.parent.absolute().as_uri()

    def heard(message: Any) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console: {message.text}")

    def asked(request: Any) -> None:
        if not request.url.startswith((folder, "data:", "blob:")):
            faults.append(f"request: {request.url}")

    def popped(dialog: Any) -> None:
        if dialog.type == "alert":
            faults.append(f"dialog: {dialog.message}")
        dialog.accept()

    inside = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **context})
    page = inside.new_page()
    page.set_default_timeout(10_000)
    page.on("console", heard)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("request", asked)
    page.on("dialog", popped)
    page.goto(path.absolute().as_uri())
    yield page
    inside.close()
    assert not faults, faults


def axe() -> Path:
    """The script of axe-core (AXE_PATH, or node_modules beside or above the project); skips without."""
    places = [Path(os.environ["AXE_PATH"])] if "AXE_PATH" in os.environ else []
    places += [up / "node_modules/axe-core/axe.min.js" for up in Path(__file__).resolve().parents]
    for place in places:
        if place.is_file():
            return place
    npm = " (npm install axe-core)" if shutil.which("npm") else ""
    pytest.skip(f"no axe-core beside the project and no AXE_PATH{npm}")


def axe_violations(page: Any) -> list[str]:
    """What axe-core finds wrong with the page as it stands; the page must bypass its CSP."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=str(axe()))
    found = page.evaluate("axe.run(document, { preload: false }).then((result) => result.violations)")
    return [f"{v['impact']} {v['id']}: {v['nodes'][0]['html'][:160]}" for v in found]
