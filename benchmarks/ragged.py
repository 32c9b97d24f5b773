"""Ragged input like CMU-MOSI's unaligned features, and steps of the ports and of `packed` on it.

Audio 375 x 5, vision 500 x 20, text 50 x 768, padded. Lengths are drawn so that their shares of the
padded length are those of the real visual sequences: mean .24, quartiles .14 and .30, 99 % below
.82. All three modalities of a row have nearly the same share, as they last equally long.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES = {"audio": (375, 5), "vision": (500, 20), "text": (50, 768)}
TINY = {"audio": (12, 5), "vision": (16, 4), "text": (6, 8)}
ROWS = {"misa": 128, "mmim": 32, "self_mm": 32}
"""Batch sizes of the M3S paper."""
BATCHES, TRAIN_SIZE = 4, 1284


def batches(rows: int, tiny: bool = False) -> list[tuple[dict[str, Any], Any]]:
    """`BATCHES` batches of features, lengths, row numbers, and their scores in [-3, 3]."""
    random = np.random.default_rng(0)
    made = []
    for number in range(BATCHES):
        x: dict[str, Any] = {"index": np.arange(rows, dtype="int32") + number * rows}
        x["index"] %= TRAIN_SIZE
        share = np.exp(random.normal(-1.6, 0.58, rows))
        for m, (steps, width) in (TINY if tiny else SHAPES).items():
            length = np.clip(share * random.uniform(0.9, 1.1, rows) * steps, 1, steps)
            length = length.astype("int32")
            values = random.normal(size=(rows, steps, width)).astype("float32")
            values[np.arange(steps) >= length[:, None]] = 0.0
            x[m], x[f"{m}_length"] = values, length
        made.append((x, random.uniform(-3, 3, (rows, 1)).astype("float32")))
    return made


def port(name: str, tiny: bool = False, xla: bool = False) -> Callable[[int], None]:
    """Plain training steps of a port with its published optimizer."""
    import keras

    import keras_m3s as m3s
    from benchmarks.three_lstms import fitting

    keras.utils.set_random_seed(0)
    kinds = {"misa": m3s.models.MISA, "mmim": m3s.models.MMIM, "self_mm": m3s.models.SelfMM}
    model = kinds[name](**({"train_size": TRAIN_SIZE} if name == "self_mm" else {}))
    compiled = xla or keras.backend.backend() == "jax"
    model.compile(model.published_optimizer(), jit_compile=compiled)
    return fitting(model, batches(8 if tiny else ROWS[name], tiny))


def packed(name: str, tiny: bool = False) -> Callable[[int], None]:
    """The same steps by hand in PyTorch."""
    import torch

    from benchmarks import packed as models

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = [
        ({k: torch.from_numpy(v).to(device) for k, v in x.items()}, torch.from_numpy(y).to(device))
        for x, y in batches(8 if tiny else ROWS[name], tiny)
    ]
    widths = {m: given[0][0][m].shape[-1] for m in SHAPES}
    if name == "self_mm":
        model: Any = models.SelfMM(widths, TRAIN_SIZE)
        for memory in (model.labels, model.features):
            memory.update({k: v.to(device) for k, v in memory.items()})
        model.visits = model.visits.to(device)
    else:
        model = {"misa": models.MISA, "mmim": models.MMIM}[name](widths)
    model.to(device)
    step, count = model.steps(), 0

    def run(steps: int) -> None:
        nonlocal count
        for _ in range(steps):
            x, y = given[count % len(given)]
            step(model.loss(x, y))
            count += 1
        if device == "cuda":
            torch.cuda.synchronize()

    return run
