"""A report as one HTML page that needs nothing from elsewhere: no script, no font, no picture."""

import importlib.resources

from keras_m3s.report import figures
from keras_m3s.report.content import Content, Details, Figure, Table


def render(content: Content) -> str:
    """The page.

    Args:
        content: The report.
    """
    import jinja2

    folder = importlib.resources.files("keras_m3s.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.tests |= {
        "table": lambda block: isinstance(block, Table),
        "figure": lambda block: isinstance(block, Figure),
        "details": lambda block: isinstance(block, Details),
    }
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    return template.render(
        content=content,
        css=(folder / "style.css").read_text(encoding="utf-8"),
        panel=figures.panel_svg,
        swatch=figures.swatch_svg,
    )
