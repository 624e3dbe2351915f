"""Open pages of the built site in headless Chromium: ``check_site.py HTML``.

Every page is opened at 1280 and 390 pixels, light and dark. The check fails if an element is cut
off, if the page can be scrolled sideways, if a formula is not drawn, or if the page loads a file of
another host. It then searches the site for a few words. ``--screenshots`` also writes a picture of
every page. The check needs Python and Chromium, and no network.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

PAGES = [
    "index.html",
    "start.html",
    "guide.html",
    "theory.html",
    "howto/index.html",
    "howto/missing-values.html",
    "howto/defaults.html",
    "tutorials/index.html",
    "tutorials/lynx-hare.html",
    "plots.html",
    "measurements.html",
    "api.html",
    "generated/ekitools.run.html",
    "generated/ekitools.EKI.html",
]
SEARCHES = {  # a word, and pages that must be among the first ten results
    "missing": ["howto/missing-values.html", "data.html"],
    "failure": ["howto/failing-simulator.html", "failures.html"],
    "posterior": ["howto/intervals.html", "generated/ekitools.posterior.html"],
}
WIDTHS = (1280, 390)
THEMES = ("light", "dark")

# A page that opens the others in frames.
FRAME = (Path(__file__).parent / "check_site.html").read_text("utf-8")


class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of the site, and one page that opens the others."""

    frame = ""

    def do_GET(self) -> None:  # noqa: D102
        if self.path.startswith("/--frame--"):
            page = self.frame.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
        else:
            # the browser drops what it asked for when it opens the next page
            with contextlib.suppress(ConnectionError):
                super().do_GET()

    def log_message(self, *_) -> None:  # noqa: D102
        pass


def chromium() -> str | None:
    """The path of the browser, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def browse(browser, port, jobs, *options) -> str:
    """What the browser prints after it has done the jobs."""
    Handler.frame = FRAME.replace("JOBS", json.dumps(jobs))
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=600000",
            *options,
            f"http://127.0.0.1:{port}/--frame--",
        ]
        home = os.environ | {"HOME": profile}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=True, env=home
        ).stdout


def faults(answers) -> Iterator[str]:
    """Sentences about what is wrong."""
    for each in answers:
        if query := each.get("query"):
            first = [link.partition("?")[0].partition("#")[0] for link in each["results"][:10]]
            yield from (
                f"search for {query!r}: {page} is not among the first ten results: {first}"
                for page in SEARCHES[query]
                if page not in first
            )
        else:
            for found in dict.fromkeys(each["found"]):
                yield f"{each['page']} at {each['width']} px, {each['theme']}: {found}"


def main() -> None:
    """Check the site that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("html", type=Path)
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the pages")
    parser.add_argument("--height", type=int, default=1800, help="of the pictures, in pixels")
    parser.add_argument("--pages", nargs="+", default=PAGES)
    arguments = parser.parse_args()
    browser = chromium()
    if browser is None:
        sys.exit("Chromium is not installed")
    serve = partial(Handler, directory=arguments.html)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        views = [
            {"page": page, "width": width, "height": 900, "theme": theme}
            for page in arguments.pages
            for width in WIDTHS
            for theme in THEMES
        ]
        shown = {"width": 1280, "height": 900, "theme": "light"}
        searches = [{"page": f"search.html?q={word}", "query": word, **shown} for word in SEARCHES]
        printed = browse(browser, port, views + searches, "--dump-dom")
        match = re.search(r'<body id="answers">(.*?)</body>', printed, re.S)
        if match is None:
            sys.exit(f"the browser did not finish:\n{printed[-2000:]}")
        answers = json.loads(html.unescape(match[1]))
        if arguments.screenshots:
            arguments.screenshots.mkdir(parents=True, exist_ok=True)
            for view in views:
                stem = view["page"].removesuffix(".html").replace("/", "-")
                file = arguments.screenshots / f"{stem}-{view['width']}-{view['theme']}.png"
                job = {**view, "keep": True, "height": arguments.height}
                size = f"--window-size={view['width']},{arguments.height}"
                browse(browser, port, [job], size, f"--screenshot={file}")
        server.shutdown()
    wrong = list(faults(answers))
    print(f"{len(answers)} views and searches, {len(wrong)} faults")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
