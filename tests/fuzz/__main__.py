"""Runs the fuzzer: a worker reads, this process watches the time."""

import argparse
import os
import select
import subprocess
import sys
import time

from tests.fuzz import watch
from tests.fuzz.readers import READERS

HANGS = 30.0
"""Seconds in which a case must end, that of a machine with much else to do."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--start", type=int, help="the first seed, where it is not to be a new one")
    parser.add_argument("--seed", type=int, help="one case; with --target")
    parser.add_argument("--target", choices=READERS, help="one reader")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    targets = [options.target] if options.target else list(READERS)
    if options.worker is not None:
        watch.work(targets, options.worker)
    if options.seed is not None:
        watch.case(targets[0], options.seed)
        print("nothing found")
        return 0
    start = time.time_ns() % 10**9 if options.start is None else options.start
    return _watch(targets, options.seconds, start)


def _watch(targets: list[str], seconds: float, start: int) -> int:
    command = [sys.executable, "-m", "tests.fuzz", "--worker", str(start)]
    command += ["--target", targets[0]] if len(targets) == 1 else []
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=False)
    assert worker.stdout is not None
    done, last, end = 0, "the first", None
    try:
        while end is None or time.monotonic() < end:
            ready, _, _ = select.select([worker.stdout], [], [], 120 if end is None else HANGS)
            lines = os.read(worker.stdout.fileno(), 2**16).decode().splitlines() if ready else []
            if not lines:
                what = "took too long" if not ready else f"ended the process: {worker.wait()}"
                print(f"{last} {what}.", file=sys.stderr)
                return 1
            end = end or time.monotonic() + seconds  # imports are not counted
            done, last = done + len(lines), lines[-1]
    finally:
        worker.kill()
        worker.wait()
    print(f"{done} damaged inputs of {len(targets)} readers, from seed {start} on: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
