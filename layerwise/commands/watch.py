"""Follows runs in the browser: a page on this machine that shows running and finished runs from their files.

    layerwise watch outputs
    layerwise watch outputs other/outputs --port 8000

The page has a row per run: its status and progress, the curve of its training loss, its result on the test set and a
link to its report. It asks for news every three seconds while it is seen. The server answers this machine alone, loads
nothing from elsewhere and only reads files: it takes no lock and writes nothing, so it disturbs no run. Ctrl-C ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

from layerwise.analysis.watching import Watch, report_of
from layerwise.commands.arguments import Parser, named
from layerwise.core.errors import LayerwiseError
from layerwise.reporting.html.live import live_page, live_rows

PORT = 8642

STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'"
"""What the page may load: its own script and style, and nothing that stands in it."""

BOXED = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:; "
BOXED += "style-src 'unsafe-inline'; base-uri 'none'"
"""A report is a file that anybody may have written: it runs apart from the page and can ask for nothing."""

ASSETS = {"live.js": "text/javascript", "live.css": "text/css"}


def main(words: Sequence[str]) -> None:
    parser = Parser("watch", __doc__)
    parser.add_argument("folders", nargs="+", type=named, metavar="FOLDER", help="of runs, or one that will hold runs")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 takes a free one")
    options = parser.parse_args(words)
    for folder in options.folders:
        if not folder.is_dir():
            raise LayerwiseError(f"{folder}: no such folder.")
    server = serve(options.folders, options.port)
    print(f"watching on http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


def serve(folders: Sequence[Path], port: int) -> ThreadingHTTPServer:
    """Returns a server that answers this machine alone.

    Raises:
        LayerwiseError: the port is taken, or no port.
    """
    pages = Pages(folders)

    class Handler(_Handler):
        answer = pages.answer

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise LayerwiseError(f"--port {port}: {error}. Give another one, or --port 0 for any that is free.") from error
    server.daemon_threads = True
    return server


class Pages:
    """What the server answers, by path. One request at a time reads the files."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._watch, self._tops = Watch(folders), [str(folder) for folder in folders]
        self._lock = threading.Lock()

    def answer(self, path: str) -> tuple[str, str, bytes] | None:
        """Returns content type, policy and content; None where there is no such page."""
        name = path.partition("?")[0].strip("/")
        if name in ASSETS:
            return (
                ASSETS[name],
                STRICT,
                files("layerwise.reporting.html").joinpath("assets").joinpath(name).read_bytes(),
            )
        with self._lock:
            runs = self._watch.refresh()
            if name == "":
                return "text/html", STRICT, live_page(runs, self._tops).encode(errors="replace")
            if name == "rows":
                return "text/html", STRICT, live_rows(runs).encode(errors="replace")
        report = next((report_of(run.folder) for run in runs if name == f"report/{run.id}"), None)
        try:
            return None if report is None else ("text/html", BOXED, report.read_bytes())
        except OSError:
            return None


class _Handler(BaseHTTPRequestHandler):
    """Answers GET for this machine's own names; a page elsewhere cannot ask by a name that it made lead here."""

    answer: Callable[[str], tuple[str, str, bytes] | None]

    def do_GET(self) -> None:
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(403)
            return
        found = type(self).answer(self.path)
        if found is None:
            self.send_error(404)
            return
        kind, policy, content = found
        self.send_response(200)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content))}
        headers |= {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing of requests."""
