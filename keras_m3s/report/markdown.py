"""A report as Markdown, its figures as files beside it."""

from keras_m3s.report.content import BEST, Cell, Content, Details, Figure, Table


def render(content: Content) -> str:
    """The text; figures are linked as `figures/<key>.svg`."""
    parts = [f"# {_text(content.title)}"]
    parts.append("\n".join(f"- {_text(name)}: {_text(value)}" for name, value in content.facts))
    parts += [f"> {_text(warning)}" for warning in content.warnings]
    for section in content.sections:
        parts.append(f"## {_text(section.title)}")
        if section.intro:
            parts.append(_text(section.intro))
        for block in section.blocks:
            parts += _block(block)
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Table | Figure | Details) -> list[str]:
    parts = [f"### {_text(block.title)}"]
    if isinstance(block, Table):
        parts.append(_table(block))
        parts += [_text(note) for note in block.notes]
    elif isinstance(block, Figure):
        alt = " ".join(panel.alt for panel in block.panels).replace("]", ")").replace("[", "(")
        parts.append(f"![{_text(alt)}](figures/{block.key}.svg)")
        parts += [_text(part) for part in (block.caption, *block.notes)]
    else:
        parts.append("\n".join(f"- {_text(k)}: {_text(v)}" for k, v in block.values))
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


def _text(text: str) -> str:
    """Characters that mean something in Markdown stand for themselves."""
    for sign in ("\\", "|", "*", "_", "`", "<", "#"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
