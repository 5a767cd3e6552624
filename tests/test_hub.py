"""`layerwise export --hub`: an upload to a stand-in for the Hub on this machine, by the real client library."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
import yaml

import layerwise
from helpers.commands import ROOT
from helpers.run_folders import results_of
from layerwise.__main__ import main


class Hub(ThreadingHTTPServer):
    """Takes what the client library sends to make a repository and to commit files to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.made: list[dict] = []
        self.tokens: set[str | None] = set()
        self.files: dict[str, bytes] = {}
        self.summaries: list[str] = []
        self.refuses = False


class Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hub: Hub = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refuses:
            self.answer(403, {"error": "You do not have the rights to create a model here"})
        elif self.path == "/api/repos/create":
            hub.made.append(json.loads(body))
            self.answer(200, {"url": f"{hub.address}/me/digits", "name": "me/digits"})
        elif "/preupload/" in self.path:
            files = [one["path"] for one in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]
            self.answer(200, {"files": modes})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "header":
                    hub.summaries.append(entry["value"]["summary"])
                else:
                    hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.answer(200, {"commitUrl": f"{hub.address}/me/digits/commit/{'0' * 40}", "commitOid": "0" * 40})
        else:
            self.answer(200, {"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self.answer(404, {"error": "not found"})

    def answer(self, status: int, content: dict) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def export(hub: Hub, home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A process of its own: the library reads its environment when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": "hf_stand_in",
        "HF_HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "layerwise", "export", *map(str, words), "--format", "torch_export"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_run_is_uploaded_with_a_card_and_loads_from_what_was_uploaded(trained, hub, tmp_path):
    folder = trained(precision="fp32", name="run")
    done = export(hub, tmp_path / "home", folder, "--hub", "me/digits", "--private")
    assert done.returncode == 0, done.stderr
    assert f"hub: {hub.address}/me/digits" in done.stdout
    assert hub.made[0]["name"] == "digits"
    assert hub.made[0]["organization"] == "me"
    assert hub.made[0].get("visibility", "private" if hub.made[0].get("private") else None) == "private"
    assert hub.tokens == {"Bearer hf_stand_in"}
    assert hub.summaries == ["run trained with layerwise"]
    stages = ["checkpoints/stage_1.safetensors", "checkpoints/stage_2.safetensors"]
    named = ["README.md", "config.yaml", "dataset.json", "depth2.pt2", "results.json"]
    assert sorted(hub.files) == sorted([*named, *stages])
    for name, content in hub.files.items():
        path = tmp_path / "downloaded" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(layerwise.load(tmp_path / "downloaded")(x), layerwise.load(folder)(x))

    card, rows = hub.files["README.md"].decode(), results_of(folder)["blocks"]
    _, header, text = card.split("---\n", 2)
    (entry,) = yaml.safe_load(header)["model-index"]
    (result,) = entry["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"name": "digits", "type": "digits"}
    assert result["metrics"] == [{"type": "accuracy", "value": rows[-1]["test"]["top1"]}]
    for row in rows:
        assert f"| {row['block']} | {row['test']['top1']:.2f} | {row['ensemble']['top1']:.2f} |" in text
    assert 'snapshot_download("me/digits")' in text
    assert "`depth2.pt2`" in text

    hub.refuses = True
    refused = export(hub, tmp_path / "home", folder, "--hub", "me/digits")
    assert refused.returncode != 0
    (message,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "--hub me/digits" in message
    assert "rights" in message
    assert "hf auth login" in message
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hub", "digits"], "'digits' is no repository: write USER/NAME"),
        (["--hub", "a/b/c"], "write USER/NAME"),
        (["--private"], "--private: is for a repository of --hub"),
    ],
)
def test_a_name_without_a_user_is_refused(tmp_path, capfd, words, message):
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path), *words])
    assert message in capfd.readouterr().err
