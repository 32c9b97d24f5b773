"""PyTorch checkpoints: every name accounted for, every form of file, nothing half-loaded."""

import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from keras_m3s.layers.recurrent import GRU, LSTM
from keras_m3s.models.torch_import.checkpoints import load_torch_checkpoint
from keras_m3s.models.torch_import.weights import (
    TorchWeight,
    batch_norm,
    conv,
    conv_over_words,
    embedding,
    gru,
    linear,
    lstm,
)


class Toy(keras.Model):
    """Two dense layers under names that need the stripping."""

    torch_unused = (r"head\.unused\..*",)
    torch_renames = ((r"^Model\.", ""),)

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = keras.layers.Dense(3), keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.head(self.body(inputs))

    def torch_weights(self) -> Iterator[TorchWeight]:
        yield from linear("body", self.body)
        yield from linear("head", self.head)


def toy() -> Toy:
    model = Toy()
    model(np.zeros((1, 2), "float32"))
    return model


def state() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"body.weight": (3, 2), "body.bias": (3,), "head.weight": (1, 3), "head.bias": (1,)}
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def assert_loaded(model: Toy) -> None:
    s, x = state(), np.ones((2, 2), "float32")
    expected = (x @ s["body.weight"].T + s["body.bias"]) @ s["head.weight"].T + s["head.bias"]
    found = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "Model.", "module.Model."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_names_and_wrappers(prefix: str, wrapper: str | None) -> None:
    named: dict[str, Any] = {prefix + name: array for name, array in state().items()}
    model = toy()
    load_torch_checkpoint(model, named if wrapper is None else {wrapper: named, "epoch": 3})
    assert_loaded(model)


def test_what_is_loaded_is_a_copy() -> None:
    """JAX takes arrays that lie at multiples of 64 bytes as they are."""
    named = state()
    for name, array in named.items():
        memory = np.empty(array.nbytes + 64, "uint8")
        first = -memory.ctypes.data % 64
        named[name] = memory[first : first + array.nbytes].view("float32").reshape(array.shape)
        named[name][:] = array
    model = toy()
    load_torch_checkpoint(model, named)
    for array in named.values():
        array += 1  # as PyTorch does that trains on
    assert_loaded(model)


def test_files(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {name: torch.tensor(array) for name, array in state().items()}
    for name in ("a.pth", "a.pt", "a.std", "a.bin"):
        torch.save(tensors, tmp_path / name)
    safetensors.save_file(state(), tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **state())
    for path in sorted(tmp_path.iterdir()):
        model = toy()
        load_torch_checkpoint(model, path)
        assert_loaded(model)
    model = toy()
    load_torch_checkpoint(model, tensors)
    assert_loaded(model)


def test_folder_of_sub_networks(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    for part in ("body", "head"):
        tensors = {
            f"module.{name.removeprefix(part + '.')}": torch.tensor(array)
            for name, array in state().items()
            if name.startswith(part)
        }
        torch.save(tensors, tmp_path / f"12_net_{part}.pth")
    model = toy()
    load_torch_checkpoint(model, tmp_path)
    assert_loaded(model)
    (tmp_path / "13_net_body.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="each once.*12_net_body.pth and 13_net_body.pth"):
        load_torch_checkpoint(model, tmp_path)


@pytest.mark.once
def test_all_that_does_not_fit_is_listed_and_nothing_loaded() -> None:
    wrong = state()
    wrong["tail.weight"] = np.zeros((2, 2), "float32")
    wrong["head.weight"] = np.zeros((1, 4), "float32")
    wrong["head.unused.weight"] = np.zeros(3, "float32")
    del wrong["body.bias"]
    model = toy()
    before = [np.array(v) for v in model.get_weights()]
    with pytest.raises(ValueError) as caught:
        load_torch_checkpoint(model, wrong)
    message = str(caught.value)
    assert "- unknown: tail.weight (2, 2)" in message
    assert "- missing: body.bias" in message
    assert "- misshapen: head.weight (1, 4)" in message
    assert "unused" not in message
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.once
def test_names_left_aside_on_request() -> None:
    extra = {**state(), "bert.weight": np.zeros(2, "float32")}
    model = toy()
    with pytest.raises(ValueError, match=r"unknown: bert\.weight"):
        load_torch_checkpoint(model, extra)
    load_torch_checkpoint(model, extra, ignore=[r"bert\..*"])
    assert_loaded(model)


@pytest.mark.once
def test_a_name_that_comes_twice() -> None:
    twice = {**state(), "Model.body.bias": np.zeros(3, "float32")}
    with pytest.raises(ValueError, match=r"once.*'body\.bias'"):
        load_torch_checkpoint(toy(), twice)


@pytest.mark.once
def test_unbuilt_model() -> None:
    with pytest.raises(ValueError, match="must be built.*unbuilt Toy.*Call it once"):
        load_torch_checkpoint(Toy(), state())


@pytest.mark.once
def test_bad_files(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 1), tmp_path / "whole.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"weight": "text"}, tmp_path / "text.pt")
    (tmp_path / "cut.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "weights.h5").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    expected = {
        "whole.pt": "must hold a state dict and nothing else.*save `model.state_dict",
        "list.pt": "must hold a state dict. Received: list",
        "text.pt": r"must map names to tensors.*weight \(str\)",
        "cut.pth": "must hold a state dict",
        "weights.h5": r"must end in one of.*weights\.h5",
        "folder": "has none",
        "objects.npz": "must hold numbers only",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message):
            load_torch_checkpoint(toy(), tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_torch_checkpoint(toy(), tmp_path / "nowhere.pt")


@pytest.mark.once
def test_a_pickle_that_runs_code_does_not(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (pathlib.Path.touch, (ran,))

    torch.save({"body.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="are not loaded"):
        load_torch_checkpoint(toy(), tmp_path / "evil.pth")
    assert not ran.exists()


def assigned(weights: Iterator[TorchWeight], module: Any) -> None:
    """Every array of a PyTorch module to its variable."""
    arrays = {f"m.{name}": tensor.numpy() for name, tensor in module.state_dict().items()}
    for weight in weights:
        weight.variable.assign(weight.to_keras(*(arrays[name] for name in weight.names)))


def close(found: Any, expected: Any) -> None:
    found = keras.ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_layouts(kind: str, bidirectional: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    made, listed, ours = {"lstm": (torch.nn.LSTM, lstm, LSTM), "gru": (torch.nn.GRU, gru, GRU)}[
        kind
    ]
    module = made(3, 4, bidirectional=bidirectional, batch_first=True)
    layer = ours(4, bidirectional=bidirectional)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    layer.build(x.shape)
    assigned(listed("m", layer), module)
    close(layer(x)[0], module(torch.tensor(x))[0])


def test_an_lstm_of_one_bias_is_refused() -> None:
    layer = LSTM(4, recurrent_bias=False)
    layer.build((None, 5, 3))
    with pytest.raises(ValueError, match="two biases.*recurrent_bias=True"):
        list(lstm("m", layer))


def test_other_layouts() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    last = {"data_format": "channels_last"}

    x = random.normal(size=(2, 6, 3)).astype("float32")
    layer, module = keras.layers.Conv1D(4, 2, **last), torch.nn.Conv1d(3, 4, 2)
    layer.build(x.shape)
    assigned(conv("m", layer), module)
    close(layer(x), module(torch.tensor(x).mT).mT)

    layer, module = keras.layers.Conv1D(4, 2, **last), torch.nn.Conv2d(1, 4, (2, 3))
    layer.build(x.shape)
    assigned(conv_over_words("m", layer), module)
    close(layer(x), module(torch.tensor(x)[:, None])[..., 0].mT)

    image = random.normal(size=(2, 5, 6, 3)).astype("float32")
    layer, module = keras.layers.Conv2D(4, (2, 3), **last), torch.nn.Conv2d(3, 4, (2, 3))
    layer.build(image.shape)
    assigned(conv("m", layer), module)
    close(layer(image), module(torch.tensor(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    layer, module = keras.layers.BatchNormalization(epsilon=1e-5), torch.nn.BatchNorm1d(3)
    module(torch.tensor(x[0]))  # moves the statistics
    layer.build((None, 3))
    assigned(batch_norm("m", layer), module)
    close(layer(x[1]), module.eval()(torch.tensor(x[1])))

    layer, module = keras.layers.Embedding(5, 3), torch.nn.Embedding(5, 3)
    layer.build((None, 2))
    assigned(embedding("m", layer), module)
    close(layer(np.array([[0, 4]])), module(torch.tensor([[0, 4]])))
