"""A report as one self-contained HTML page: no scripts, no external fonts or images."""

import importlib.resources

from keras_m3s.report import figures
from keras_m3s.report.content import Content, Details, Figure, Table


def render(content: Content) -> str:
    """The page as text."""
    import jinja2

    folder = importlib.resources.files("keras_m3s.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.tests |= {
        "table": lambda element: isinstance(element, Table),
        "figure": lambda element: isinstance(element, Figure),
        "details": lambda element: isinstance(element, Details),
    }
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    return template.render(
        content=content,
        css=(folder / "style.css").read_text(encoding="utf-8"),
        panel=figures.panel_svg,
        swatch=figures.swatch_svg,
    )
