"""Operations of PyTorch that its ONNX exporter lacks, or writes for constant shapes only."""

import contextlib
from collections.abc import Iterator
from typing import Any

FIRST_OPSET = 17
"""Version of ONNX's operator set from which they are written: the first with layer norms."""


@contextlib.contextmanager
def operations() -> Iterator[None]:
    """A context in which PyTorch's exporter knows them."""
    import torch

    parsed = torch.onnx.symbolic_helper.parse_args
    added = {
        "aten::take_along_dim": parsed("v", "v", "i")(_take_along_dim),
        "aten::layer_norm": parsed("v", "v", "v", "v", "f", "b")(_layer_norm),
    }
    for name, symbolic in added.items():
        torch.onnx.register_custom_op_symbolic(name, symbolic, FIRST_OPSET)
    try:
        yield
    finally:
        for name in added:
            torch.onnx.unregister_custom_op_symbolic(name, FIRST_OPSET)


def _take_along_dim(graph: Any, values: Any, index: Any, axis: int) -> Any:
    """`take_along_dim` of `(batch, steps, dim)` by `(batch, 1, 1)`, which the exporter lacks."""
    import torch

    ones = graph.op("Constant", value_t=torch.ones(2, dtype=torch.int64))
    wide = graph.op("Concat", ones, graph.op("Shape", values, start_i=-1), axis_i=0)
    return graph.op("GatherElements", values, graph.op("Expand", index, wide), axis_i=axis)


def _layer_norm(
    graph: Any, x: Any, shape: Any, scale: Any, bias: Any, epsilon: float, cudnn: bool
) -> Any:
    """`layer_norm` over the last axis.

    The exporter's own version needs a constant `shape`; that of Keras is computed.
    """
    del shape, cudnn
    return graph.op("LayerNormalization", x, scale, bias, epsilon_f=epsilon, axis_i=-1)
