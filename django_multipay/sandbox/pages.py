"""HTML for people: one template environment, everything escaped by default."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

HERE = Path(__file__).parent
STATIC = HERE / "static"

# Hosted pages hold a buyer's name and amount; no cache may keep them.
PAGE_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}

_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **context: Any) -> str:
    return _environment.get_template(template).render(**context)


async def read_form(request: Request) -> dict[str, str]:
    """The text fields of a form; a page of ours has no others."""
    form = await request.form()
    return {name: value for name, value in form.items() if isinstance(value, str)}


def page(template: str, status: int = 200, **context: Any) -> HTMLResponse:
    return HTMLResponse(
        render(template, **context), status_code=status, headers=PAGE_HEADERS
    )
