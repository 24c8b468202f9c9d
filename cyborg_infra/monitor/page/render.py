"""Make HTML of the page's values. Whatever comes from a manifest, a message or a server is escaped, and says nothing that deceives an eye."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cyborg_infra.monitor.page.content import PageValues, Severity
from cyborg_infra.render.values import escape_control

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ICONS = {
    severity: f"{severity}.svg"
    for severity in (Severity.GOOD, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN)
}


@dataclass(frozen=True, slots=True)
class File:
    """A file that the page loads: it has another address whenever it has other content, and may be kept for ever."""

    address: str
    content: bytes
    media_type: str


def _read(path: Path) -> File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:12]
    return File(f"static/{path.stem}-{digest}{path.suffix}", content, MEDIA_TYPES[path.suffix])


FILES: Mapping[str, File] = {path.name: _read(path) for path in sorted(STATIC.iterdir())}


def _visible(value: object) -> object:
    """Return a value with control characters written out, before the template escapes it."""
    return escape_control(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    auto_reload=False,
)


def render_page(page: PageValues, reading: int, interval: float) -> str:
    """Return the page as HTML. `reading` is its number, `interval` the seconds until there may be another one."""
    return _ENVIRONMENT.get_template("page.html").render(
        page=page,
        reading=reading,
        interval=max(1, math.ceil(interval)),
        files={
            "css": FILES["page.css"].address,
            "js": FILES["page.js"].address,
            "icons": {
                severity: FILES[_ICONS.get(severity, _ICONS[Severity.UNKNOWN])].address
                for severity in Severity
            },
        },
    )
