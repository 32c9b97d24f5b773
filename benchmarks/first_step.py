"""Time to the first step of M3S, K = 5 over K = 1: tracing and compiling, and the step itself.

    python -m benchmarks.first_step

Each time a new model, made beforehand, in turn K = 1, K = 5, K = 1, ... PyTorch compiles nothing:
there the step itself is all, and nothing is claimed.
"""

import sys
from typing import Any

import numpy as np

from benchmarks.interleave import CLOCKS, Worker
from benchmarks.options import BACKENDS, parser
from benchmarks.tables import Claim, of_claims, table

AT_MOST = 1.3


def first(arguments: dict[str, Any], clock: str) -> float:
    """Seconds of the first step of a new model."""
    from benchmarks import three_lstms

    run, now = three_lstms.steps_of_fit(**arguments), CLOCKS[clock]
    start = now()
    run(1)
    return now() - start


def main() -> int:
    """Prints times and ratios; 1 where a ratio is more than claimed."""
    arguments = parser(__doc__, rounds=3).parse_args()
    rows, claims = [], []
    for name in arguments.backends:
        backend, xla = BACKENDS[name]
        worker = Worker(backend)

        def seconds(inner_steps: int | None) -> float:
            given = {"inner_steps": inner_steps, "xla": xla, "tiny": arguments.tiny}  # noqa: B023
            return worker.ask("benchmarks.first_step:first", given, arguments.clock)  # noqa: B023

        seconds(None)  # what only the first model of a process pays
        found = np.array([[seconds(1), seconds(5)] for _ in range(arguments.rounds)])
        worker.stop()
        one, five = found.T
        rows += [(f"{name}: K={k}", f"{np.median(t):.2f}") for k, t in ((1, one), (5, five))]
        most = None if name == "torch" else AT_MOST
        claims.append(Claim(f"{name}: K=5 / K=1", five / one, most))
    print(table(("case", "s to the first step"), rows), of_claims(claims), sep="\n\n")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
