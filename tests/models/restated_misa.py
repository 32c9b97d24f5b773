"""MISA once more, in PyTorch's own layers and under the published names, for configurations that
the published numbers do not cover. Written from the paper's equations, with dropout left out."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LETTERS = {"t": "text", "v": "vision", "a": "audio"}


class RestatedMISA(nn.Module):
    """Options as of `keras_m3s.models.misa.MISA`; `widths` by modality."""

    def __init__(self, widths: dict[str, int], **options: Any) -> None:
        super().__init__()
        self.options = options
        hidden, classes = options["hidden_size"], options.get("outputs", 1)
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[options.get("rnn", "lstm")]
        self.letters = "tva" if options.get("text_encoder") == "rnn" else "va"
        for letter, modality in LETTERS.items():
            width = widths[modality]
            setattr(self, f"{letter}layer_norm", nn.LayerNorm(2 * width))
            if letter in self.letters:
                setattr(self, f"{letter}rnn1", rnn(width, width, bidirectional=True))
                setattr(self, f"{letter}rnn2", rnn(2 * width, width, bidirectional=True))
                width = 4 * width
            project = {f"project_{letter}": nn.Linear(width, hidden)}
            project[f"project_{letter}_layer_norm"] = nn.LayerNorm(hidden)
            setattr(self, f"project_{letter}", nn.ModuleDict(project))
            last = 3 if letter == "a" else 1
            for kind, number in (("private", last), ("recon", 1)):
                layer = nn.ModuleDict({f"{kind}_{letter}_{number}": nn.Linear(hidden, hidden)})
                setattr(self, f"{kind}_{letter}", layer)
        self.shared = nn.ModuleDict({"shared_1": nn.Linear(hidden, hidden)})
        if options.get("similarity") == "adversarial":
            self.discriminator = nn.ModuleDict(
                {
                    "discriminator_layer_1": nn.Linear(hidden, hidden),
                    "discriminator_layer_2": nn.Linear(hidden, 3),
                }
            )
        self.sp_discriminator = nn.ModuleDict({"sp_discriminator_layer_1": nn.Linear(hidden, 4)})
        self.fusion = nn.ModuleDict(
            {
                "fusion_layer_1": nn.Linear(6 * hidden, 3 * hidden),
                "fusion_layer_3": nn.Linear(3 * hidden, classes),
            }
        )
        layer = nn.TransformerEncoderLayer(
            hidden, options["transformer_heads"], options["transformer_size"], dropout=0.0
        )
        self.transformer_encoder = nn.TransformerEncoder(
            layer, num_layers=1, enable_nested_tensor=False
        )

    def utterance(self, letter: str, x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        if letter not in self.letters:
            mask = (torch.arange(x.shape[1])[None] < length[:, None]).float()
            return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        first, second = getattr(self, f"{letter}rnn1"), getattr(self, f"{letter}rnn2")

        def pack(sequence: torch.Tensor) -> Any:
            return pack_padded_sequence(sequence, length, enforce_sorted=False)

        packed, final1 = first(pack(x.transpose(0, 1)))
        normed = getattr(self, f"{letter}layer_norm")(pad_packed_sequence(packed)[0])
        _, final2 = second(pack(normed))
        if isinstance(final1, tuple):
            final1, final2 = final1[0], final2[0]
        return torch.cat([final1[0], final2[0], final1[1], final2[1]], dim=1)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Everything by its published name, with the term of similarity as `loss_sim`."""
        activation = getattr(torch, self.options.get("activation", "relu"))
        found: dict[str, Any] = {}
        orig, private, shared, recon = {}, {}, {}, {}
        for letter, m in LETTERS.items():
            h = self.utterance(letter, batch[m], batch[f"{m}_length"].long())
            found[f"utterance_{letter}"] = h
            dense, norm = getattr(self, f"project_{letter}").values()
            orig[letter] = norm(activation(dense(h)))
            (dense,) = getattr(self, f"private_{letter}").values()
            private[letter] = torch.sigmoid(dense(orig[letter]))
            shared[letter] = torch.sigmoid(self.shared["shared_1"](orig[letter]))
            (dense,) = getattr(self, f"recon_{letter}").values()
            recon[letter] = dense(private[letter] + shared[letter])
        tokens = torch.stack([*private.values(), *shared.values()])
        flat = self.transformer_encoder(tokens).transpose(0, 1).flatten(1)
        first, second = self.fusion.values()
        found["preds"] = second(activation(first(flat)))
        found["loss_recon"] = sum(F.mse_loss(recon[k], orig[k]) for k in LETTERS) / 3
        found["loss_sim"] = self.similarity(shared)
        return found

    def similarity(self, shared: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.options.get("similarity") == "adversarial":
            first, second = self.discriminator.values()
            activation = getattr(torch, self.options.get("activation", "relu"))
            scale, logits = self.options.get("reverse_grad_weight", 1.0), []
            for h in shared.values():
                h = h.clone()
                h.register_hook(lambda gradient: -scale * gradient)
                logits.append(second(activation(first(h))))
            truth = torch.arange(3).repeat_interleave(len(logits[0]))
            return F.cross_entropy(torch.cat(logits), truth)

        def moments(h: torch.Tensor) -> list[torch.Tensor]:
            return [h.mean(0), *(((h - h.mean(0)) ** k).mean(0) for k in (2, 3, 4, 5))]

        total = torch.zeros(())
        for one, other in (("t", "v"), ("t", "a"), ("a", "v")):
            for p, q in zip(moments(shared[one]), moments(shared[other]), strict=True):
                total = total + torch.linalg.vector_norm(p - q)
        return total / 3
