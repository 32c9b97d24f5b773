"""Inner learning rates that are learned: Meta-SGD's alpha, one for each weight."""

from collections.abc import Sequence

import keras


@keras.saving.register_keras_serializable(package="keras_m3s")
class InnerRates(keras.layers.Layer):
    """Holds a trainable rate for each weight of given variables, in their shapes.

    Reference: Li et al., Meta-SGD, arXiv:1707.09835.
    """

    def __init__(self) -> None:
        super().__init__(name="inner_rates")
        self.rates: list[keras.Variable] = []

    def build_for(self, variables: Sequence[keras.Variable], rates: Sequence[float]) -> None:
        """Creates the rates.

        Args:
            variables: What they are the rates of.
            rates: First value of each.
        """
        for number, (variable, rate) in enumerate(zip(variables, rates, strict=True)):
            self.rates.append(
                self.add_weight(
                    name=f"rate_{number}",
                    shape=variable.shape,
                    dtype=variable.dtype,
                    initializer=keras.initializers.Constant(rate),
                )
            )
        self.built = True
