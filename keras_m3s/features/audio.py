"""Audio by openSMILE: the low-level descriptors of ComParE, which MMIN reads."""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np

from keras_m3s.features.clips import Clip

WORKER = pathlib.Path(__file__).with_name("opensmile_worker.py")


class ComParE:
    """The 65 low-level descriptors of ComParE 2016 (those of IS13) and their deltas, averaged.

    A frame is 60 ms (20 ms for spectra), one every 10 ms; a step is the mean of `average` frames,
    the last step of those that remain. Not z-scored: that needs the training data. openSMILE runs
    in a process of its own, which starts with the first clip.

    Args:
        average: Frames a step.

    Raises:
        ImportError: opensmile is not installed.

    Reference: AIM3-RUC/MMIN: (steps, 130), ten frames a step.
    """

    dim = 130

    def __init__(self, average: int = 10) -> None:
        if average < 1:
            raise ValueError(f"`average` must be >= 1. Received: {average}.")
        if importlib.util.find_spec("opensmile") is None:
            raise ImportError(
                "Audio features need opensmile: pip install 'keras-m3s[features]'. Its licence is "
                "for research and personal use."
            )
        self.average = average
        self.name = f"ComParE_2016 low-level descriptors and deltas, mean of {average}"
        self._process: Any = None

    def __call__(self, clip: Clip) -> np.ndarray:
        """Features of a clip's sound: float32 `(steps, 130)`.

        Raises:
            ValueError: openSMILE cannot read the file, or the sound is too short for a frame.
        """
        frames = self._frames(clip.file)
        if not len(frames):
            raise ValueError(
                f"{clip.file.name} must last a frame, 60 ms, at least. Received: no frame. "
                "Leave the clip out."
            )
        starts = np.arange(0, len(frames), self.average)
        counts = np.diff([*starts, len(frames)])[:, None]
        return (np.add.reduceat(frames, starts, axis=0) / counts).astype(np.float32)

    def _frames(self, path: pathlib.Path) -> np.ndarray:
        if self._process is None or self._process.poll() is not None:
            # -P: the folder of the worker must not hide other modules.
            command = [sys.executable, "-P", str(WORKER)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        self._process.stdin.write(json.dumps(str(path.resolve())).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise ValueError(
                f"{path.name} must be sound that openSMILE can read. Received: its process ended "
                "over it. Write the sound anew as .wav, or leave the clip out."
            )
        header = json.loads(line)
        if "error" in header:
            raise ValueError(
                f"openSMILE cannot read {path.name}, which must be sound. Received: "
                f"{header['error']}. Write the sound anew as .wav, or leave the clip out."
            )
        raw = self._process.stdout.read(4 * math.prod(header["shape"]))
        return np.frombuffer(raw, np.float32).reshape(header["shape"])

    def close(self) -> None:
        """Ends openSMILE's process; the next clip starts another."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.close()
