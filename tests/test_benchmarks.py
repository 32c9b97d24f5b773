"""The benchmarks run, at tiny sizes and in this process, and compare like with like."""

import importlib
import sys
import time

import keras
import numpy as np
import pytest

from benchmarks import interleave, tables
from keras_m3s import models
from keras_m3s.models.torch_import.checkpoints import load_torch_checkpoint

pytestmark = pytest.mark.once


def here(cases, rounds, steps, clock):
    """`interleave.interleaved` without processes."""
    times = {}
    for case in cases:
        interleave.found(case.make)(**case.arguments)(steps)
        times[case.name] = np.full(rounds, 1.0)
    return times


@pytest.mark.parametrize("script", ["meta_step", "functional", "consistency", "by_hand", "ports"])
def test_scripts_run(script, monkeypatch, capsys):
    pytest.importorskip("torch")
    module = importlib.import_module(f"benchmarks.{script}")
    monkeypatch.setattr(module, "interleaved", here)
    if script == "by_hand":
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    options = ["--tiny", "--rounds", "2", "--steps", "1", "--backends", "jax"]
    monkeypatch.setattr(sys, "argv", [script, *options])
    # All ratios are 1: only the ports must be faster than that.
    assert module.main() == (script == "ports")
    printed = capsys.readouterr().out
    assert "| 1.00   |" in printed and ("learn2learn is not" in printed) == (script == "by_hand")


def test_memory_of_a_step():
    from benchmarks import memory

    given = {"inner_steps": None, "xla": False, "tiny": True}
    process, (size,) = memory.measured(given, rounds=1)
    batch = 4 * 4 * 5 * (3 + 2 + 4)
    weights = 4 * 256 * sum(width + 64 + 2 for width in (3, 2, 4))
    assert process > size > batch + 3 * weights  # these and two moments of Adam


def slow(seconds):
    def run(steps):
        time.sleep(seconds * steps)

    return run


def test_cases_are_timed_in_their_process():
    cases = [
        interleave.Case(f"{s}", "jax", "tests.test_benchmarks:slow", {"seconds": s})
        for s in (0.01, 0.03)
    ]
    times = interleave.interleaved(cases, rounds=2, steps=3)
    assert [t.shape for t in times.values()] == [(2,), (2,)]
    for case in cases:
        assert times[case.name].min() >= case.arguments["seconds"]
    worker = interleave.Worker("jax")
    with pytest.raises(RuntimeError, match="no_such"):
        worker.ask("benchmarks.interleave:no_such")
    worker.stop()


def test_claims():
    good, bad = tables.Claim("a / b", [1, 2, 9], 2.0), tables.Claim("c / d", [3], 2.0, "a wall.")
    text = tables.of_claims([good, bad, tables.Claim("e / f", [1])])
    assert good.holds and not bad.holds
    assert "| a / b | 2.00   | 1.50 to 5.50 | 2       | yes |" in text
    assert text.endswith("c / d: a wall.")


def test_a_page_keeps_what_was_not_measured_again():
    from benchmarks import __main__ as main

    table = tables.of_claims([tables.Claim("a / b", [3], 2.0)])
    made = {
        s: main.section(s, t, "a machine", "wall")
        for s, t in {"ports": table, "memory": "x"}.items()
    }
    page = main.page(made, "bench")
    assert main.sections_of(page) == made
    assert "Missed:\n\n- a / b | 3.00" in page
    again = main.page(
        {**main.sections_of(page), "ports": main.section("ports", "y", "another", "cpu")}, "bench"
    )
    assert "a machine" in again and "another" in again and "All that is claimed was" in again


PORTS = {
    "misa": (
        lambda: models.MISA(8, dropout=0.0, transformer_size=9, transformer_dropout=0.0),
        lambda packed, w: packed.MISA(w, 8, 9, 0.0, 0.0),
    ),
    "mmim": (
        lambda: models.MMIM(8, dropout=0.0, mi_gradients=True),
        lambda packed, w: packed.MMIM(w, 8, dropout=0.0),
    ),
    "self_mm": (
        lambda: models.SelfMM(1284, post_text_dropout=0.0, post_audio_dropout=0.0),
        lambda packed, w: packed.SelfMM(w, 1284, dropouts=(0.0,) * 4),
    ),
}


@pytest.mark.parametrize("name", PORTS)
def test_packed_models_lose_what_the_ports_lose(name):
    """Losses of two batches, three times in turn: what is remembered of them counts too."""
    torch = pytest.importorskip("torch")
    from benchmarks import packed, ragged

    torch.manual_seed(0)
    batches = ragged.batches(12, tiny=True)[:2]
    batches = batches * 3
    make_port, make_other = PORTS[name]
    port = make_port()
    other = make_other(packed, {m: batches[0][0][m].shape[-1] for m in ragged.SHAPES})
    port.compile(keras.optimizers.SGD(0.0))
    port.fit(*batches[0], batch_size=12, verbose=0)  # makes the weights, and memories: forgotten
    for variable in port.non_trainable_variables:
        if variable.path.split("/")[-1] != "seed_generator_state":
            variable.assign(keras.ops.zeros_like(variable))
    load_torch_checkpoint(port, other.state_dict())
    for x, y in batches:
        ours = port.fit(x, y, batch_size=12, shuffle=False, verbose=0).history["loss"][0]
        given = {key: torch.from_numpy(value) for key, value in x.items()}
        theirs = other.loss(given, torch.from_numpy(y)).item()
        assert ours == pytest.approx(theirs, rel=1e-4), name
