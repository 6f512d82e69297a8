"""HTML pages, as Jinja templates beside this file; everything put into them is escaped."""

from pathlib import Path
from typing import Any


def render(name: str, **values: Any) -> str:
    """A page from the template `<name>.j2`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(f"{name}.j2").render(**values)
