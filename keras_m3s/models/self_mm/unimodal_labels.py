"""Unimodal labels as Self-MM makes them: from where a feature lies between two class centres."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

FUSION = "fusion"
UNIMODAL: tuple[str, ...] = ("text", "audio", "vision")
KINDS: tuple[str, ...] = (FUSION, *UNIMODAL)
"""Order of the labels of a row; that of the fusion is the annotated one."""

EPSILON = 1e-8


class UnimodalLabels(keras.layers.Layer):
    """What Self-MM remembers of each row of its training data: four labels, four features.

    For rows at their n-th visit, with annotated label y_m, features f and label y_s of a modality:

        y_s   = y_m                                                       if n = 1
        D_k   = (|f_k - c_k-| - |f_k - c_k+|) / (|f_k - c_k+| + 1e-8)     k = m and each s
        y_new = clip(y_m D_s / (D_m + 1e-8) / 2 + (y_m + D_s - D_m) / 2, -H, H)
        y_s   = ((n - 1) y_s + 2 y_new) / (n + 1)                         if n > 1

    c_k+ and c_k- are the means of the remembered features f_k over the rows whose label y_k is
    positive, negative, as the previous batch left them.

    What the published code counts in epochs is counted here per row, in visits: no callback has to
    tell of epochs. With plain `fit` the two are the same. In M3S a row is visited in those epochs
    that draw it for a query batch, and its label stays the mean of what its visits made, later ones
    weighing more. The first visit sets a row's labels, so none need be filled in beforehand; rows
    not visited yet have no part in the centres.

    Everything is float32, whatever the model computes in: half precision cannot average thousands
    of rows.

    Args:
        train_size: Rows of the training data.
        sizes: Width of the feature of each of `KINDS`.
        label_bound: H, the largest absolute value of a label.
        exclude_zero: Whether a label of 0 is in neither class (MMSA) or positive (Self-MM).

    Reference: Yu et al., AAAI 2021, section 3.3; thuiar/Self-MM 1786283,
    trains/multiTask/SELF_MM.py, lines 246-299.
    """

    def __init__(
        self,
        train_size: int,
        sizes: Mapping[str, int],
        label_bound: float,
        exclude_zero: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.train_size = train_size
        self.sizes = dict(sizes)
        self.label_bound = label_bound
        self.exclude_zero = exclude_zero

    def build(self, input_shape: Any = None) -> None:
        def memory(name: str, shape: tuple[int, ...], dtype: str = "float32") -> keras.Variable:
            return self.add_weight(
                name=name,
                shape=shape,
                initializer="zeros",
                dtype=dtype,
                trainable=False,
                autocast=False,
            )

        self.labels = memory("labels", (self.train_size, len(KINDS)))
        self.visits = memory("visits", (self.train_size,), "int32")
        self.features = {
            kind: memory(f"{kind}_features", (self.train_size, self.sizes[kind])) for kind in KINDS
        }

    @property
    def memories(self) -> list[keras.Variable]:
        return [self.labels, self.visits, *self.features.values()] if self.built else []

    def read(self, index: Any, truth: Any) -> tuple[Any, Any]:
        """The labels of a batch before this visit.

        Args:
            index: Int `(batch,)`, rows.
            truth: Float `(batch,)`, annotated labels, which count at the first visit.

        Returns:
            Labels `(batch, 4)` in the order of `KINDS`; earlier visits `(batch,)` int.
        """
        visits = ops.take(self.visits, index, axis=0)
        labels = ops.take(self.labels, index, axis=0)
        return ops.where(visits[:, None] > 0, labels, truth[:, None]), visits

    def visit(self, index: Any, labels: Any, visits: Any, features: Mapping[str, Any]) -> None:
        """Remakes the labels of a batch and remembers its features.

        Args:
            index: Int `(batch,)`, rows. Of a row that occurs twice, one occurrence is kept.
            labels: From `read`.
            visits: From `read`.
            features: Of each of `KINDS`, `(batch, size)`; constants to any gradient.
        """
        values = {k: ops.stop_gradient(ops.cast(features[k], "float32")) for k in KINDS}
        remade = self._remade(labels, visits, values)
        self._write(self.labels, index, remade)
        self._write(self.visits, index, visits + 1)
        for kind in KINDS:
            self._write(self.features[kind], index, values[kind])

    def _write(self, memory: keras.Variable, index: Any, rows: Any) -> None:
        memory.assign(ops.scatter_update(ops.convert_to_tensor(memory), index[:, None], rows))

    def _remade(self, labels: Any, visits: Any, features: Mapping[str, Any]) -> Any:
        truth = labels[:, 0]
        fusion, fusion_known = self._nearness(FUSION, features[FUSION])
        n = ops.cast(visits + 1, "float32")
        columns = [truth]
        for column, s in enumerate(UNIMODAL, start=1):
            own, known = self._nearness(s, features[s])
            # A sum of exactly 0 would make NaN of a label 0.
            divisor = ops.where(fusion + EPSILON == 0, EPSILON, fusion + EPSILON)
            new = 0.5 * truth * own / divisor + 0.5 * (truth + own - fusion)
            new = ops.clip(new, -self.label_bound, self.label_bound)
            mean = ((n - 1) * labels[:, column] + 2 * new) / (n + 1)
            # Of an empty class there is no centre, and labels stay; the published code has NaN
            # from there on.
            remake = ops.logical_and(visits > 0, ops.logical_and(known, fusion_known))
            columns.append(ops.where(remake, mean, labels[:, column]))
        return ops.stack(columns, axis=1)

    def _nearness(self, kind: str, features: Any) -> tuple[Any, Any]:
        """D `(batch,)`, and whether both centres exist."""
        rows = ops.convert_to_tensor(self.features[kind])
        labels = ops.convert_to_tensor(self.labels)[:, KINDS.index(kind)]
        visited = ops.convert_to_tensor(self.visits) > 0
        positive = labels > 0 if self.exclude_zero else labels >= 0
        to_positive, any_positive = _distance(features, rows, ops.logical_and(visited, positive))
        to_negative, any_negative = _distance(features, rows, ops.logical_and(visited, labels < 0))
        nearness = (to_negative - to_positive) / (to_positive + EPSILON)
        return nearness, ops.logical_and(any_positive, any_negative)


def _distance(features: Any, rows: Any, members: Any) -> tuple[Any, Any]:
    """From each feature to the mean of the rows of a class; and whether the class has any."""
    member = ops.cast(members, rows.dtype)
    count = ops.sum(member)
    # Not a matrix product: accelerators may round its factors to 10 bits.
    centre = ops.sum(rows * member[:, None], axis=0) / ops.maximum(count, 1.0)
    return ops.sqrt(ops.sum(ops.square(features - centre), axis=-1)), count > 0
