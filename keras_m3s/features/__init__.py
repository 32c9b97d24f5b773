"""From raw clips to features: audio by openSMILE, text by a BERT, vision by OpenCV or a hook.

    report = extract("clips/", "features/", {"audio": ComParE(), "text": BertText("bert_base_en"),
                                             "vision": FaceHOG()})

An extractor is any object with `name`, a string that says what it computes, and a call that turns a
`Clip` into float32 `(steps, dim)`. `load_hook("my_module:MyExtractor")` finds yours.
"""

from keras_m3s.features.audio import ComParE
from keras_m3s.features.clips import Clip, read_clips
from keras_m3s.features.extract import Report, extract
from keras_m3s.features.text import BertText
from keras_m3s.features.vision import FaceHOG, load_hook

__all__ = [
    "BertText",
    "Clip",
    "ComParE",
    "FaceHOG",
    "Report",
    "extract",
    "load_hook",
    "read_clips",
]
