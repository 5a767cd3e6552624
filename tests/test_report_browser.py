"""The report in a real browser: themes, phone width, sorting, filtering, hovering, and no request that leaves."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.commands import ROOT, run_script
from helpers.run_folders import results_of, rewrite_results
from layerwise.core.errors import LayerwiseError

sys.path.insert(0, str(ROOT / "scripts"))
from screenshot_report import blank_page, drawn

pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "tests" / "screenshots"
PHONE, DESKTOP, PAPER = (360, 740), (1100, 900), (718, 1000)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def report(train_py, tmp_path) -> Path:
    """A comparison of three configurations: one of two seeds, with a hostile name, and one of end-to-end training."""
    for more in ({"k": 1}, {"k": 1, "seed": 1}, {"k": 2}, {"plan": "joint"}):
        train_py(epochs=3, **{"dataset.limit": 600} | more)
    folders = sorted((tmp_path / "out").iterdir())
    results = results_of(folders[0]) | {"name": HOSTILE}
    rewrite_results(folders[0], results)
    output = tmp_path / "report.html"
    assert run_script("make_report", str(tmp_path / "out"), "--output", str(output)).code == 0
    return output


@pytest.fixture
def open_page(report):
    """Opens the report in a theme and size, and notes what the browser complains of and asks for."""
    complaints: list[str] = []
    requests: list[str] = []

    @contextmanager
    def visit(theme, size):
        with browser(theme, size) as page:
            page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(report.resolve().as_uri())
            drawn(page)
            yield page
        assert complaints == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []

    return visit


def browser(theme, size):
    """Skips the test where there is none."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        pytest.skip("needs playwright: pip install playwright")
    if not shutil.which("chromium"):
        pytest.skip("needs Chromium: apt install chromium")
    return blank_page(theme, *size)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_renders_without_complaints_or_overflow(theme, size, open_page):
    with open_page(theme, size) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        charts = page.locator(".chart:visible")
        assert charts.count() >= 7
        for i in range(charts.count()):
            assert charts.nth(i).locator("svg").count() == 1
            drawing, place = charts.nth(i).locator("svg").bounding_box(), charts.nth(i).bounding_box()
            assert drawing["width"] <= place["width"] + 1
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{theme}_{size[0]}.png", full_page=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_paper_all_is_dark_on_white_unfolded_and_whole(theme, open_page):
    with open_page(theme, PAPER) as page:
        page.emulate_media(media="print", color_scheme=theme)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        drawn(page)
        cut = "e => e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().right > innerWidth + 1"
        assert page.evaluate(f"[...document.querySelectorAll('table, svg, pre')].filter({cut}).length") == 0
        assert page.locator("details.run:not([open])").count() == 0
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 29, 31)"
        plots = "getComputedStyle(document.querySelector('.chart svg')).filter"
        assert page.evaluate(plots).startswith("invert" if theme == "dark" else "none")


def test_the_single_runs_are_drawn_on_demand(open_page):
    with open_page("light", DESKTOP) as page:
        lines = page.locator('.chart[data-chart="loss-curves"] .mark-line path')
        means = lines.count()
        page.locator("#single").check()
        drawn(page)
        page.wait_for_function(
            f"document.querySelectorAll('[data-chart=\"loss-curves\"] .mark-line path').length > {means}"
        )
        assert lines.count() == means + 4  # two seeds in two stages


def test_the_theme_can_be_chosen(open_page):
    with open_page("light", DESKTOP) as page:
        background = "getComputedStyle(document.body).backgroundColor"
        label = "document.querySelector('.chart svg text').getAttribute('fill')"
        system = page.evaluate(background), page.evaluate(label)
        button = page.locator("#theme")
        assert button.inner_text() == "Theme: auto"
        button.press("Enter")
        assert button.inner_text() == "Theme: light"
        button.press("Enter")
        drawn(page)
        assert button.inner_text() == "Theme: dark"
        assert page.evaluate(background) != system[0]
        assert page.evaluate(label) != system[1]


def test_runs_are_sorted_by_mouse_and_keyboard(open_page):
    with open_page("light", DESKTOP) as page:
        heading = page.locator("#runs thead th", has_text="test %")
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "descending"
        values = "[...document.querySelectorAll('#runs tbody tr')].map(row => Number(row.cells[1].dataset.value))"
        descending = page.evaluate(values)
        assert descending == sorted(descending, reverse=True)
        heading.locator("button").press("Enter")
        assert heading.get_attribute("aria-sort") == "ascending"
        assert page.evaluate(values) == sorted(descending)
        page.locator("#runs thead button", has_text="run").press("Space")
        assert heading.get_attribute("aria-sort") == "none"


def test_runs_are_filtered(open_page):
    with open_page("light", DESKTOP) as page:
        page.locator("#filter").fill("end to end")
        assert page.locator("#runs tbody tr:visible").count() == 1
        assert page.locator("#count").inner_text() == "1 of 3 rows"
        page.locator("#filter").fill("nothing like it")
        assert page.locator("#runs tbody tr:visible").count() == 0
        page.locator("#filter").fill("")
        page.locator("#status").select_option("completed")
        assert page.locator("#runs tbody tr:visible").count() == 3
        hidden = page.locator("#config tbody tr:visible").count()
        page.locator("#differences").uncheck()
        assert page.locator("#config tbody tr:visible").count() > hidden


def test_a_plot_answers_to_the_mouse(open_page):
    with open_page("light", DESKTOP) as page:
        point = page.locator('.chart[data-chart="accuracy"] .mark-symbol.role-mark path').first
        point.hover(force=True)
        page.wait_for_selector("#vg-tooltip-element.visible")
        assert "test accuracy (%)" in page.locator("#vg-tooltip-element").inner_text()


def test_a_plot_in_a_closed_part_is_drawn_once_it_is_opened(open_page):
    with open_page("light", DESKTOP) as page:
        last = page.locator("details.run").last
        assert last.locator("svg").count() == 0
        last.locator("> summary").press("Enter")
        last.locator(".chart svg").wait_for()


def test_a_hostile_name_shows_as_text(open_page):
    with open_page("dark", DESKTOP) as page:
        assert page.locator("#runs small", has_text=HOSTILE).count() == 1


CONTRAST = """
() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
  };
  const hasWords = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("main *, header *")]
    .filter((element) => !element.closest("svg") && element.checkVisibility() && hasWords(element))
    .map((element) => {
      const pair = [numbers(getComputedStyle(element).color), background(element)].map(luminance);
      return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.outerHTML.slice(0, 80)];
    })
    .filter(([ratio]) => ratio < 4.5);
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_have_the_contrast_of_wcag_aa(theme, open_page):
    with open_page(theme, DESKTOP) as page:
        assert page.evaluate(CONTRAST) == []


def test_the_pictures_of_the_readme_are_made(report, tmp_path):
    with browser("light", DESKTOP):
        pass  # or the test is skipped
    assert run_script("screenshot_report", str(report), "--output", str(tmp_path)).code == 0
    sizes = [(tmp_path / f"report_{theme}.png").stat().st_size for theme in ("light", "dark")]
    assert min(sizes) > 20_000
    assert max(sizes) < 300_000


def test_what_is_missing_for_a_picture_is_said(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(LayerwiseError, match="Chromium"), blank_page("light", 10, 10):
        pass
