"""TFR-Net once more, in PyTorch's own layers and under the published names, for configurations that
the published numbers do not cover. Written from the paper's equations and the facts of the
published code, with dropout left out; and its training loop, batch by batch."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LETTERS = {"l": "text", "a": "audio", "v": "vision"}
NORM = "linear_trans_norm"


def box(**modules: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(modules)


class Encoder(nn.Module):
    """A transformer of pre-norm layers; sequences are `(batch, steps, dim)`."""

    def __init__(self, dim: int, heads: int, layers: int, causal: bool, positions: bool) -> None:
        super().__init__()
        self.dim, self.causal, self.positions = dim, causal, positions
        self.layers = nn.ModuleList(
            box(
                self_attn=nn.MultiheadAttention(dim, heads, batch_first=True),
                fc1=nn.Linear(dim, 4 * dim),
                fc2=nn.Linear(4 * dim, dim),
                layer_norms=nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)]),
            )
            for _ in range(layers)
        )
        self.layer_norm = nn.LayerNorm(dim)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        # In single precision, as published: this is what double precision then shows most of.
        table, half = torch.zeros(x.shape[1:]), self.dim // 2
        if self.positions:
            falls = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
            angles = torch.arange(1.0, x.shape[1] + 1)[:, None] * falls
            table[:, :half], table[:, half : 2 * half] = torch.sin(angles), torch.cos(angles)
        return math.sqrt(self.dim) * x + table.to(x.dtype) * (x[..., :1] != 0)

    def forward(self, x: torch.Tensor, source: torch.Tensor | None = None) -> torch.Tensor:
        steps, others = x.shape[1], (x if source is None else source).shape[1]
        query, key = torch.arange(steps)[:, None], torch.arange(others)[None]
        hidden = key > query + abs(others - steps) if self.causal else None
        x = self.embed(x)
        y = None if source is None else self.embed(source)
        for layer in self.layers:
            first, second = layer["layer_norms"]
            q = first(x)
            kv = q if y is None else first(y)
            x = x + layer["self_attn"](q, kv, kv, attn_mask=hidden, need_weights=False)[0]
            x = x + layer["fc2"](torch.relu(layer["fc1"](second(x))))
        return self.layer_norm(x)


class RestatedTFRNet(nn.Module):
    """Options as of `keras_m3s.models.TFRNet`; `widths` and `steps` by modality."""

    def __init__(self, widths: dict[str, int], steps: dict[str, int], **options: Any) -> None:
        super().__init__()
        self.options = options
        d, heads, layers = (options[k] for k in ("hidden_size", "heads", "attention_layers"))
        causal = options.get("causal", True)
        align, self.sizes = {}, {m: options[f"{m}_size"] for m in widths}
        for letter, m in LETTERS.items():
            kernel = options.get(f"{m}_kernel_size", {"l": 1, "a": 5, "v": 3}[letter])
            align[f"proj_{letter}"] = nn.Conv1d(
                widths[m], d, kernel, padding=kernel // 2, bias=False
            )
            own = options.get("self_attention_layers") or max(layers, 3)
            align[f"trans_{letter}_mem"] = Encoder(d, heads, own, causal, True)
            for other in "lav".replace(letter, ""):
                align[f"trans_{letter}_with_{other}"] = Encoder(d, heads, layers, causal, True)
            temporal = options["temporal_heads"]
            align[f"trans_{letter}_final"] = Encoder(steps[m], temporal, own, causal, False)
            generator = box(Model=box(linear=nn.Linear(3 * d, widths[m])))
            setattr(self, f"generator_{m[0]}", generator)
        self.align_subnet = box(Model=box(**align))
        gated = {
            f"{m}_encoder": box(
                gru=box(gru=nn.GRU(
                    3 * d, size, options["gru_layers"], bidirectional=True, batch_first=True
                )),
                cnn=nn.Conv1d(2 * size, 1, 3, padding=1),
                fc=nn.Linear(3 * d + 2 * size, size),
            )
            for m, size in self.sizes.items()
        }  # fmt: skip
        joined = sum(self.sizes.values())
        classifier = {
            NORM: nn.BatchNorm1d(joined),
            "linear_trans_hidden": nn.Linear(joined, options["classifier_size"]),
            "linear_trans_final": nn.Linear(options["classifier_size"], 1),
        }
        self.fusion_subnet = box(Model=box(**gated, classifier=box(**classifier)))

    def project(self, letter: str, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] == self.options["hidden_size"]:
            return x
        return self.align_subnet["Model"][f"proj_{letter}"](x.mT).mT

    def gate(self, m: str, h: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        part = self.fusion_subnet["Model"][f"{m}_encoder"]
        packed = pack_padded_sequence(h, length, batch_first=True, enforce_sorted=False)
        states, _ = part["gru"]["gru"](packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=h.shape[1])
        gate = torch.sigmoid(part["cnn"](states.mT)).mT
        vectors = torch.tanh(part["fc"](torch.cat([h, torch.tanh(states) * gate], -1)))
        return vectors.max(1).values

    def reconstruct(self, letter: str, h: torch.Tensor) -> torch.Tensor:
        final = self.align_subnet["Model"][f"trans_{letter}_final"]
        if self.options.get("reconstruction_axis") == "feature":
            x = final(h.mT).mT
        else:  # the batch is the sequence
            x = final(h.permute(2, 0, 1)).permute(1, 2, 0)
        m = LETTERS[letter]
        return getattr(self, f"generator_{m[0]}")["Model"]["linear"](x)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Of holed sequences, `{m}_length`, and `{m}_removed` with what the holes took."""
        align, x, h = self.align_subnet["Model"], {}, {}
        for letter, m in LETTERS.items():
            x[letter] = self.project(letter, batch[m])
        for letter in LETTERS:
            others = "lav".replace(letter, "")
            found = [align[f"trans_{letter}_mem"](x[letter])]
            found += [align[f"trans_{letter}_with_{o}"](x[letter], x[o]) for o in others]
            h[letter] = torch.cat(found, -1)
        out: dict[str, Any] = {}
        for letter, m in LETTERS.items():
            out[m] = self.gate(m, h[letter], batch[f"{m}_length"])
            out[f"generated_{m}"] = self.reconstruct(letter, h[letter])
            out[f"loss_{m}"] = self.error(out[f"generated_{m}"], batch[f"{m}_removed"])
        classifier = self.fusion_subnet["Model"]["classifier"]
        norm, hidden, final = classifier.values()
        vector = norm(torch.cat([out["text"], out["audio"], out["vision"]], -1))
        out["prediction"] = final(F.leaky_relu(hidden(vector)))
        return out

    def error(self, generated: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
        mask = (removed != 0).any(-1, keepdim=True).expand_as(removed).to(removed.dtype)
        x, y = generated * mask, removed
        kind = self.options.get("reconstruction_loss", "combine")
        if kind == "cmd":
            total = moments_apart(x, y)
        elif kind == "mse":
            total = F.mse_loss(x, y, reduction="sum")
        else:
            total = F.smooth_l1_loss(x, y, reduction="sum")
        if kind == "combine":
            total = total + self.options.get("similarity_weight", 0.0) * moments_apart(x, y)
        return total / (mask.sum() + 1e-4)

    def loss(self, found: dict[str, Any], y: torch.Tensor, with_reconstruction: bool = True) -> Any:
        total = F.l1_loss(found["prediction"], y)
        if with_reconstruction:
            for m, weight in (("text", 5.0), ("audio", 2.0), ("vision", 20.0)):
                total = total + self.options.get(f"{m}_weight", weight) * found[f"loss_{m}"]
        return total


def moments_apart(x: torch.Tensor, y: torch.Tensor) -> Any:
    x, y = x.flatten(0, 1), y.flatten(0, 1)
    total: Any = ((x.mean(0) - y.mean(0)).square().sum() + 1e-12).sqrt()
    for k in (2, 3):
        p, q = (((z - z.mean(0)) ** k).mean(0) for z in (x, y))
        total = total + ((p - q).square().sum() + 1e-12).sqrt()
    return total


def published_epoch(
    optimizer: torch.optim.Optimizer, losses: Iterable[Callable[[], torch.Tensor]]
) -> list[float]:
    """One epoch of the published loop; `losses` has a function for each batch."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    values = []
    for number, loss in enumerate(losses):
        if number % 4 == 0:
            optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_value_(parameters, 0.8)
        optimizer.step()
        if number % 4 == 3:
            optimizer.step()
        values.append(float(value.detach()))
    return values
