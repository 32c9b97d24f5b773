"""The options that the benchmarks share."""

import argparse

from benchmarks.interleave import CLOCKS

BACKENDS = {
    "jax": ("jax", False),
    "tensorflow": ("tensorflow", False),
    "tensorflow-xla": ("tensorflow", True),
    "torch": ("torch", False),
}
"""What the tables call it -> Keras' backend, and whether TensorFlow is to compile with XLA."""


def parser(description: str, rounds: int, steps: int = 0) -> argparse.ArgumentParser:
    """`--backends`, `--rounds`, `--clock`, `--tiny`, and `--steps` where a round has several."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    made.add_argument("--rounds", type=int, default=rounds)
    if steps:
        made.add_argument("--steps", type=int, default=steps, help="in a round")
    made.add_argument("--clock", choices=CLOCKS, default="wall", help="see `interleave`")
    made.add_argument("--tiny", action="store_true", help="smallest sizes: only whether it runs")
    return made
