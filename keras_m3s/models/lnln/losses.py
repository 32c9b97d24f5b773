"""LNLN's losses beside the task's, at least in float32, over the samples that have a target.

Reference: core/losses.py of Haoyu-ha/LNLN, 80a052c.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_m3s.layers.centred_norm import precise

DOMINANT, COMPLETE = 1, 0
"""Classes of the discriminator: dominant features, features of complete text."""


def completeness_loss(estimated: Any, completeness: Any, measured: Any) -> Any:
    """Mean squared error of the estimated completeness of the text.

    Args:
        estimated: `(batch, 1)` in [0, 1].
        completeness: `(batch,)`, the target.
        measured: `(batch,)`, 1.0 for samples that count, else 0.0.
    """
    off = ops.square(precise(estimated)[:, 0] - precise(completeness))
    return ops.sum(off * measured) / ops.maximum(ops.sum(measured), 1.0)


def adversarial_loss(dominant: Any, complete: Any, measured: Any) -> Any:
    """Cross-entropy of the discriminator; the reversal of the gradient is in the model.

    Args:
        dominant: Logits `(batch, tokens, 2)` of the dominant features.
        complete: The same of the complete text's.
        measured: `(batch,)`, 1.0 for samples that have text, else 0.0.
    """
    logits = ((dominant, DOMINANT), (complete, COMPLETE))
    own = [ops.log_softmax(precise(x), axis=-1)[..., label] for x, label in logits]
    rows = ops.mean(own[0] + own[1], axis=1) / 2
    return -ops.sum(rows * measured) / ops.maximum(ops.sum(measured), 1.0)


def reconstruction_loss(
    restored: Mapping[str, Any], complete: Mapping[str, Any], measured: Mapping[str, Any]
) -> Any:
    """Mean squared error over all entries of all modalities; gradients flow into both sides.

    Args:
        restored: Modality -> `(batch, tokens, dim)`, made from the input with holes.
        complete: The same of the complete input.
        measured: Modality -> `(batch,)`, 1.0 for samples that have it, else 0.0.
    """
    total, rows = ops.zeros((), "float32"), ops.zeros((), "float32")
    for m, target in complete.items():
        off = precise(restored[m]) - precise(target)
        total = total + ops.sum(ops.mean(ops.square(off), axis=(1, 2)) * measured[m])
        rows = rows + ops.sum(measured[m])
    return total / ops.maximum(rows, 1.0)
