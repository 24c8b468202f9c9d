"""The documentation as a site: built without a warning, and every page opened in a real browser."""

from __future__ import annotations

import functools
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.judges import registry
from tests.judges.conftest import RunJudge
from tests.judges.registry import ROOT


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(judge: RunJudge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry.install(registry.named("mermaid"))
    built = tmp_path_factory.mktemp("site")
    ended = judge("mkdocs", "build", "--quiet", "--site-dir", built, environment={"NO_MKDOCS_2_WARNING": "1"})
    assert (ended.returncode, ended.stdout) == (0, "")
    return built


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def pages(site: Path) -> list[str]:
    """Return the address of every page below the site's."""
    found = [path.parent.relative_to(site).as_posix() for path in sorted(site.rglob("index.html"))]
    return [f"{page}/" if page != "." else "" for page in found]


def test_every_page_opens_wide_and_as_on_a_phone(node: RunJudge, site: Path, address: str) -> None:
    """Nothing is fetched from elsewhere, no link into the site is broken, and a word is found."""
    registry.install(registry.named("chromium"))
    chromium = shutil.which("chromium")
    assert chromium
    ended = node("site.mjs", chromium, address, json.dumps(pages(site)), "ack_wait")
    assert ended.returncode == 0, ended.stdout
    told = json.loads(ended.stdout)
    assert told["found"] == []
    assert [hit for hit in told["hits"] if "/reference/" in hit]


def test_every_document_is_a_page_and_every_how_to_is_in_the_navigation(site: Path) -> None:
    documents = {
        path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")
    }
    assert {f"{re.sub('README$', '', document).rstrip('/')}/" for document in documents} <= set(pages(site))
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    assert [
        each
        for each in documents
        if not each.startswith("decisions/0") and f"/{each.removesuffix('/README')}/" not in listed
    ] == []
