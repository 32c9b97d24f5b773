"""Speech by eSpeak NG: the program where it is installed, else the library that a package brings."""

import ctypes
import functools
import pathlib
import shutil
import subprocess
import wave

import pytest

WAIT_UNTIL_SAID = 2  # AUDIO_OUTPUT_SYNCHRONOUS of speak_lib.h
UTF8 = 1


def speak(text: str, path: pathlib.Path) -> None:
    """Writes speech to a .wav; skips the test where there is no eSpeak NG."""
    if program := shutil.which("espeak-ng"):
        subprocess.run([program, "-w", path, text], check=True)
        return
    library, rate, sound = _library()
    sound.clear()
    said = text.encode() + b"\0"
    failed = library.espeak_Synth(said, ctypes.c_size_t(len(said)), 0, 0, 0, UTF8, None, None)
    assert not failed and sound
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(sound))


@functools.cache
def _library() -> tuple[ctypes.CDLL, int, bytearray]:
    """The library, its samples a second, and where they arrive."""
    loader = pytest.importorskip("espeakng_loader")
    library = ctypes.CDLL(loader.get_library_path())
    rate = library.espeak_Initialize(WAIT_UNTIL_SAID, 0, loader.get_data_path().encode(), 0)
    assert rate > 0, "eSpeak NG does not find its data"
    sound = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def arrived(samples: int | None, count: int, events: int | None) -> int:
        if samples and count:
            sound.extend(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(arrived)
    library.arrived = arrived  # else it would be freed
    return library, rate, sound
