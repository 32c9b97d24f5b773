"""Audio features by openSMILE: the low-level descriptors of ComParE, as used by MMIN."""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys
from typing import IO

import numpy as np

from keras_m3s.features.clips import Clip

WORKER = pathlib.Path(__file__).with_name("opensmile_worker.py")


class ComParE:
    """The 65 low-level descriptors of ComParE 2016 (those of IS13) and their deltas, averaged.

    Frames last 60 ms (20 ms for spectra), one every 10 ms; a step is the mean of `average` frames,
    the last one of the remaining frames. Features are not z-scored, which needs the training data.
    openSMILE runs in a subprocess that starts with the first clip.

    Args:
        average: Number of frames per step.

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
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, clip: Clip) -> np.ndarray:
        """Features of a clip's sound, float32 `(steps, 130)`.

        Raises:
            ValueError: openSMILE cannot read the file, or the sound is shorter than a frame.
        """
        frames = self._frames(clip.file)
        if not len(frames):
            raise ValueError(
                f"{clip.file.name} must be at least one frame long, 60 ms. Received: no frame. "
                "Leave the clip out."
            )
        starts = np.arange(0, len(frames), self.average)
        counts = np.diff([*starts, len(frames)])[:, None]
        return (np.add.reduceat(frames, starts, axis=0) / counts).astype(np.float32)

    def _frames(self, path: pathlib.Path) -> np.ndarray:
        """Frames of a file without averaging, float32 `(frames, 130)`."""
        requests, responses = self._pipes()
        requests.write(json.dumps(str(path.resolve())).encode() + b"\n")
        requests.flush()
        line = responses.readline()
        if not line:
            self.close()
            raise ValueError(
                f"{path.name} must be sound that openSMILE can read. Received: its process died. "
                "Convert the sound to .wav, or leave the clip out."
            )
        header = json.loads(line)
        if "error" in header:
            raise ValueError(
                f"openSMILE cannot read {path.name}, which must be sound. Received: "
                f"{header['error']}. Convert the sound to .wav, or leave the clip out."
            )
        raw = responses.read(4 * math.prod(header["shape"]))
        return np.frombuffer(raw, np.float32).reshape(header["shape"])

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Stdin and stdout of openSMILE's process, which is started if it does not run."""
        process = self._process
        if process is None or process.poll() is not None:
            # -P: else modules beside the worker would shadow installed ones.
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert process.stdin is not None and process.stdout is not None
        return process.stdin, process.stdout

    def close(self) -> None:
        """Ends openSMILE's process; the next clip starts a new one."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process.wait()
            self._process = None

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.close()
