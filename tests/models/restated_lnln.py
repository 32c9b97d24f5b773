"""LNLN once more, in PyTorch's own operations and under the published names, for configurations that
the published numbers do not cover. Written from the equations of the reference sheet."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

LETTERS = {"l": "text", "a": "audio", "v": "vision"}


def attention(q: Any, k: Any, v: Any, heads: int) -> torch.Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        for name in "qkv":
            setattr(self, f"norm_{name}", nn.LayerNorm(dim))
        maps = {f"to_{name}": nn.Linear(dim, heads * size, bias=False) for name in "qkv"}
        if not (heads == 1 and size == dim):
            maps["to_out"] = nn.ModuleList([nn.Linear(heads * size, dim)])
        self.fn = nn.ModuleDict(maps)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        q = self.fn["to_q"](self.norm_q(x))
        k, v = self.fn["to_k"](self.norm_k(z)), self.fn["to_v"](self.norm_v(z))
        out = attention(q, k, v, self.heads)
        return self.fn["to_out"][0](out) if "to_out" in self.fn else out


class FeedForward(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = nn.ModuleDict(
            {"net": nn.ModuleDict({"0": nn.Linear(dim, inner), "3": nn.Linear(inner, dim)})}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.fn["net"].values()
        return second(F.gelu(first(self.norm(x))))


def layers(dim: int, depth: int, heads: int, size: int, inner: int) -> nn.ModuleDict:
    pairs = [[Attention(dim, heads, size), FeedForward(dim, inner)] for _ in range(depth)]
    return nn.ModuleDict({"layers": nn.ModuleList(map(nn.ModuleList, pairs))})


class Transformer(nn.Module):
    def __init__(self, steps: int, tokens: int, dim: int, **sizes: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, steps + tokens, dim))
        if tokens:
            self.extra_token = nn.Parameter(torch.zeros(1, tokens, dim))
        self.encoder = layers(dim, **sizes)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if hasattr(self, "extra_token"):
            x = torch.cat([self.extra_token.expand(len(x), -1, -1), x], dim=1)
        states = [x + self.pos_embedding[:, : x.shape[1]]]
        for attend, feed in self.encoder["layers"]:
            x = states[-1]
            x = x + attend(x, x)
            states.append(x + feed(x))
        return states


class Cross(nn.Module):
    def __init__(self, steps: int, dim: int, **sizes: int) -> None:
        super().__init__()
        self.pos_embedding_s = nn.Parameter(torch.randn(1, steps + 1, dim))
        self.pos_embedding_t = nn.Parameter(torch.randn(1, steps + 1, dim))
        self.extra_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.CrossTransformerEncoder = layers(dim, **sizes)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        token = self.extra_token.expand(len(source), -1, -1)
        source = torch.cat([token, source], dim=1) + self.pos_embedding_s
        target = torch.cat([token, target], dim=1) + self.pos_embedding_t
        for attend, feed in self.CrossTransformerEncoder["layers"]:
            target = target + attend(target, source)
            target = target + feed(target)
        return target


class Hyper(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, inner = heads, dim // heads * heads
        for number in (1, 2, 3, 4):
            setattr(self, f"norm{number}", nn.LayerNorm(dim))
        names = ("to_q", "to_k_ta", "to_v_ta", "to_k_tv", "to_v_tv")
        maps: dict[str, nn.Module] = {n: nn.Linear(dim, inner, bias=False) for n in names}
        if heads > 1:
            maps["to_out"] = nn.ModuleList([nn.Linear(inner, dim)])
        self.fn = nn.ModuleDict(maps)

    def forward(self, dominant: Any, audio: Any, vision: Any, hyper: Any) -> torch.Tensor:
        q = self.fn["to_q"](self.norm1(dominant))
        total: Any = 0
        for letter, x in (("a", self.norm2(audio)), ("v", self.norm3(vision))):
            k, v = self.fn[f"to_k_t{letter}"](x), self.fn[f"to_v_t{letter}"](x)
            total = total + attention(q, k, v, self.heads)
        if "to_out" in self.fn:
            total = self.fn["to_out"][0](total)
        return self.norm4(hyper) + total


class RestatedLNLN(nn.Module):
    """The model on text states.

    Args:
        widths: Modality -> width of its features.
        steps: Modality -> largest number of steps.
        dim: Width of all representations.
        tokens: Tokens of a modality.
        discriminator: Width of its hidden layer.
        sizes: Part -> `depth`, `heads`, `size`, `inner`.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        steps: Mapping[str, int],
        dim: int,
        tokens: int,
        discriminator: int,
        sizes: Mapping[str, Mapping[str, int]],
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.h_p = nn.Parameter(torch.ones(1, tokens, dim))
        self.h_hyper = nn.Parameter(torch.ones(1, tokens, dim))

        def transformer(part: str, steps: int, tokens: int = 0) -> Transformer:
            return Transformer(steps, tokens, dim, **sizes[part])

        for letter, m in LETTERS.items():
            parts = [nn.Linear(widths[m], dim), transformer("encoder", steps[m], tokens)]
            setattr(self, f"proj_{letter}", nn.ModuleList(parts))
        self.proxy_dominate_modality_generator = transformer("proxy", 3 * tokens, tokens)
        pair = {"0": nn.Linear(dim, discriminator), "2": nn.Linear(discriminator, 2)}
        self.effective_discriminator = nn.ModuleDict(pair)
        pair = {"0": nn.Linear(dim, dim // 2), "2": nn.Linear(dim // 2, 1)}
        self.completeness_check = nn.ModuleList(
            [transformer("completeness", tokens, 1), nn.ModuleDict(pair)]
        )
        self.reconstructor = nn.ModuleList(transformer("reconstructor", tokens) for _ in range(3))
        hyper = (Hyper(dim, sizes["hyper"]["heads"]) for _ in range(sizes["hyper"]["depth"]))
        self.dmml = nn.ModuleList(
            [
                transformer("language", tokens),
                nn.ModuleDict({"layers": nn.ModuleList(nn.ModuleList([h]) for h in hyper)}),
                Cross(tokens, dim, **sizes["fusion"]),
                nn.Linear(dim, 1),
            ]
        )

    def features(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {}
        for letter, m in LETTERS.items():
            dense, transformer = getattr(self, f"proj_{letter}")
            found[m] = transformer(dense(batch[m]))[-1][:, : self.tokens]
        return found

    def forward(
        self, holed: Mapping[str, Any], complete: Mapping[str, Any], rate: Any, y: Any
    ) -> dict[str, torch.Tensor]:
        """Prediction, completeness and all losses, the total with the published factors."""
        h, whole = self.features(holed), self.features(complete)
        check, dense = self.completeness_check
        token = check(h["text"])[-1][:, 0]
        w = torch.sigmoid(dense["2"](F.leaky_relu(dense["0"](token), 0.1)))
        begun = torch.cat([self.h_p.expand(len(w), -1, -1), h["audio"], h["vision"]], dim=1)
        proxy = self.proxy_dominate_modality_generator(begun)[-1][:, : self.tokens]
        proxy.register_hook(torch.neg)
        dominant = (1 - w[..., None]) * proxy + w[..., None] * h["text"]
        language, layered, cross, head = self.dmml
        states = language(dominant)
        hyper = self.h_hyper.expand(len(w), -1, -1)
        for (layer,), state in zip(layered["layers"], states, strict=False):
            hyper = layer(state, h["audio"], h["vision"], hyper)
        prediction = head(cross(hyper, states[-1])[:, 1:].mean(1))
        order: Sequence[str] = ("audio", "vision", "text")
        restored = [net(h[m])[-1] for m, net in zip(order, self.reconstructor, strict=True)]
        rows = torch.cat([dominant, whole["text"]]).flatten(0, 1)
        first, second = self.effective_discriminator.values()
        truth = torch.tensor([1, 0]).repeat_interleave(len(rows) // 2)
        found = {
            "prediction": prediction,
            "w": w,
            "completeness": F.mse_loss(w, 1 - rate.reshape(w.shape)),
            "adversarial": F.cross_entropy(second(F.leaky_relu(first(rows), 0.1)), truth),
            "reconstruction": F.mse_loss(
                torch.cat(restored, dim=1), torch.cat([whole[m] for m in order], dim=1)
            ),
        }
        found["loss"] = (
            F.mse_loss(prediction, y)
            + 0.9 * found["completeness"]
            + 0.8 * found["adversarial"]
            + 0.1 * found["reconstruction"]
        )
        return found
