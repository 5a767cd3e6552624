"""The documents agree with the code: the picture of the folders, paths, links, commands and keys."""

from __future__ import annotations

import json
import re
import runpy
import shlex

import pytest

from helpers.commands import ROOT
from helpers.configs import composed
from helpers.package import FILES, ROOMS, imports_of, room_of
from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.core.spread import with_spread

PAGES = sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")) if path.name != "CHANGELOG.md")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
README = (ROOT / "README.md").read_text()


def drawn_arrows() -> set[tuple[str, str]]:
    picture = re.search(r"```mermaid\nflowchart TB\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert picture is not None
    return set(re.findall(r"^ *(\w+) --> (\w+)$", picture[1], re.MULTILINE))


def reachable(room: str) -> set[str]:
    below = {to for at, to in drawn_arrows() if at == room}
    return {room}.union(*map(reachable, below))


def test_the_table_of_folders_names_all_of_them_in_order():
    assert tuple(re.findall(r"^\| `(\w+)` \| [A-Z]", ARCHITECTURE, re.MULTILINE)) == ROOMS


def test_no_drawn_arrow_goes_up():
    assert {room for arrow in drawn_arrows() for room in arrow} == set(ROOMS)
    assert all(ROOMS.index(to) < ROOMS.index(at) for at, to in drawn_arrows())


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_follows_the_drawn_arrows(room):
    names = {name for path in FILES if room_of(path) == room for name in imports_of(path)}
    imported = {name.split(".")[1] for name in names if name.startswith("layerwise.")}
    assert imported <= reachable(room)


@pytest.mark.parametrize("arrow", sorted(drawn_arrows()), ids=" to ".join)
def test_every_drawn_arrow_is_an_import(arrow):
    at, to = arrow
    names = {name for path in FILES if room_of(path) == at for name in imports_of(path)}
    assert any(name.startswith(f"layerwise.{to}.") for name in names)


def test_every_file_that_the_architecture_names_exists():
    named = re.findall(r"`([\w/.]+\.(?:py|md|yaml)|\w[\w/]*/)`", ARCHITECTURE)
    for name in named:
        if "NAME" not in name:
            assert (ROOT / name).exists() or (ROOT / "layerwise" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)|src=\"([^\"]+)\"", text):
        (link,) = filter(None, target)
        assert "://" in link or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(page):
    for name in re.findall(r"\btest_\w+\.py", page.read_text()):
        assert (ROOT / "tests" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_exists(page):
    from layerwise.__main__ import COMMANDS

    for name in re.findall(r"(?:^|`|-m |; |\()layerwise ([a-z_]+)", page.read_text(), re.MULTILINE):
        assert name in COMMANDS, name


def options() -> list[str]:
    """The overrides of each row of docs/options.md that trains."""
    text = (ROOT / "docs" / "options.md").read_text().partition("## Runs")[0]
    cells = [line.rsplit(" | ", 1)[1] for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell) if re.match(r"[\w.]+=", code)]


@pytest.mark.parametrize("overrides", options())
def test_every_option_composes(overrides, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_method")
    parse(composed(*shlex.split(overrides.replace("FOLDER", "folder"))))


def course() -> list[list[str]]:
    """The arguments of each command of docs/course.md that trains, with the first of several values."""
    text = (ROOT / "docs" / "course.md").read_text()
    (perceptron,) = re.findall(r"`MLP` stands for `([^`]+)`", text)
    commands = re.findall(r"\| `layerwise train ([^`]+)` \|", text)
    return [shlex.split(command.replace("MLP", perceptron)) for command in commands]


@pytest.mark.parametrize("words", course(), ids=" ".join)
def test_every_command_of_the_course_composes(words):
    swept = [word for word in words if "--multirun" not in word and not word.startswith("hydra")]
    plain = [re.sub(r"=(choice|tag)\(.*", "=1", word) for word in swept]
    single = [word if "[" in word else word.partition(",")[0] for word in plain]
    config = parse(composed(*single))
    if config.dataset.name != "table":
        resolve(config)


def test_the_loop_of_ones_own_runs(capsys):
    text = (ROOT / "docs" / "extending.md").read_text().partition("## Your own loop")[2].partition("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(program, "extending.md", "exec"), {})
    assert float(re.findall(r"depth 2, epoch 2: ([\d.]+)%", capsys.readouterr().out)[0]) > 80


def test_the_parts_of_ones_own_package_are_those_of_the_example():
    text = (ROOT / "docs" / "extending.md").read_text().partition("## An experiment")[0]
    shown = re.findall(r"`(own_method/\w+\.py)`:\n\n```python\n(.*?)```", text, re.DOTALL)
    assert len(shown) == len(list((ROOT / "examples/own_method/own_method").glob("*.py"))) - 1  # all but __init__.py
    for name, code in shown:
        source = (ROOT / "examples" / "own_method" / name).read_text()
        assert source.endswith(code), name
        assert len(source.splitlines()) < 40, name


def test_the_figures_of_the_readme_are_those_of_results():
    rows = [row for name in ("cifar10", "compression") for row in read_rows(f"{name}_small.json")]
    ours = {row["experiment"]: (row["paper"], row["ours"], row["seconds"]) for row in rows}
    table = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \| ([\d.() ]+) \| ([\d.]+) min \|$", README, re.MULTILINE)
    assert len(table) >= 9
    for experiment, paper, accuracy, minutes in table:
        claimed, measured, seconds = ours[experiment]
        assert paper == (both(claimed["top1"], claimed.get("ensemble_top1"), ".1f") if claimed.get("top1") else "–")
        ensemble = measured.get("ensemble_top1")
        shown = both(measured["top1"]["mean"], ensemble["mean"] if "(" in accuracy else None, ".2f")
        assert accuracy.strip() == shown
        assert minutes == f"{seconds['mean'] / 60:.1f}"


def test_the_figures_of_the_methods_page_are_those_of_results():
    shown = re.findall(r"^(\| `[\w.= ]+` \|.*MiB \|.*)$", (ROOT / "docs" / "methods.md").read_text(), re.MULTILINE)
    measured = [row for row in read_rows("methods_small.json") if "ours" in row]
    assert len(shown) == len(measured) > 0
    for line, row in zip(shown, measured, strict=True):
        ensemble = f" ({row['ours']['ensemble_top1']['mean']:.2f})" if "ensemble_top1" in row["ours"] else ""
        name = re.sub(r"_cifar10_resnet32| plan\.epochs=\d+", "", row["experiment"])
        cells = [f"`{name}`", str(row["paper"]["top1"] or "–")]
        cells += [with_spread(row["ours"]["top1"]) + ensemble, f"{row['pflop']['total_train']:.5f}"]
        cells += [f"{row['memory_mb']:.0f} MiB", f"{row['seconds']['mean'] / 60:.1f} min"]
        assert line == f"| {' | '.join(cells)} |"


def read_rows(name: str) -> list[dict]:
    return json.loads((ROOT / "results" / name).read_text())["rows"]


def both(last: float, ensemble: float | None, form: str) -> str:
    return f"{last:{form}}" + (f" ({ensemble:{form}})" if ensemble is not None else "")


def test_the_figure_of_the_readme_shows_what_its_script_draws(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = runpy.run_path(str(ROOT / "scripts" / "readme_figure.py"))
    drawn = tmp_path / "drawn.svg"
    monkeypatch.setitem(script["main"].__globals__, "OUTPUT", drawn)
    script["main"]()
    shown = [re.findall(r">([^<>]+)</text>", path.read_text()) for path in (drawn, ROOT / "docs/figures/layerwise.svg")]
    assert shown[0] == shown[1]
    found = json.loads((ROOT / "results" / "vgg_memory.json").read_text())["vgg"]
    assert {f"{found[plan]['activations'] / 1024:.2f}" for plan in ("greedy", "joint")} <= set(shown[0])
