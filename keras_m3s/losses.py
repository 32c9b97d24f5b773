"""Losses of the base models as pure functions, finite with finite gradients everywhere."""

from collections.abc import Sequence
from typing import Any

from keras import ops

TINY = 1e-37
"""Squares below are as good as zero: float32 hardly holds them, and the GPU flushes them."""


def safe_norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Euclidean norm whose gradient at the origin is 0 instead of NaN.

    Args:
        x: Float tensor.
        axis: Axis or axes to sum over; `None` for all.
        keepdims: Whether summed axes stay, with size 1.
    """
    squares = ops.sum(ops.square(x), axis=axis, keepdims=keepdims)
    # The inner `where` keeps sqrt' = inf out of the graph: inf * 0 would be NaN.
    positive = squares > TINY
    root = ops.sqrt(ops.where(positive, squares, ops.ones_like(squares)))
    return ops.where(positive, root, ops.zeros_like(root))


def difference_loss(x: Any, y: Any, epsilon: float = 1e-6) -> Any:
    """How far from orthogonal two representations of a batch are.

    Each is centred over the batch and its rows scaled to unit length; the loss is the mean squared
    entry of the matrix that correlates their features. The lengths count as constants.

    Args:
        x: `(batch, dim)`. y: `(batch, other_dim)`.
        epsilon: Added to each length; a row of zeros stays zero.

    Returns:
        Scalar >= 0; 0 for a batch of 1.

    Reference: MISA, eq. (8), as in its published code (src/utils/functions.py, ec42fad).
    """

    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)

    def unit_rows(z: Any) -> Any:
        z = z - ops.mean(z, axis=0, keepdims=True)
        length = ops.stop_gradient(safe_norm(z, axis=1, keepdims=True))
        return z / (length + epsilon)

    return ops.mean(ops.square(ops.matmul(ops.transpose(unit_rows(x)), unit_rows(y))))


def central_moment_discrepancy(x: Any, y: Any, moments: int = 5) -> Any:
    """Distance of two distributions by their means and central moments, feature by feature.

    Args:
        x: `(batch, dim)`. y: `(other_batch, dim)`.
        moments: Highest moment, >= 1.

    Returns:
        Scalar >= 0. Where moments coincide (always those above the first in a batch of 1) its
        gradient is 0; the published code gives NaN there.

    Reference: Zellinger et al., "Central moment discrepancy (CMD) for domain-invariant
    representation learning", ICLR 2017, without the scaling by the interval; MISA, eq. (7).
    """
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    mean_x, mean_y = ops.mean(x, axis=0), ops.mean(y, axis=0)
    distance = safe_norm(mean_x - mean_y)
    centred_x, centred_y = x - mean_x, y - mean_y
    power_x, power_y = centred_x, centred_y
    for _ in range(2, moments + 1):
        # Products, not `power`: that has no gradient for a negative base on some backends.
        power_x, power_y = power_x * centred_x, power_y * centred_y
        distance = distance + safe_norm(ops.mean(power_x, axis=0) - ops.mean(power_y, axis=0))
    return distance


def domain_confusion(logits: Sequence[Any]) -> Any:
    """Cross-entropy of telling which source each vector comes from.

    Args:
        logits: For each source, in the order of the classes, `(batch, sources)`.

    Returns:
        Scalar, the mean over all vectors of all sources.

    Reference: MISA's adversarial similarity (src/solver.py, `get_domain_loss`, ec42fad).
    """
    own = [ops.log_softmax(values, axis=-1)[:, index] for index, values in enumerate(logits)]
    return -ops.mean(ops.concatenate(own, axis=0))


def mean_squared_error(x: Any, y: Any) -> Any:
    """Mean over all entries; the gradient flows into both sides."""
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    return ops.mean(ops.square(x - y))
