# ruff: noqa: INP001 - docs is no package
"""What mkdocs asks of us: the README as the first page, links that leave docs/, mermaid from its package, llms.txt.

`mkdocs.yml` names it; it runs in the environment of the tools that `make site` installs.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File  # type: ignore[import-not-found, unused-ignore]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "https://github.com/genbrain/cyborg-infra/blob/main"
MERMAID = ROOT / ".judges" / "npm" / "node_modules" / "mermaid" / "dist" / "mermaid.min.js"
_LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Add to the navigation what is in a section's folder and has no place of its own there yet."""
    listed = _pages([list(entry.values()) for entry in config.nav])
    for folder, section in (
        ("how-to", "How-to guides"),
        ("reference", "Reference"),
        ("explanation", "Explanation"),
    ):
        (pages,) = [entry[section] for entry in config.nav if section in entry]
        found = sorted(
            path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / folder).glob("*.md")
        )
        pages += [page for page in found if page not in listed]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files that are not in docs/."""
    readme = _LINK.sub(_from_root, (ROOT / "README.md").read_text(encoding="utf-8"))
    files.append(File.generated(config, "index.md", content=readme))
    files.append(File.generated(config, "assets/mermaid.min.js", abs_src_path=str(MERMAID)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead a link that leaves docs/ to the repository, but one to the README to the first page."""
    folder = posixpath.dirname(page.file.src_uri)

    def led(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[1]))
        return f"]({SOURCE}/{target.removeprefix('../')})" if target.startswith("../") else found[0]

    return _LINK.sub(led, markdown)


def on_post_build(config: Any) -> None:
    """Write llms.txt: which page is about what, for who reads without a browser."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for section, pages in (next(iter(entry.items())) for entry in config.nav):
        lines += [
            f"## {section}",
            "",
            *(f"- [{_title(page)}]({_url(config, page)})" for page in _pages(pages)),
            "",
        ]
    (Path(config.site_dir) / "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def _from_root(found: re.Match[str]) -> str:
    """Return the README's link as one of docs/."""
    inside, _, target = found[1].partition("docs/")
    return f"]({target})" if not inside else f"]({SOURCE}/{found[1]})"


def _pages(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for each in (entry.values() if isinstance(entry, dict) else entry) for page in _pages(each)]


def _title(page: str) -> str:
    file = ROOT / "README.md" if page == "index.md" else ROOT / "docs" / page
    return file.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def _url(config: Any, page: str) -> str:
    path = page.removesuffix(".md").removesuffix("index").removesuffix("README").rstrip("/")
    return f"{config.site_url}{path}/" if path else config.site_url
