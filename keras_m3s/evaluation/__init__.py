"""How much any compiled Keras model withstands: tables, comparisons, a callback."""

from keras_m3s.evaluation.callback import RobustnessCallback
from keras_m3s.evaluation.compare import Comparison, compare
from keras_m3s.evaluation.robustness import robustness
from keras_m3s.evaluation.table import RobustnessTable

__all__ = ["Comparison", "RobustnessCallback", "RobustnessTable", "compare", "robustness"]
