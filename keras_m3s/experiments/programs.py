"""Compiled programs that one model leaves to the next of its kind, on JAX.

Keras' programs on JAX are functions of a model's whole state, which `fit` and `predict` pass to
them: another model of the same structure can run them. A study trains the same models from many
seeds, and to trace a program anew for each takes longer than to train a small model.
"""

import keras

from keras_m3s.experiments.config import Experiment

TRAINING = "training"


class Programs:
    """The programs of an experiment, for models of runs that differ from it in their seed only.

    Those of one experiment are kept; another takes their place. The models may differ only in the
    values of their variables, because the first one's code is what was traced. On other backends,
    whose programs hold the variables themselves, nothing is shared.
    """

    def __init__(self) -> None:
        self._experiment: Experiment | None = None
        self._first: dict[str, keras.Model] = {}

    def share(self, model: keras.Model, experiment: Experiment, use: str) -> None:
        """Gives a model the programs of the first one that had the same use, if there was one.

        Args:
            model: Compiled as it is to be used, and not used yet.
            experiment: Of its run.
            use: `TRAINING`, which validates too, or a pattern of missingness to predict under.
        """
        if keras.backend.backend() != "jax":
            return
        experiment = experiment.replace(seed=0)
        if experiment != self._experiment:
            self._experiment, self._first = experiment, {}
        first = self._first.setdefault(use, model)
        if first is model:
            return
        if use == TRAINING:
            model.train_function, model.test_function = first.train_function, first.test_function
        else:
            first.make_predict_function()
            model.predict_function = first.predict_function
