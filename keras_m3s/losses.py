"""Losses of the base models as pure functions, with finite values and gradients everywhere."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from keras import ops

Tensor: TypeAlias = Any
"""A tensor of the Keras backend."""

TINY = 1e-37
"""Squares below this count as zero: near float32's smallest normal number, GPUs flush to zero."""


def safe_norm(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Euclidean norm with gradient 0 at the origin, instead of NaN.

    Args:
        x: Float tensor.
        axis: Axis or axes to sum over; `None` for all.
        keepdims: Whether to keep the reduced axes with size 1.
    """
    squares = ops.sum(ops.square(x), axis=axis, keepdims=keepdims)
    # The inner `where` keeps sqrt'(0) = inf out of the gradient, where inf * 0 would be NaN.
    positive = squares > TINY
    root = ops.sqrt(ops.where(positive, squares, ops.ones_like(squares)))
    return ops.where(positive, root, ops.zeros_like(root))


def difference_loss(x: Tensor, y: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Soft orthogonality constraint between two representations of a batch.

    Both are centered over the batch and their rows scaled to unit length; the loss is the mean
    squared entry of X^T Y. No gradient flows through the lengths.

    Args:
        x: `(batch, dim)`.
        y: `(batch, other_dim)`.
        epsilon: Added to each length, so that a row of zeros stays zero.

    Returns:
        Scalar >= 0; 0 for a batch of 1.

    Reference: MISA, eq. (8), as in its published code (src/utils/functions.py, ec42fad).
    """
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)

    def unit_rows(z: Tensor) -> Tensor:
        z = z - ops.mean(z, axis=0, keepdims=True)
        length = ops.stop_gradient(safe_norm(z, axis=1, keepdims=True))
        return z / (length + epsilon)

    return ops.mean(ops.square(ops.matmul(ops.transpose(unit_rows(x)), unit_rows(y))))


def central_moment_discrepancy(x: Tensor, y: Tensor, moments: int = 5) -> Tensor:
    """Distance between two distributions: the sum over moments of the norm of their difference.

    Args:
        x: `(batch, dim)`.
        y: `(other_batch, dim)`.
        moments: Highest moment, >= 1.

    Returns:
        Scalar >= 0. The gradient of a moment that is equal on both sides is 0 (in a batch of 1 all
        central moments are); in the published code it is NaN.

    Reference: Zellinger et al., "Central moment discrepancy (CMD) for domain-invariant
    representation learning", ICLR 2017, without the scaling by the interval; MISA, eq. (7).
    """
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    mean_x, mean_y = ops.mean(x, axis=0), ops.mean(y, axis=0)
    distance = safe_norm(mean_x - mean_y)
    centered_x, centered_y = x - mean_x, y - mean_y
    power_x, power_y = centered_x, centered_y
    for _ in range(2, moments + 1):
        # Not `ops.power`: on some backends its gradient is NaN for a negative base.
        power_x, power_y = power_x * centered_x, power_y * centered_y
        distance = distance + safe_norm(ops.mean(power_x, axis=0) - ops.mean(power_y, axis=0))
    return distance


def domain_confusion(logits: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of a domain classifier, for adversarial training.

    Args:
        logits: For each domain, in the order of the classes, `(batch, domains)`.

    Returns:
        Scalar, the mean over all vectors of all domains.

    Reference: MISA's adversarial similarity (src/solver.py, `get_domain_loss`, ec42fad).
    """
    correct = [ops.log_softmax(values, axis=-1)[:, index] for index, values in enumerate(logits)]
    return -ops.mean(ops.concatenate(correct, axis=0))


def mean_squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference over all entries, with gradients for both arguments."""
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    return ops.mean(ops.square(x - y))
