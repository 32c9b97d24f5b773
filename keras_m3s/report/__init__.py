"""Runs side by side: tables for the terminal, and whole reports with the paper's numbers.

collect.py      run directories to records, put together where they compare
results.py      test results beside the paper's, tests of their differences
curves.py       learning curves, curves over missing rates, train x test matrices
build.py        all of it to the content of a report (content.py)
html.py, markdown.py, latex.py, figures.py      the content to files (write.py)
comparison.py   the short table that `train` prints
"""

from keras_m3s.report.comparison import comparison_rows, markdown_table, text_table
from keras_m3s.report.write import FORMATS, write_report

__all__ = ["FORMATS", "comparison_rows", "markdown_table", "text_table", "write_report"]
