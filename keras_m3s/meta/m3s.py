"""M3S: missing modality-based meta sampling, Algorithm 1 of the paper.

    Input: data (X, Y); inner iterations K; rates alpha, beta; model f(.; theta); loss l
    while not converged:
        sample batches X1 and X2 from X                                  double batches of `data`
        X1~ = T(X1; F), X2~ = T(X2; F)                                   MissingModality
        theta_0 <- theta
        for n = 0 .. K-1:                                                maml.adapt
            theta_{n+1} <- theta_n - alpha grad_{theta_n} l(f(X1~; theta_n), Y1)
        theta* <- theta_K
        theta <- theta - beta grad_{theta*} l(f(X2~; theta*), Y2)        maml.gradient, optimizer

M3S is `MetaModel` with T: X1~ and X2~ are drawn once per step; all K inner steps use the same X1~.

Reference: "M3S: meta sampling for missing modalities", sections 3.2 and 3.3.
"""

from collections.abc import Mapping
from typing import Any

import keras

from keras_m3s.meta.meta_model import MetaModel
from keras_m3s.missing import MissingModality


@keras.saving.register_keras_serializable(package="keras_m3s")
class M3S(MetaModel):
    """Meta-trains a model on inputs with missing parts.

    Examples:
        >>> model = keras_m3s.M3S(model, missing=keras_m3s.MissingModality((0.4, 0.6), seed=0))
        >>> model.compile(keras.optimizers.Adam(1e-4), loss="mse")
        >>> model.fit(batches, epochs=40)

    Args:
        model: Any `keras.Model` that takes a dict of modalities.
        missing: The transform T(X; F); the default is the paper's medium level, 40 to 60 %.
        inner_steps: K, see `MetaModel`.
        inner_learning_rate: alpha, see `MetaModel`.
        first_order: See `MetaModel`.
        site: `"raw"` or `"encoded"`, see `WithMissing`.
        **kwargs: Options of `MetaModel` and `WithMissing`.

    Raises:
        ValueError: As `MetaModel` and `WithMissing`.

    Reference: M3S, Algorithm 1.
    """

    def __init__(
        self,
        model: keras.Model,
        missing: MissingModality | None = None,
        inner_steps: int = 1,
        inner_learning_rate: float | Mapping[str, float] = 1e-4,
        first_order: bool = True,
        site: str = "raw",
        **kwargs: Any,
    ) -> None:
        if missing is None:
            missing = MissingModality(axis="time" if site == "raw" else "feature")
        super().__init__(
            model,
            inner_steps=inner_steps,
            inner_learning_rate=inner_learning_rate,
            first_order=first_order,
            missing=missing,
            site=site,
            **kwargs,
        )
