"""Reports of every kind of run in a real browser: nothing is cut or runs over, on a screen, a phone and paper."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.commands import ROOT, SCRIPTS

sys.path.insert(0, str(SCRIPTS))
from report_scenes import DESKTOP, PHONE, SCENES, photograph, report_of, write_tables
from screenshot_report import drawn
from test_report_browser import browser

pytestmark = pytest.mark.browser

PAGE = 1009
"""Pixels of the height of an A4 page within its margins."""

FAULTS = """
() => {
  const faults = [];
  const known = JSON.stringify(JSON.parse(document.getElementById("specs").textContent));
  for (const chart of document.querySelectorAll(".chart")) {
    const svg = chart.querySelector("svg");
    if (!svg) continue;
    const box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")]
      .filter((text) => text.textContent.trim() && getComputedStyle(text).opacity !== "0" && text.checkVisibility())
      .map((text) => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([words, a], i) => {
      if (a.left < box.left - 2 || a.right > box.right + 2 || a.top < box.top - 2 || a.bottom > box.bottom + 2)
        faults.push(`${chart.dataset.chart}: beyond the plot: ${words}`);
      if (words.endsWith("…") && !known.includes(words)) faults.push(`${chart.dataset.chart}: cut: ${words}`);
      for (const [others, b] of texts.slice(i + 1)) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 2 && high > 3) faults.push(`${chart.dataset.chart}: ${words} lies on ${others}`);
      }
    });
  }
  for (const element of document.querySelectorAll("h1, h2, h3, dt, dd, p, li, th, td, summary, pre")) {
    const isSeen = element.checkVisibility() && !element.closest(".samples");
    if (isSeen && element.scrollWidth > element.clientWidth + 1) faults.push(`runs over: ${element.outerHTML}`);
  }
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const repeats = (values) => new Set(values).size < values.length;
  const colours = all("#runs .swatch").map((swatch) => getComputedStyle(swatch).backgroundColor);
  if (repeats(colours)) faults.push("two rows have one colour");
  for (const chart of all(".chart"))
    if (repeats(all(".role-legend-label text", chart).map((text) => text.textContent))) faults.push("a doubled legend");
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`the page is ${width} pixels wide`);
  return faults;
}
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_tables(folder)
    return folder


PALE = """
() => {
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ground = light(getComputedStyle(document.querySelector(".plot")).backgroundColor);
  const lines = [...document.querySelectorAll("[data-chart=loss-curves] .mark-line path")];
  const ratios = lines.map((line) => light(getComputedStyle(line).stroke) / ground);
  return ratios.filter((ratio) => Math.max(ratio, 1 / ratio) < 1.5);
}
"""


@contextmanager
def opened(path: Path, size, theme="light"):
    complaints: list[str] = []
    with browser(theme, size) as page:
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        drawn(page)
        yield page
    assert complaints == []


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_cut_overlaps_or_runs_over(scene, scenes):
    path = report_of(scene, scenes)
    for size in (DESKTOP, PHONE):
        with opened(path, size) as page:
            assert page.evaluate(FAULTS) == [], size
    with opened(path, DESKTOP) as page:
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 680, "height": PAGE})
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        drawn(page)
        assert page.evaluate(FAULTS) == []
        assert page.locator(".chart").count() == page.locator(".chart svg").count()  # also in what was folded
        heights = "[...document.querySelectorAll('.plot')].map((plot) => plot.getBoundingClientRect().height)"
        assert max(page.evaluate(heights)) <= PAGE  # no page ends inside a plot


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_lines_of_twenty_stages_are_seen(theme, scenes):
    with opened(report_of("depths", scenes), DESKTOP, theme) as page:
        assert page.locator("[data-chart=loss-curves] .mark-line path").count() == 20
        assert page.evaluate(PALE) == []


def test_the_plots_of_folded_parts_are_printed(scenes, tmp_path):
    with opened(report_of("four", scenes), DESKTOP) as page:
        assert page.locator(".chart").count() > page.locator(".chart svg").count()
        count = "window.printed = document.querySelectorAll('.chart svg').length"
        page.evaluate(f"addEventListener('afterprint', () => {{ {count}; }}, {{ capture: true }})")
        page.pdf(path=tmp_path / "page.pdf", format="A4")
        assert page.evaluate("window.printed") == page.locator(".chart").count()
        page.wait_for_selector("html[data-drawn]:not([data-paper])")  # and the screen has its own again


def test_the_pictures_are_written(scenes):
    path = report_of("demo", scenes)
    photograph(path)
    assert {f"demo_{view}" for view in ("light", "dark", "phone", "paper")} == {p.stem for p in scenes.glob("demo_*")}
    assert (ROOT / "build").name in (ROOT / ".gitignore").read_text()
