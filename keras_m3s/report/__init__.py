"""Comparison of runs: a short table for the terminal, and reports beside the paper's numbers.

records.py              run directories -> records
groups.py               records -> groups of runs that compare
results.py              test results beside the paper's (paper.py)
significance_tables.py  tests of significance (significance.py)
curves.py               learning curves, curves over missing rates, train x test matrices
build.py                all of these -> the content of a report (content.py)
write.py                content -> files, through html.py, markdown.py, latex.py and figures.py
comparison.py           the short table that `train` prints
"""

from keras_m3s.report.comparison import comparison_rows, markdown_table, text_table
from keras_m3s.report.write import FORMATS, write_report

__all__ = ["FORMATS", "comparison_rows", "markdown_table", "text_table", "write_report"]
