"""Takes pictures of a report in its light and its dark theme, as the README shows them.

    python scripts/screenshot_report.py REPORT.html                    into docs/figures
    python scripts/screenshot_report.py REPORT.html --output FOLDER

Needs playwright (`pip install playwright`) and Chromium (on Debian `apt install chromium`).
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from layerwise.commands.errors import reported
from layerwise.core.errors import LayerwiseError

if TYPE_CHECKING:
    from playwright.sync_api import Page

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"

WIDTH, HEIGHT = 1040, 1400
"""Pixels of a picture: it ends below the first plot of a comparison of two configurations."""

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def blank_page(theme: Literal["light", "dark"], width: int, height: int) -> Iterator[Page]:
    """An empty page in a headless Chromium.

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
    """A report whose plots are drawn.

    Raises:
        LayerwiseError: playwright or the browser is missing.
    """
    with blank_page(theme, width, height) as page:
        page.goto(path.resolve().as_uri())
        drawn(page)
        yield page


def drawn(page: Page) -> None:
    """Waits until all visible plots are drawn."""
    page.wait_for_selector("html[data-drawn]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, metavar="REPORT.html")
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=FIGURES)
    options = parser.parse_args()
    if not options.report.is_file():
        raise LayerwiseError(f"{options.report}: no such file. `layerwise report` makes one.")
    for theme in ("light", "dark"):
        with open_report(options.report, theme, WIDTH, HEIGHT) as page:
            path = options.output / f"report_{theme}.png"
            page.screenshot(path=path)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    with reported():
        main()
