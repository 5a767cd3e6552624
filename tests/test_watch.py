"""layerwise watch: what its page shows, that it follows files alone, and what its server refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from helpers.page import Page
from helpers.run_folders import results_of, rewrite_results
from layerwise.analysis import watching
from layerwise.analysis.watching import Watch
from layerwise.commands.watch import serve
from layerwise.core.errors import LayerwiseError
from layerwise.reporting.html.live import curves

HOSTILE = "<script>alert(1)</script>&"


@pytest.fixture
def run(trained) -> Path:
    return trained(report="true")


@pytest.fixture
def port(run) -> Iterator[int]:
    """Of a server that watches the folder of the run."""
    server = serve([run.parent], port=0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    assert server.server_address[0] == "127.0.0.1"
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port: int, path: str, host: str | None = None, method: str = "GET") -> tuple[int, str, str]:
    """Status, policy and text of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    found = answer.status, answer.headers.get("Content-Security-Policy", ""), answer.read().decode()
    connection.close()
    return found


def unfinished(run: Path) -> list[str]:
    """Takes the results of a run away, and returns the lines of its metrics."""
    (run / "results.json").unlink()
    return (run / "metrics.jsonl").read_text().splitlines(keepends=True)


def state(folder: Path) -> dict:
    return {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in folder.rglob("*")}


def test_the_page_shows_a_run_and_leads_to_its_report(run, port):
    before = state(run.parent)
    status, policy, text = ask(port, "/")
    page = Page(text)
    assert status == 200
    assert "script-src 'self'" in policy
    assert page.scripts == 1  # which is the page's own file
    assert page.loaded[:3] == ["data:,", "/live.css", "/live.js"]
    for words in (run.name, "completed", "100 %", f"{results_of(run)['final']['test_top1']:.2f} %"):
        assert words in page.words
    assert ask(port, "/rows")[2].strip() in text.replace("\n\n", "\n")
    (link,) = [address for address in page.loaded if address.startswith("/report/")]
    status, policy, report = ask(port, link)
    assert (status, report) == (200, (run / "report.html").read_text())
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert {ask(port, "/live.js")[0], ask(port, "/live.css")[0]} == {200}
    assert state(run.parent) == before  # no file was made, changed or locked


def test_it_follows_a_run_line_by_line(run):
    lines, metrics = unfinished(run), run / "metrics.jsonl"
    metrics.write_text(lines[0])
    watch = Watch([run.parent])
    (found,) = watch.refresh()
    assert (found.status, found.progress, found.place) == ("running", 0.25, "block 1, epoch 1 of 2")
    assert found.seconds_left == pytest.approx(3 * json.loads(lines[0])["seconds"])
    with metrics.open("a") as file:
        file.write("".join(lines[1:3]) + lines[3][:10])  # the last one is being written
    watch.refresh()
    assert (found.progress, found.place, len(found.lines)) == (0.75, "block 2, epoch 1 of 2", 3)
    with metrics.open("a") as file:
        file.write(lines[3][10:])
    watch.refresh()
    assert (found.progress, len(found.lines)) == (1.0, 4)
    metrics.write_text("".join(lines[:2]))  # a resumed run drops what is younger than its checkpoint
    watch.refresh()
    assert (found.progress, len(found.lines)) == (0.5, 2)
    assert len(curves(found.lines)) == 1
    assert not found.is_quiet
    found.changed -= watching.QUIET_AFTER + 1
    assert found.is_quiet


def test_new_runs_appear_and_removed_ones_go(run, trained, monkeypatch):
    monkeypatch.setattr(watching, "SECONDS_BETWEEN_SEARCHES", -1.0)
    watch = Watch([run.parent])
    assert len(watch.refresh()) == 1
    other = trained(seed=1)
    assert {found.folder.name for found in watch.refresh()} == {run.name, other.name}
    other.rename(other.parent.parent / "elsewhere")
    assert [found.folder.name for found in watch.refresh()] == [run.name]


def test_files_that_did_not_change_are_not_read_again(run, monkeypatch):
    watch = Watch([run.parent])
    watch.refresh()
    reads = []
    monkeypatch.setattr(watching, "read_results", lambda path: reads.append(path))
    monkeypatch.setattr(watching, "parse_line", lambda line: reads.append(line))
    monkeypatch.setattr(watching, "run_config", lambda folder: reads.append(folder))
    watch.refresh()
    assert reads == []


def test_a_damaged_run_is_named_and_read_again_once_it_is_whole(run, port):
    text = (run / "results.json").read_text()
    (run / "results.json").write_text("{")
    rows = ask(port, "/rows")[2]
    assert "unreadable" in rows
    assert "results.json is damaged" in rows
    (run / "results.json").write_text(text)
    assert "unreadable" not in ask(port, "/rows")[2]


def test_names_and_errors_in_files_show_as_text(run, port):
    results = results_of(run) | {"name": HOSTILE, "status": "failed", "error": HOSTILE}
    rewrite_results(run, results)
    text = ask(port, "/")[2]
    page = Page(text)
    assert page.words.count(HOSTILE) == 2
    assert page.scripts == 1


@pytest.mark.parametrize(
    ("path", "host", "method", "status"),
    [
        ("/", "evil.example", "GET", 403),
        ("/rows", "127.0.0.1.evil.example", "GET", 403),
        ("/", None, "POST", 501),
        ("/report/../../../etc/passwd", None, "GET", 404),
        ("/report/0123456789abcdef", None, "GET", 404),
        ("/page.js", None, "GET", 404),
    ],
)
def test_what_the_server_refuses(port, path, host, method, status):
    assert ask(port, path, host, method)[0] == status


def test_a_report_that_leads_out_of_the_folder_is_not_shown(run, port, tmp_path):
    (tmp_path / "secret").write_text("secret")
    link = next(address for address in Page(ask(port, "/")[2]).loaded if address.startswith("/report/"))
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(tmp_path / "secret")
    assert ask(port, link)[0] == 404
    assert "/report/" not in ask(port, "/rows")[2]


def test_a_taken_port_is_named(port, run):
    with pytest.raises(LayerwiseError, match=f"--port {port}: "):
        serve([run.parent], port)
