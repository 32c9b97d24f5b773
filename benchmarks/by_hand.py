"""M3S K = 1 over the same step written by hand: in PyTorch with nn.LSTM, with learn2learn, in JAX.

    python -m benchmarks.by_hand
    python -m benchmarks.by_hand --backends jax --rounds 30

learn2learn 0.2.0, its last version, does not build with Python 3.11 as it is (its C sources came
from an older Cython), and imports packages that meta-learning itself does not need. Where
`learn2learn.algorithms.MAML` cannot be imported, its row is left out, and a line says so.
"""

import sys
from importlib.util import find_spec

from benchmarks.interleave import Case, interleaved
from benchmarks.options import BACKENDS, parser
from benchmarks.tables import Claim, of_claims, of_times

AT_MOST = {"jax": 1.0, "tensorflow-xla": 1.0, "torch": 1.1}

TORCH, LEARN2LEARN, JAX = "PyTorch by hand", "learn2learn", "JAX by hand"
OTHERS = {
    TORCH: ("torch", "benchmarks.by_hand_torch:m3s"),
    LEARN2LEARN: ("torch", "benchmarks.by_hand_torch:learn2learn"),
    JAX: ("jax", "benchmarks.by_hand_jax:m3s"),
}
PLAIN = ("plain PyTorch by hand", "torch", "benchmarks.by_hand_torch:plain")
LIMIT = (
    "the kernels are the same, but Keras calls each layer and operation from Python, some "
    "milliseconds a pass whatever the sizes (`--tiny` shows them alone); a plain step of Keras is "
    "already more than one by hand, see its row."
)


def main() -> int:
    """Prints times and ratios; 1 where a ratio is more than claimed."""
    arguments = parser(__doc__, rounds=9, steps=5).parse_args()
    tiny = {"tiny": arguments.tiny}
    others = [name for name in OTHERS if name != LEARN2LEARN or find_spec("learn2learn")]
    ours = {name: f"{name}: M3S K=1" for name in arguments.backends}
    cases = [
        Case(
            case,
            BACKENDS[name][0],
            "benchmarks.three_lstms:steps_of_fit",
            {"inner_steps": 1, "xla": BACKENDS[name][1], **tiny},
        )
        for name, case in ours.items()
    ]
    cases += [Case(name, *OTHERS[name], tiny) for name in others]
    if "torch" in ours:  # what Keras itself costs there
        steps = {"inner_steps": None, **tiny}
        cases += [
            Case("torch: plain", "torch", "benchmarks.three_lstms:steps_of_fit", steps),
            Case(*PLAIN, tiny),
        ]
    times = interleaved(cases, arguments.rounds, arguments.steps, arguments.clock)
    claims = [
        Claim(f"{case} / {other}", times[case] / times[other],
              AT_MOST.get(name) if other == TORCH else None, LIMIT if name == "torch" else "")
        for name, case in ours.items()
        for other in others
    ]  # fmt: skip
    if "torch" in ours:
        claims.append(Claim(f"torch: plain / {PLAIN[0]}", times["torch: plain"] / times[PLAIN[0]]))
    print(of_times(times), of_claims(claims), sep="\n\n")
    if LEARN2LEARN not in others:
        print("\nlearn2learn is not installed here: no ratio to it.")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
