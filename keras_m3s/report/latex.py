"""A report as a LaTeX document for any engine, with figures as PDF files beside it."""

from collections.abc import Sequence

from keras_m3s.report.content import BEST, Cell, Content, Element, Figure, Table

PREAMBLE = r"""\documentclass[10pt,a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[margin=20mm]{geometry}
\usepackage{array,booktabs,graphicx,longtable,textcomp}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
"""

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_\allowbreak{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "·": r"$\cdot$",
    "†": r"$\dagger$",
    "–": "--",
    "\u202f": r"\,",
}

LONG = 30
"""Tables with more rows than this may break over pages."""

WIDE = 7
"""Tables with at least as many columns are scaled to the width of the page."""


def render(content: Content) -> str:
    """The document; figures are included as `figures/<key>.pdf`."""
    parts = [
        PREAMBLE + r"\begin{document}",
        rf"\title{{{_text(content.title)}}}\author{{}}\date{{}}\maketitle",
        r"\begin{description}",
        *(rf"\item[{_text(name)}] {_text(value)}" for name, value in content.facts),
        r"\end{description}",
        *(rf"\textbf{{{_text(warning)}}}" + "\n" for warning in content.warnings),
    ]
    for section in content.sections:
        parts.append(rf"\section{{{_text(section.title)}}}")
        parts.append(_text(section.intro))
        for element in section.elements:
            parts.append(_element(element))
    return "\n".join([*parts, r"\end{document}", ""])


def _element(element: Element) -> str:
    parts = [rf"\subsection*{{{_text(element.title)}}}"]
    if isinstance(element, Table):
        parts += [_table(element), *(_text(note) + "\n" for note in element.notes)]
    elif isinstance(element, Figure):
        width = min(3, len(element.panels)) / 3
        parts.append(rf"\includegraphics[width={width:.2f}\linewidth]{{figures/{element.key}.pdf}}")
        parts.append("")
        parts += [_text(part) + "\n" for part in (element.caption, *element.notes)]
    else:
        parts.append("; ".join(f"{_text(k)}: {_text(v)}" for k, v in element.values) + ".")
    return "\n".join(parts)


def _table(table: Table) -> str:
    columns = "".join("l" if i < table.left else "r" for i in range(len(table.header)))
    head = " & ".join(_text(name) for name in table.header) + r" \\"
    body = [line for row in table.rows for line in _row(row)]
    if len(table.rows) > LONG:
        columns = _breaking(table)
        lines = [r"{\scriptsize\setlength{\tabcolsep}{2pt}", rf"\begin{{longtable}}{{{columns}}}"]
        lines += [r"\toprule", head, r"\midrule", r"\endhead", *body, r"\bottomrule"]
        return "\n".join([*lines, r"\end{longtable}}"])
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body]
    inside = "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
    if len(table.header) >= WIDE:
        inside = r"\resizebox{\linewidth}{!}{%" + f"\n{inside}}}"
    return inside + "\n"


def _breaking(table: Table) -> str:
    """Column types whose words break, with widths in proportion to their longest cells."""
    longest = [min(40, max(len(row[i].text) for row in table.rows)) for i in range(table.left)]
    widths = [0.8 * length / sum(longest) for length in longest]
    words = [rf">{{\raggedright\arraybackslash}}p{{{width:.3f}\linewidth}}" for width in widths]
    return "".join(words) + "r" * (len(table.header) - table.left)


def _row(row: Sequence[Cell]) -> list[str]:
    """A row of a table, followed by a smaller one for each line of details."""
    cells = [rf"\textbf{{{_text(c.text)}}}" if c.mark == BEST else _text(c.text) for c in row]
    lines = [" & ".join(cells) + r" \\"]
    for number in range(max(len(cell.details) for cell in row)):
        small = [
            rf"{{\scriptsize {_text(c.details[number])}}}" if number < len(c.details) else ""
            for c in row
        ]
        lines.append(" & ".join(small) + r" \\")
    return lines


def _text(text: str) -> str:
    return "".join(SIGNS.get(sign, sign) for sign in text)
