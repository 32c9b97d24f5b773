"""A report as Markdown, with figures in files beside it."""

from keras_m3s.report.content import BEST, Cell, Command, Content, Element, Figure, Table


def render(content: Content) -> str:
    """The document; figures are linked as `figures/<key>.svg`."""
    parts = [f"# {_text(content.title)}"]
    parts.append("\n".join(f"- {_text(name)}: {_value(value)}" for name, value in content.facts))
    parts += [f"> {_text(warning)}" for warning in content.warnings]
    for section in content.sections:
        parts.append(f"## {_text(section.title)}")
        if section.intro:
            parts.append(_text(section.intro))
        for element in section.elements:
            parts += _element(element)
    return "\n\n".join(part for part in parts if part) + "\n"


def _element(element: Element) -> list[str]:
    parts = [f"### {_text(element.title)}"]
    if isinstance(element, Table):
        parts.append(_table(element))
        parts += [_text(note) for note in element.notes]
    elif isinstance(element, Figure):
        alt = " ".join(panel.alt for panel in element.panels).replace("]", ")").replace("[", "(")
        parts.append(f"![{_text(alt)}](figures/{element.key}.svg)")
        parts += [_text(part) for part in (element.caption, *element.notes)]
    else:
        parts.append("\n".join(f"- {_text(k)}: {_text(v)}" for k, v in element.values))
    return parts


def _table(table: Table) -> str:
    marks = ["---" if i < table.left else "---:" for i in range(len(table.header))]
    lines = [[_text(name) for name in table.header], marks]
    lines += [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    if cell.mark == BEST:
        text = f"**{text}**"
    return "<br>".join([text, *(_text(line) for line in cell.details)])


def _value(value: str) -> str:
    return f"`{value}`" if isinstance(value, Command) else _text(value)


def _text(text: str) -> str:
    """Text with the special characters of Markdown escaped."""
    for sign in ("\\", "|", "*", "_", "`", "<", "#"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
