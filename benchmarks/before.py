"""A step of `fit` in this version over the same step in earlier ones, in turns.

    python -m benchmarks.before                          # M3S in 0.1.0; without the later options
    python -m benchmarks.before --since 435e457          # one commit or tag
    python -m benchmarks.before --backends torch --rounds 80 --processes 8

Each version has a process of its own, which finds its `keras_m3s` first; all run the model of
`benchmarks.functional`. Two processes of the same version differ by some percent, for as long as
they live: so each has several, one after the other, and the rounds are shared among them.
"""

import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.interleave import CLOCKS
from benchmarks.options import BACKENDS, parser
from benchmarks.tables import Claim, of_claims, of_times

ROOT = pathlib.Path(__file__).resolve().parent.parent
SINCE = {"435e457": "0.1.0", "26a8b17": "without options"}
"""Commit -> what the tables call it."""

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


def compared(
    packages: Mapping[str, pathlib.Path],
    backend: str,
    rounds: int,
    processes: int,
    given: list[str],
) -> dict[str, np.ndarray[Any, Any]]:
    """Seconds of a step of each version, `(rounds,)`.

    Args:
        packages: Version -> folder that has its `keras_m3s`.
        backend: Of Keras.
        rounds: How often each is timed.
        processes: How many processes each has, one after the other.
        given: Options of the processes.
    """
    times: dict[str, list[float]] = {name: [] for name in packages}
    for _ in range(processes):
        versions = {name: Version(at, backend, *given) for name, at in packages.items()}
        try:
            for name, version in versions.items():
                place = version.answer()
                assert place.startswith(f"{READY} {packages[name]}{os.sep}"), place
            for number in range(-(-rounds // processes)):
                # Whoever comes second is not always the same.
                for name in list(versions)[:: -1 if number % 2 else 1]:
                    times[name].append(versions[name].seconds())
        finally:
            for version in versions.values():
                version.stop()
    return {name: np.array(values) for name, values in times.items()}


def main() -> int:
    """Prints times and ratios; 1 where this version takes longer than claimed."""
    options = parser(__doc__, rounds=40, steps=8)
    options.add_argument("--since", nargs="+", default=list(SINCE), metavar="COMMIT")
    options.add_argument("--processes", type=int, default=4, help="of each version")
    options.add_argument("--serve", action="store_true", help="for its own processes")
    options.add_argument("--xla", action="store_true", help="for its own processes")
    arguments = options.parse_args()
    if arguments.serve:
        serve(arguments.xla, arguments.tiny, arguments.steps, arguments.clock)
        return 0
    times, claims = {}, []
    with tempfile.TemporaryDirectory() as folder:
        packages = {}
        for revision in arguments.since:
            packages[revision] = pathlib.Path(folder) / revision
            packages[revision].mkdir()
            extracted(revision, packages[revision])
        packages["now"] = ROOT
        for name in arguments.backends:
            backend, xla = BACKENDS[name]
            given = ["--steps", str(arguments.steps), "--clock", arguments.clock]
            given += ["--xla"] * xla + ["--tiny"] * arguments.tiny
            found = compared(packages, backend, arguments.rounds, arguments.processes, given)
            for revision, seconds in found.items():
                label = SINCE.get(revision, revision)
                times[f"{name}: {label}"] = seconds
                if revision != "now":
                    ratios = found["now"] / seconds
                    claims.append(Claim(f"{name}: now / {label}", ratios, AT_MOST))
    print(of_times(times), of_claims(claims), sep="\n\n")
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
