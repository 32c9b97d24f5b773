"""A step of M3S in this version over the same step in an earlier one, in turns.

    python -m benchmarks.before 435e457                  # a commit or tag: version 0.1.0
    python -m benchmarks.before 435e457 --backends torch --rounds 40

Each version has a process of its own, which finds its `keras_m3s` first; both run the model of
`benchmarks.functional`.
"""

import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np

from benchmarks.interleave import CLOCKS
from benchmarks.options import BACKENDS, parser
from benchmarks.tables import Claim, of_claims, of_times

ROOT = pathlib.Path(__file__).resolve().parent.parent
AT_MOST = 1.05
READY = "ready"


class Version:
    """A process that runs steps of M3S when it is asked to."""

    def __init__(self, package: pathlib.Path, backend: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.before", "--serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "PYTHONSAFEPATH": "1",
                "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]),
            },
        )

    def answer(self) -> str:
        """The next line that is not of a framework."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("> "):
                return line[2:].strip()
        raise RuntimeError("The process of a version ended: does its `keras_m3s` have M3S?")

    def seconds(self) -> float:
        """Seconds of a step, measured anew."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def serve(xla: bool, tiny: bool, steps: int, clock: str) -> None:
    """Answers each line of stdin with the seconds of a step."""
    import keras_m3s
    from benchmarks.functional import steps_of_fit

    run, now = steps_of_fit(1, xla, tiny), CLOCKS[clock]
    run(steps)
    print(">", READY, keras_m3s.__file__, flush=True)
    for _ in sys.stdin:
        start = now()
        run(steps)
        print(">", (now() - start) / steps, flush=True)


def extracted(revision: str, folder: pathlib.Path) -> None:
    """Writes the package of a commit into a folder."""
    archive = folder / "package.tar"
    names = ["keras_m3s", "tfds_builders"]
    command = ["git", "archive", "--output", str(archive), revision, *names]
    subprocess.run(command, cwd=ROOT, check=True)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")


def main() -> int:
    """Prints times and ratios; 1 where this version takes longer than claimed."""
    options = parser(__doc__, rounds=20, steps=4)
    options.add_argument("revision", nargs="?", default="435e457", help="default 0.1.0's")
    options.add_argument("--serve", action="store_true", help="for its own processes")
    options.add_argument("--xla", action="store_true", help="for its own processes")
    arguments = options.parse_args()
    if arguments.serve:
        serve(arguments.xla, arguments.tiny, arguments.steps, arguments.clock)
        return 0
    times, claims = {}, []
    with tempfile.TemporaryDirectory() as folder:
        extracted(arguments.revision, pathlib.Path(folder))
        for name in arguments.backends:
            backend, xla = BACKENDS[name]
            given = ["--steps", str(arguments.steps), "--clock", arguments.clock]
            given += ["--xla"] * xla + ["--tiny"] * arguments.tiny
            versions = {
                f"{name}: {what}": Version(package, backend, *given)
                for what, package in (("before", pathlib.Path(folder)), ("now", ROOT))
            }
            try:
                places = [one.answer() for one in versions.values()]
                assert places[0].startswith(f"{READY} {folder}"), places
                rounds = [
                    {case: one.seconds() for case, one in versions.items()}
                    for _ in range(arguments.rounds)
                ]
            finally:
                for one in versions.values():
                    one.stop()
            found = {case: np.array([r[case] for r in rounds]) for case in versions}
            times |= found
            before, now = found.values()
            claims.append(Claim(f"{name}: now / {arguments.revision}", now / before, AT_MOST))
    print(of_times(times), of_claims(claims), sep="\n\n")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
