"""What reading data costs: memory of loading, and the share of an epoch that is spent on input.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --model misa --batch-size 128 --epochs 3

Prints two ratios for generated data of MOSI's unaligned shapes (1284 rows of 375 x 5, 500 x 20 and
50 x 768, in all splits 2199):

- peak memory of loading / size of the arrays, claimed to be at most 2. Measured in a process of its
  own as the growth of its resident memory, from a pickle and from a prepared data set; at most .5
  where the rows are read from disk in batches of 32 and dropped;
- time that `fit` waits for batches / time of an epoch, claimed to be below 5 %. The batches of M3S,
  double, made in the training's own thread, so all of their time is waiting; the first epoch, which
  compiles, is left out.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

CONFIG = "mosi_full"
MOST_MEMORY = {"prepared": 2.0, "file": 2.0, "streamed": 0.5}
MOST_WAITING = 0.05

_CHILD = """
import resource, sys, threading, time
import numpy as np
from keras_m3s import data
from keras_m3s.data import streaming
if sys.argv[1] == "file":
    arguments = {"name": sys.argv[2]}
else:
    import tensorflow_datasets as tfds
    data.load("synthetic_msa", data_dir=sys.argv[2], config="tiny")  # what reading itself imports
    arguments = {"name": "synthetic_msa", "data_dir": sys.argv[2], "config": sys.argv[3]}
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = peak = resident()
done = False
def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.002)
watcher = threading.Thread(target=watch); watcher.start()
if sys.argv[1] == "streamed":
    size = 0
    for split in streaming.load_streamed(**arguments).values():
        for start in range(0, len(split), 32):
            rows = np.arange(start, min(start + 32, len(split)))
            size += sum(a.nbytes for a in split.take(rows).values())
else:
    splits = data.load(**arguments)
    size = sum(a.nbytes for split in splits.values() for a in split.features.values())
done = True; watcher.join()
print(size, peak - before)
"""


def memory(kind: str, *where: str) -> float:
    """Peak growth of a process that loads the data, over the size of the arrays."""
    command = [sys.executable, "-c", _CHILD, kind, *where]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, peak = map(int, done.stdout.split())
    print(f"{kind:<10} arrays {size / 2**20:7.0f} MiB   peak {peak / 2**20:7.0f} MiB   "
          f"ratio {peak / size:.2f}   (at most {MOST_MEMORY[kind]})")  # fmt: skip
    return peak / size


def write_pickle(path: pathlib.Path, splits: Any) -> None:
    """The data as a file in MMSA's schema."""
    import pickle

    content = {
        name: {
            **{key: split.features[key] for key in split.lengths},
            **{f"{key}_lengths": lengths for key, lengths in split.lengths.items()},
            "id": np.array(split.ids),
            "regression_labels": split.labels,
        }
        for name, split in splits.items()
    }
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)


def waiting(splits: Any, model: str, batch_size: int, epochs: int) -> float:
    """Share of training time in which `fit` waits for its next batch."""
    import keras

    from keras_m3s.experiments.build import build, train_batches
    from keras_m3s.experiments.config import Experiment

    experiment = Experiment.of("synthetic_msa", model, "m3s", batch_size=batch_size)
    batches = train_batches(experiment, splits["train"])
    outer = build(experiment, splits["train"])
    inside, make = 0.0, batches.__class__.__getitem__

    class Timed(batches.__class__):  # type: ignore[name-defined, misc]  # known when run
        def __getitem__(self, index: int) -> Any:
            nonlocal inside
            start = time.perf_counter()
            try:
                return make(self, index)
            finally:
                inside += time.perf_counter() - start

    batches.__class__ = Timed
    outer.fit(batches, shuffle=False, epochs=1, verbose=0)
    inside, start = 0.0, time.perf_counter()
    outer.fit(batches, shuffle=False, epochs=epochs, verbose=0)
    whole = time.perf_counter() - start
    print(f"{model} on {keras.backend.backend()}: {whole / epochs:.2f} s an epoch, "
          f"{inside / epochs:.3f} s of it waiting   ratio {inside / whole:.4f}   "
          f"(below {MOST_WAITING})")  # fmt: skip
    return inside / whole


def main() -> int:
    """Prints the ratios; 1 where one is more than claimed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="misa")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--config", default=CONFIG, help="config of synthetic_msa")
    arguments = parser.parse_args()
    from keras_m3s import data

    with tempfile.TemporaryDirectory() as folder:
        splits = data.load("synthetic_msa", data_dir=folder, config=arguments.config)
        file = pathlib.Path(folder) / "mosi.pkl"
        write_pickle(file, splits)
        within = [
            memory(kind, *where) <= MOST_MEMORY[kind]
            for kind, where in (
                ("prepared", (folder, arguments.config)),
                ("file", (str(file),)),
                ("streamed", (folder, arguments.config)),
            )
        ]
        share = waiting(splits, arguments.model, arguments.batch_size, arguments.epochs)
    return int(not all(within) or share >= MOST_WAITING)


if __name__ == "__main__":
    sys.exit(main())
