"""MISA, MMIM and Self-MM by hand in PyTorch: `nn.LSTM` on packed sequences, PyTorch's Adam.

Written from the papers' equations, as the ports compute them; no padding is computed. Weights have
the published names, so that a port can load them and give the same loss. Options are those that
the ports have by default, without a BERT.

Reference: as in `keras_m3s.models.misa`, `mmim` and `self_mm`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Batch = dict[str, torch.Tensor]


def pack(x: torch.Tensor, lengths: torch.Tensor) -> Any:
    return pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)


class MISA(nn.Module):
    """See `keras_m3s.models.MISA`."""

    def __init__(self, widths: dict[str, int], hidden: int = 128, wide: int = 2048,
                 dropout: float = 0.5, transformer_dropout: float = 0.1) -> None:  # fmt: skip
        super().__init__()
        self.dropout = dropout
        for t, width in ((m[0], w) for m, w in widths.items()):
            if t != "t":
                lstm = {"batch_first": True, "bidirectional": True}
                setattr(self, f"{t}rnn1", nn.LSTM(width, width, **lstm))
                setattr(self, f"{t}layer_norm", nn.LayerNorm(2 * width))
                setattr(self, f"{t}rnn2", nn.LSTM(2 * width, width, **lstm))
                width = 4 * width
            project = {f"project_{t}": nn.Linear(width, hidden)}
            project[f"project_{t}_layer_norm"] = nn.LayerNorm(hidden)
            setattr(self, f"project_{t}", nn.ModuleDict(project))
            for kind, number in (("private", 3 if t == "a" else 1), ("recon", 1)):
                dense = {f"{kind}_{t}_{number}": nn.Linear(hidden, hidden)}
                setattr(self, f"{kind}_{t}", nn.ModuleDict(dense))
        self.shared = nn.ModuleDict({"shared_1": nn.Linear(hidden, hidden)})
        layer = nn.TransformerEncoderLayer(hidden, 2, wide, transformer_dropout)
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        fusion = {"fusion_layer_1": nn.Linear(6 * hidden, 3 * hidden)}
        self.fusion = nn.ModuleDict({**fusion, "fusion_layer_3": nn.Linear(3 * hidden, 1)})

    def utterance(self, t: str, x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        if t == "t":
            inside = torch.arange(x.shape[1], device=x.device) < length[:, None]
            return (x * inside[..., None]).sum(1) / length[:, None]
        sequence, (one, _) = getattr(self, f"{t}rnn1")(pack(x, length))
        sequence = getattr(self, f"{t}layer_norm")(pad_packed_sequence(sequence, True)[0])
        _, (two, _) = getattr(self, f"{t}rnn2")(pack(sequence, length))
        return torch.cat([one[0], two[0], one[1], two[1]], dim=1)

    def loss(self, x: Batch, y: torch.Tensor) -> torch.Tensor:
        original, private, shared, restored = {}, {}, {}, {}
        for m in ("text", "vision", "audio"):
            t = m[0]
            dense, norm = getattr(self, f"project_{t}").values()
            original[t] = norm(F.relu(dense(self.utterance(t, x[m], x[f"{m}_length"]))))
            (dense,) = getattr(self, f"private_{t}").values()
            private[t] = torch.sigmoid(dense(original[t]))
            shared[t] = torch.sigmoid(self.shared["shared_1"](original[t]))
            (dense,) = getattr(self, f"recon_{t}").values()
            restored[t] = dense(private[t] + shared[t])
        tokens = self.transformer_encoder(torch.stack([*private.values(), *shared.values()]))
        first, second = self.fusion.values()
        hidden = F.dropout(first(tokens.transpose(0, 1).flatten(1)), self.dropout, self.training)
        pairs = ("tv", "ta", "av")
        diff = sum(_difference(private[t], shared[t]) for t in "tva")
        diff = diff + sum(_difference(private[s], private[t]) for s, t in pairs)
        similarity = sum(_moments_apart(shared[s], shared[t]) for s, t in pairs) / 3
        restoring = sum(F.mse_loss(restored[t], original[t]) for t in "tva") / 3
        return F.mse_loss(second(F.relu(hidden)), y) + 0.3 * diff + similarity + restoring

    def steps(self) -> Callable[[torch.Tensor], None]:
        optimizer = torch.optim.Adam(self.parameters(), 1e-4)

        def step(loss: torch.Tensor) -> None:
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(self.parameters(), 1.0)
            optimizer.step()

        return step


def _difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    def unit(z: torch.Tensor) -> torch.Tensor:
        z = z - z.mean(0, keepdim=True)
        return z / (z.norm(dim=1, keepdim=True).detach() + 1e-6)

    return (unit(x).T @ unit(y)).square().mean()


def _moments_apart(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x_mean, y_mean = x.mean(0), y.mean(0)
    apart = (x_mean - y_mean).norm()
    for order in range(2, 6):
        moments = ((x - x_mean) ** order).mean(0) - ((y - y_mean) ** order).mean(0)
        apart = apart + moments.norm()
    return apart


class SequenceEncoder(nn.Module):
    """An LSTM's last state, then a linear layer."""

    def __init__(self, width: int, hidden: int, size: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(width, hidden, batch_first=True)
        self.linear_1 = nn.Linear(hidden, size)

    def forward(self, x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        return self.linear_1(self.rnn(pack(x, length))[1][0][0])


class _MutualInformation(nn.Module):
    """MMILB: `lld`, and H of the present rows and those of the batch before."""

    def __init__(self, x_width: int, y_width: int) -> None:
        super().__init__()

        def mlp() -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(x_width, y_width), nn.ReLU(), nn.Linear(y_width, y_width)
            )

        self.mlp_mu, self.mlp_logvar = mlp(), mlp()
        self.entropy_prj = nn.Sequential(nn.Linear(y_width, y_width // 4), nn.Tanh())
        self.before: tuple[torch.Tensor, torch.Tensor] | None = None

    def likelihood(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        square = (self.mlp_mu(x) - y) ** 2
        return -0.5 * (square * torch.exp(-self.mlp_logvar(x))).sum(-1).mean()

    def entropy(self, y: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = self.entropy_prj(y)
        before, self.before = self.before, (rows.detach(), labels)
        if before is not None:
            rows, labels = torch.cat([rows, before[0]]), torch.cat([labels, before[1]])
        total = rows.new_zeros(())
        for members in (rows[labels > 0], rows[labels < 0]):
            if len(members) > rows.shape[1]:
                centred = members - members.mean(0)
                total = total + 0.25 * torch.logdet(centred.T @ centred / len(members))
        return total


class _Predictive(nn.Module):
    """CPC."""

    def __init__(self, width: int, fusion: int) -> None:
        super().__init__()
        self.net = nn.Linear(fusion, width)

    def forward(self, x: torch.Tensor, fusion: torch.Tensor) -> torch.Tensor:
        x, predicted = F.normalize(x), F.normalize(self.net(fusion))
        return (torch.logsumexp(x @ predicted.T, -1) - (x * predicted).sum(-1)).mean()


class MMIM(nn.Module):
    """See `keras_m3s.models.MMIM`; its stage 1."""

    def __init__(self, widths: dict[str, int], hidden: int = 128, lstm: int = 16, size: int = 16,
                 dropout: float = 0.1) -> None:  # fmt: skip
        super().__init__()
        text = widths["text"]
        self.dropout, self.seen = dropout, 0
        self.visual_enc = SequenceEncoder(widths["vision"], lstm, size)
        self.acoustic_enc = SequenceEncoder(widths["audio"], lstm, size)
        self.mi_tv, self.mi_ta = _MutualInformation(text, size), _MutualInformation(text, size)
        self.cpc_zt, self.cpc_za = _Predictive(text, hidden), _Predictive(size, hidden)
        self.cpc_zv = _Predictive(size, hidden)
        self.fusion_prj = nn.ModuleDict(
            {
                "linear_1": nn.Linear(text + 2 * size, hidden),
                "linear_2": nn.Linear(hidden, hidden),
                "linear_3": nn.Linear(hidden, 1),
            }
        )

    def loss(self, x: Batch, y: torch.Tensor) -> torch.Tensor:
        text = x["text"][:, 0]
        audio = self.acoustic_enc(x["audio"], x["audio_length"])
        vision = self.visual_enc(x["vision"], x["vision_length"])
        first, second, head = self.fusion_prj.values()
        joined = torch.cat([text, audio, vision], dim=-1)
        fusion = F.dropout(joined, self.dropout, self.training)
        fusion = torch.tanh(second(torch.tanh(first(fusion))))
        predictive = sum(
            cpc(vector, fusion)
            for cpc, vector in (
                (self.cpc_zt, text),
                (self.cpc_zv, vision),
                (self.cpc_za, audio),
            )
        )
        pairs = ((self.mi_tv, vision), (self.mi_ta, audio))
        likelihood = sum(mi.likelihood(text, vector) for mi, vector in pairs)
        entropy = sum(mi.entropy(vector, y[:, 0]) for mi, vector in pairs)
        if self.seen <= 1:
            entropy = 0.0
        self.seen += 1
        return F.l1_loss(head(fusion), y) + 0.1 * (predictive - likelihood - entropy)

    def steps(self) -> Callable[[torch.Tensor], None]:
        stepped = [p for name, p in self.named_parameters() if not name.startswith("mi_")]
        optimizer = torch.optim.Adam(stepped, 1e-3, weight_decay=1e-4)

        def step(loss: torch.Tensor) -> None:
            self.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()

        return step


class SelfMM(nn.Module):
    """See `keras_m3s.models.SelfMM`."""

    def __init__(self, widths: dict[str, int], train_size: int, lstm: tuple[int, int] = (16, 64),
                 sizes: tuple[int, int] = (16, 32), post: tuple[int, ...] = (128, 64, 16, 32),
                 dropouts: tuple[float, ...] = (0.0, 0.1, 0.1, 0.0)) -> None:  # fmt: skip
        super().__init__()
        self.audio_model = SequenceEncoder(widths["audio"], lstm[0], sizes[0])
        self.video_model = SequenceEncoder(widths["vision"], lstm[1], sizes[1])
        self.kinds = ("fusion", "text", "audio", "video")
        inputs = {"text": widths["text"], "audio": sizes[0], "video": sizes[1]}
        inputs["fusion"] = sum(inputs.values())
        self.dropouts = dict(zip(self.kinds, dropouts, strict=True))
        for kind, width in zip(self.kinds, post, strict=True):
            for number, (i, o) in enumerate(((inputs[kind], width), (width, width), (width, 1)), 1):
                setattr(self, f"post_{kind}_layer_{number}", nn.Linear(i, o))
        self.labels = {kind: torch.zeros(train_size) for kind in self.kinds}
        self.features = {
            k: torch.zeros(train_size, w) for k, w in zip(self.kinds, post, strict=True)
        }
        self.visits = torch.zeros(train_size, dtype=torch.int64)

    def loss(self, x: Batch, y: torch.Tensor) -> torch.Tensor:
        vectors = {
            "text": x["text"][:, 0],
            "audio": self.audio_model(x["audio"], x["audio_length"]),
            "video": self.video_model(x["vision"], x["vision_length"]),
        }
        vectors["fusion"] = torch.cat([vectors[k] for k in self.kinds[1:]], dim=-1)
        predictions, features = {}, {}
        for kind in self.kinds:
            dense = [getattr(self, f"post_{kind}_layer_{n}") for n in (1, 2, 3)]
            dropped = F.dropout(vectors[kind], self.dropouts[kind], self.training)
            features[kind] = F.relu(dense[0](dropped))
            predictions[kind] = dense[2](F.relu(dense[1](features[kind])))[:, 0]
        index, truth = x["index"].long(), y[:, 0]
        seen = self.visits[index]
        labels = {k: torch.where(seen > 0, self.labels[k][index], truth) for k in self.kinds}
        loss = F.l1_loss(predictions["fusion"], truth)
        for kind in self.kinds[1:]:
            weight = torch.tanh((labels[kind] - labels["fusion"]).abs())
            loss = loss + (weight * (predictions[kind] - labels[kind]).abs()).mean()
        with torch.no_grad():
            self._visit(index, seen, labels, features)
        return loss

    def _visit(self, index: torch.Tensor, seen: torch.Tensor, labels: Batch, made: Batch) -> None:
        near = {kind: self._nearness(kind, made[kind]) for kind in self.kinds}
        truth, n = labels["fusion"], seen + 1
        for kind in self.kinds:
            if kind != "fusion" and near[kind] is not None and near["fusion"] is not None:
                own, fused = near[kind], near["fusion"]
                new = 0.5 * truth * own / (fused + 1e-8) + 0.5 * (truth + own - fused)
                mean = ((n - 1) * labels[kind] + 2 * new.clamp(-1, 1)) / (n + 1)
                labels[kind] = torch.where(seen > 0, mean, labels[kind])
        for kind in self.kinds:
            self.labels[kind][index] = labels[kind]
            self.features[kind][index] = made[kind].detach()
        self.visits[index] = n

    def _nearness(self, kind: str, features: torch.Tensor) -> torch.Tensor | None:
        distances = []
        for members in (self.labels[kind] > 0, self.labels[kind] < 0):
            rows = self.features[kind][members & (self.visits > 0)]
            if not len(rows):
                return None
            distances.append((features - rows.mean(0)).norm(dim=-1))
        positive, negative = distances
        return (negative - positive) / (positive + 1e-8)

    def steps(self) -> Callable[[torch.Tensor], None]:
        """Of the gradients of 4 batches, summed."""
        encoders = [*self.audio_model.parameters(), *self.video_model.parameters()]
        known = {id(p) for p in encoders}
        heads = [p for p in self.parameters() if id(p) not in known]
        optimizer = torch.optim.Adam(
            [
                {"params": encoders, "lr": 5e-3, "weight_decay": 1e-2},
                {"params": heads, "lr": 1e-3, "weight_decay": 1e-3},
            ]
        )
        count = 0

        def step(loss: torch.Tensor) -> None:
            nonlocal count
            count += 1
            loss.backward()
            if count % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()

        return step
