"""A training step of MISA, MMIM and Self-MM on ragged input, over the same in PyTorch, packed.

    python -m benchmarks.ports
    python -m benchmarks.ports --backends jax --rounds 30

Plain steps, not M3S, at the batch sizes of the M3S paper. `benchmarks.packed` computes only true
steps; the ports compute every row up to the longest of its batch. That both have the same loss for
the same weights is tested.
"""

import sys

from benchmarks.interleave import Case, interleaved
from benchmarks.options import BACKENDS, parser
from benchmarks.ragged import ROWS
from benchmarks.tables import Claim, of_claims, of_times

AT_MOST = {"jax": 0.7}


def main() -> int:
    """Prints times and ratios; 1 where a ratio is more than claimed."""
    made = parser(__doc__, rounds=7, steps=4)
    made.set_defaults(backends=["jax", "torch"])
    arguments = made.parse_args()
    times, claims = {}, []
    for model in ROWS:
        cases = [
            Case(
                f"{model}: {name}",
                BACKENDS[name][0],
                "benchmarks.ragged:port",
                {"name": model, "tiny": arguments.tiny, "xla": BACKENDS[name][1]},
            )
            for name in arguments.backends
        ]
        packed = Case(
            f"{model}: PyTorch by hand, packed",
            "torch",
            "benchmarks.ragged:packed",
            {"name": model, "tiny": arguments.tiny},
        )
        found = interleaved([*cases, packed], arguments.rounds, arguments.steps, arguments.clock)
        times |= found
        claims += [
            Claim(f"{case.name} / packed", found[case.name] / found[packed.name], AT_MOST.get(name))
            for name, case in zip(arguments.backends, cases, strict=True)
        ]
    print(of_times(times), of_claims(claims), sep="\n\n")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
