"""The steps of `three_lstms` written by hand in PyTorch with `nn.LSTM`, and with learn2learn."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.three_lstms import INNER_RATE, MISSING, OUTER_RATE, ROWS, UNITS, batch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class ThreeLSTMs(nn.Module):
    """As `three_lstms.ThreeLSTMs`."""

    def __init__(self, widths: dict[str, int]) -> None:
        super().__init__()
        lstms = {m: nn.LSTM(width, UNITS, batch_first=True) for m, width in widths.items()}
        self.lstms = nn.ModuleDict(lstms)
        self.head = nn.Linear(UNITS * len(lstms), 1)

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        last = [lstm(x[m])[1][0][0] for m, lstm in self.lstms.items()]
        return self.head(torch.cat(last, dim=-1))


def with_holes(x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """T(X; F): a random run of 40 to 60 % of the steps of each modality is zero."""
    low, high = MISSING
    cut = {}
    for m, values in x.items():
        rows, steps, _ = values.shape
        rate, place = torch.rand(2, rows, 1, device=values.device)
        count = torch.floor(steps * (low + (high - low) * rate))
        start = torch.floor((steps - count + 1) * place)
        time = torch.arange(steps, device=values.device)
        hole = (time >= start) & (time < start + count)
        cut[m] = values.masked_fill(hole[..., None], 0.0)
    return cut


def _parts(tiny: bool) -> tuple[Any, Any, Any]:
    """Model and both halves of a batch, on the device."""
    torch.manual_seed(0)
    x, y = batch(2 * (4 if tiny else ROWS), tiny)
    model = ThreeLSTMs({m: values.shape[-1] for m, values in x.items()}).to(DEVICE)
    halves = [
        (
            {m: torch.from_numpy(values[n::2].copy()).to(DEVICE) for m, values in x.items()},
            torch.from_numpy(y[n::2].copy()).to(DEVICE),
        )
        for n in (0, 1)
    ]
    return model, *halves


def _finish() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def plain(tiny: bool = False) -> Callable[[int], None]:
    """A plain step."""
    model, (x, y), _ = _parts(tiny)
    optimizer = torch.optim.Adam(model.parameters(), OUTER_RATE)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        _finish()

    return run


def m3s(tiny: bool = False) -> Callable[[int], None]:
    """First order, the shortest way: the inner step is taken in a copy of the model."""
    model, (x1, y1), (x2, y2) = _parts(tiny)
    adapted = copy.deepcopy(model)
    theta, inner = list(model.parameters()), list(adapted.parameters())
    optimizer = torch.optim.Adam(theta, OUTER_RATE)

    def run(steps: int) -> None:
        for _ in range(steps):
            with torch.no_grad():
                torch._foreach_copy_(inner, theta)
            gradients = torch.autograd.grad(F.mse_loss(adapted(with_holes(x1)), y1), inner)
            with torch.no_grad():
                torch._foreach_add_(inner, gradients, alpha=-INNER_RATE)
            gradients = torch.autograd.grad(F.mse_loss(adapted(with_holes(x2)), y2), inner)
            for parameter, gradient in zip(theta, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
        _finish()

    return run


def learn2learn(tiny: bool = False) -> Callable[[int], None]:
    """First order MAML of learn2learn.

    Raises:
        ImportError: It is not installed.
    """
    from learn2learn.algorithms import MAML

    model, (x1, y1), (x2, y2) = _parts(tiny)
    maml = MAML(model, lr=INNER_RATE, first_order=True)
    optimizer = torch.optim.Adam(maml.parameters(), OUTER_RATE)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            learner = maml.clone()
            learner.adapt(F.mse_loss(learner(with_holes(x1)), y1))
            F.mse_loss(learner(with_holes(x2)), y2).backward()
            optimizer.step()
        _finish()

    return run
