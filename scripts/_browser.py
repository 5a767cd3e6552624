"""A report in a headless Chromium, for pictures and tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from layerwise.core.errors import LayerwiseError

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def blank_page(theme: Literal["light", "dark"], width: int, height: int) -> Iterator[Page]:
    """A page of a browser that the system has.

    Raises:
        LayerwiseError: playwright or the browser is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise LayerwiseError("pictures of a report need playwright: pip install playwright") from error
    browser_path = next((path for name in NAMES if (path := shutil.which(name))), None)
    if browser_path is None:
        raise LayerwiseError("pictures of a report need Chromium: on Debian, apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path)
        try:
            yield browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
        finally:
            browser.close()


@contextmanager
def open_report(path: Path, theme: Literal["light", "dark"], width: int, height: int) -> Iterator[Page]:
    """A report, once its plots are drawn.

    Raises:
        LayerwiseError: as `blank_page`.
    """
    with blank_page(theme, width, height) as page:
        page.goto(path.resolve().as_uri())
        drawn(page)
        yield page


def drawn(page: Page) -> None:
    """Waits until all plots that can be seen are drawn."""
    page.wait_for_selector("html[data-drawn]")
