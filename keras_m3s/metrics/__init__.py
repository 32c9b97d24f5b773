"""The metrics of the paper's section 4.3, as functions of arrays and as Keras metrics for `fit`."""

from keras_m3s.metrics.functions import (
    acc2,
    acc7,
    accuracy,
    classification_metrics,
    corr,
    f1,
    mae,
    regression_metrics,
    sentiment_f1,
    sims_accuracy,
    uar,
)
from keras_m3s.metrics.streaming import (
    PearsonCorrelation,
    SentimentAccuracy,
    SentimentF1,
    SevenClassAccuracy,
    UnweightedAverageRecall,
    WeightedF1,
)

__all__ = [
    "PearsonCorrelation",
    "SentimentAccuracy",
    "SentimentF1",
    "SevenClassAccuracy",
    "UnweightedAverageRecall",
    "WeightedF1",
    "acc2",
    "acc7",
    "accuracy",
    "classification_metrics",
    "corr",
    "f1",
    "mae",
    "regression_metrics",
    "sentiment_f1",
    "sims_accuracy",
    "uar",
]
