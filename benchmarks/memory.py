"""Peak memory of a step of M3S, K = 5, over that of a plain step; and what second order takes.

    python -m benchmarks.memory

In the setting of `three_lstms`, each case in a process of its own. Peak memory is that of the whole
process, frameworks and compiling included, and besides that of a step alone: its batch, weights,
the optimizer's state, and what it takes on top at most. On a CPU that is the growth of resident
memory within some steps, whose peak the Linux kernel keeps, over what is resident between them; on
a GPU what the backend has allocated at most.
"""

import ctypes
import gc
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

from benchmarks.interleave import Worker
from benchmarks.options import BACKENDS, parser
from benchmarks.tables import Claim, of_claims, table

AT_MOST = 1.3
PLAIN, FIRST = "plain", "M3S K=5"
CASES: dict[str, dict[str, Any]] = {
    PLAIN: {"inner_steps": None},
    "plain, 64 rows": {"inner_steps": None, "double": True},
    "M3S K=1": {"inner_steps": 1},
    FIRST: {"inner_steps": 5},
    "M3S K=1, second order": {"inner_steps": 1, "first_order": False},
    "M3S K=5, second order": {"inner_steps": 5, "first_order": False},
}
LIMIT = (
    "a step of M3S holds 64 rows where the plain step holds 32, the rows with their holes beside "
    "the rows themselves, and theta_K beside theta. K adds little, as K = 1 shows; the plain step "
    "of the same 64 rows takes more."
)


def resident(which: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(which))) * 1024


def give_back_what_is_free() -> None:
    """From now on and at once: else a peak finds room in what an earlier one left."""
    mmap_threshold, trim_threshold = -3, -1
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, 2**16)
    libc.mallopt(trim_threshold, 2**16)
    libc.malloc_trim(0)


def peak_of(run: Any, steps: int = 3) -> int:
    """Bytes that steps take at most, over what is held between them."""
    gc.collect()
    give_back_what_is_free()
    before = resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    run(steps)
    return resident("VmHWM") - before


def device_peak() -> int | None:
    """Bytes allocated on a GPU at most so far; `None` on a CPU."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    if keras.backend.backend() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats()
        return None if stats is None else stats["peak_bytes_in_use"]
    return None


class Peak(NamedTuple):
    """Bytes.

    Attributes:
        process: Of the whole process, up to the end of its first steps.
        step: Of a step, once for each round.
    """

    process: int
    step: list[int]


def measured(arguments: dict[str, Any], rounds: int) -> Peak:
    """What training takes in this process, which is fresh."""
    give_back_what_is_free()
    import keras

    from benchmarks import three_lstms

    arguments = dict(arguments)
    double = arguments.pop("double", False)
    tiny, plain = arguments.pop("tiny"), arguments["inner_steps"] is None
    rows = (4 if tiny else three_lstms.ROWS) * (2 if double or not plain else 1)
    model, batch = three_lstms.model(**arguments), three_lstms.batch(rows, tiny)
    run = three_lstms.fitting(model, [batch])
    run(3)
    process = resident("VmHWM")
    if (peak := device_peak()) is not None:
        return Peak(process, [peak] * rounds)
    values = [*model.variables, *model.optimizer.variables]
    held = sum(keras.ops.convert_to_numpy(v).nbytes for v in values)
    held += sum(array.nbytes for array in keras.tree.flatten(batch))
    return Peak(process, [held + peak_of(run) for _ in range(rounds)])


def main() -> int:
    """Prints sizes and ratios; 1 where a ratio is more than claimed."""
    made = parser(__doc__, rounds=5)
    made.set_defaults(backends=["jax", "tensorflow", "torch"])
    arguments = made.parse_args()
    rows, claims = [], []
    for name in arguments.backends:
        backend, xla = BACKENDS[name]
        peaks = {}
        for case, given in CASES.items():
            worker = Worker(backend)
            given = {**given, "xla": xla, "tiny": arguments.tiny}
            peak = peaks[case] = worker.ask("benchmarks.memory:measured", given, arguments.rounds)
            worker.stop()
            sizes = (np.median(peak.step), peak.process)
            rows.append((f"{name}: {case}", *(f"{size / 2**20:.1f}" for size in sizes)))
        whole = np.array([peaks[FIRST].process / peaks[PLAIN].process])
        claims.append(Claim(f"{name}, process: {FIRST} / {PLAIN}", whole, AT_MOST))
        claims += [
            Claim(
                f"{name}, step: {case} / {PLAIN}",
                np.sort(peaks[case].step) / np.sort(peaks[PLAIN].step),
                AT_MOST if case == FIRST else None,
                LIMIT,
            )
            for case in CASES
            if case != PLAIN
        ]
    print(table(("case", "MiB of a step", "of the process"), rows), of_claims(claims), sep="\n\n")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
