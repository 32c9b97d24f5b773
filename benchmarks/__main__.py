"""Runs all benchmarks, one after the other, and writes what they print to one page.

    python -m benchmarks                                 # benchmarks/RESULTS.md
    python -m benchmarks --only ports memory             # prints only
    python -m benchmarks --again ports                   # takes the place of what the page had
    python -m benchmarks --gpu                           # RESULTS-gpu.md: JAX and PyTorch
    python -m benchmarks --clock cpu                     # on a busy machine: one thread, its time

Ends with 1 where a benchmark fails; a target that is missed stands in the page.
"""

import argparse
import ast
import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
# In this order; `replicas` gains nothing on a CPU, and says so.
SCRIPTS = (
    "meta_step", "functional", "consistency", "before", "by_hand", "ports", "memory", "first_step",
    "replicas", "input_pipeline",
)  # fmt: skip
ONE_BACKEND = ("replicas", "input_pipeline")
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
CLOCK = {
    "wall": "Times are those of the clock on the wall.",
    "cpu": "The machine was busy: each backend had one thread, and times are what that computed "
    "(`ARGS='--clock cpu'`); memory and the input pipeline apart.",
}
PACKAGES = ("keras", "jax", "jaxlib", "tensorflow", "torch", "numpy", "learn2learn")


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, {', '.join(found)}."


def processor() -> str:
    names = [
        line.split(":")[1].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.processor()}"


def graphics() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def title(script: str) -> str:
    text = (FOLDER / f"{script}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or script).splitlines()[0]


def run(script: str, options: list[str], one_thread: bool) -> tuple[str, int]:
    """What it printed, and its exit status."""
    command = [sys.executable, "-m", f"benchmarks.{script}", *options]
    threads = ONE_THREAD if one_thread else {}
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **threads}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=FOLDER.parent, env=environment
    )
    return done.stdout.strip(), done.returncode


def section(script: str, text: str, machine: str, clock: str) -> str:
    """What a benchmark printed, under its title, with when and where that was."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    where = f"`benchmarks/{script}.py`, {date}, {machine}. {CLOCK[clock]}"
    shown = text if "| --" in text else f"```\n{text}\n```"
    return "\n\n".join([f"## {title(script)}", where, shown])


def sections_of(text: str) -> dict[str, str]:
    """The sections of a page, by the script's name."""
    found = ["## " + part for part in text.rstrip("\n").split("\n\n## ")[1:]]
    return {re.findall(r"`benchmarks/(\w+)\.py`", part)[0]: part for part in found}


def page(sections: dict[str, str], target: str) -> str:
    missed = [
        line for text in sections.values() for line in text.splitlines() if line.endswith("| no |")
    ]
    parts = [
        "# Benchmarks",
        f"Written by `make {target}`, not by hand.",
        versions(),
        "Each ratio is the median over rounds in which the cases were timed in turn; the quartiles "
        "are those of the rounds.",
        "Missed:\n\n" + "\n".join(f"- {' '.join(line.strip('| ').split())}" for line in missed)
        if missed
        else "All that is claimed was reached.",
    ]
    ordered = [sections[script] for script in SCRIPTS if script in sections]
    return "\n\n".join([*parts, *ordered]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, help="these, and write no page")
    parser.add_argument(
        "--again", nargs="+", choices=SCRIPTS, help="these, the rest of the page stays"
    )
    parser.add_argument("--gpu", action="store_true", help="JAX and PyTorch on a GPU")
    parser.add_argument("--clock", choices=CLOCK, default="wall")
    parser.add_argument("--rounds", help="of each, in place of its own number")
    arguments = parser.parse_args()
    options = ["--clock", arguments.clock]
    options += ["--rounds", arguments.rounds] if arguments.rounds else []
    options += ["--backends", "jax", "torch"] if arguments.gpu else []
    target, name = ("bench-gpu", "RESULTS-gpu.md") if arguments.gpu else ("bench", "RESULTS.md")
    sections, failed = {}, []
    if arguments.again:
        before = (FOLDER / name).read_text()
        if versions() not in before:
            parser.error(f"{name} must be of the versions that are here, {versions()} "
                         f"Measure all of it: make {target}")  # fmt: skip
        sections = sections_of(before)
    machine = processor() + (f", {graphics()}" if arguments.gpu else "")
    for script in arguments.only or arguments.again or SCRIPTS:
        if not (FOLDER / f"{script}.py").exists():
            continue
        print(f"== {script}", flush=True)
        given = [] if script in ONE_BACKEND else options
        printed, status = run(script, given, arguments.clock == "cpu")
        print(printed, flush=True)
        # 1 is a target that was missed, or an error, which prints nothing here.
        if status not in (0, 1) or not printed:
            failed.append(script)
        sections[script] = section(script, printed, machine, arguments.clock)
    if failed:
        print(f"Failed: {failed}", file=sys.stderr)
    elif not arguments.only:
        (FOLDER / name).write_text(page(sections, target))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
