"""Small made-up files in the forms that the builders read, for tests.

`python -m tfds_builders.testing` writes anew the `dummy_data` of all data sets.
"""

import pathlib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .segments import MODALITIES, SPLITS, UNIMODAL

SHAPES = {"text": (6, 4), "audio": (9, 3), "vision": (7, 2)}
SIZES = {"train": 4, "valid": 2, "test": 3}


def mmsa_content(
    shapes: Mapping[str, tuple[int, int]] = SHAPES,
    sizes: Mapping[str, int] = SIZES,
    dtype: str = "float32",
    seed: int = 0,
    bound: float = 3,
    unimodal: bool = False,
) -> dict[str, dict[str, Any]]:
    """Random content of an MMSA feature file.

    Args:
        shapes: `(steps, dim)` a modality.
        sizes: Segments a split.
        dtype: Of the features.
        seed: Int.
        bound: Labels lie in -bound .. bound.
        unimodal: Whether there are labels of each modality, as in CH-SIMS.

    Returns:
        Dict of splits, each a dict of arrays and lists; sequences are zero past their length.
    """
    rng = np.random.default_rng(seed)
    content = {split: _split(rng, split, sizes[split], shapes, dtype) for split in SPLITS}
    for split in content.values():
        split["regression_labels"] *= np.float32(bound / 3)
        for key in UNIMODAL.values() if unimodal else ():
            labels = rng.uniform(-bound, bound, len(split["id"])).astype("float32")
            split[f"regression_labels_{key}"] = labels
    return content


def _split(
    rng: np.random.Generator,
    split: str,
    size: int,
    shapes: Mapping[str, tuple[int, int]],
    dtype: str,
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": np.array([f"{split}{row // 2}$_${row}" for row in range(size)]),
        "raw_text": np.array([f"SEGMENT {row} OF {split}" for row in range(size)]),
        "regression_labels": rng.uniform(-3, 3, size).round(1).astype("float32"),
    }
    lengths = {}
    for name in MODALITIES:
        steps, dim = shapes[name]
        lengths[name] = rng.integers(min(3, steps), steps + 1, size)
        true = np.arange(steps) < lengths[name][:, None]
        content[name] = (rng.normal(size=(size, steps, dim)) * true[..., None]).astype(dtype)
    content["audio_lengths"] = lengths["audio"].tolist()
    content["vision_lengths"] = lengths["vision"].tolist()
    mask = (np.arange(shapes["text"][0]) < lengths["text"][:, None]).astype("int32")
    ids = rng.integers(1000, 2000, mask.shape, dtype="int32") * mask
    content["text_bert"] = np.stack([ids, mask, np.zeros_like(mask)], axis=1)
    return content


def write(path: pathlib.Path, content: Any) -> pathlib.Path:
    """Pickles `content` to `path`."""
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)
    return path


def write_lists(folder: pathlib.Path, style: str = "misa", seed: int = 0) -> dict[str, list[Any]]:
    """`train.pkl`, `dev.pkl`, `test.pkl` of MISA or MMIM, with `embeddings.npy` or `vocab.txt`.

    Returns:
        File name -> content.
    """
    rng = np.random.default_rng(seed)
    written = {}
    for name, size in zip(("train.pkl", "dev.pkl", "test.pkl"), SIZES.values(), strict=True):
        rows: list[Any] = []
        for row in range(size):
            words = ["good", "bad", "unheard"][: rng.integers(1, 4)]
            lengths = (len(words), len(words)) if style == "misa" else rng.integers(1, 6, 2)
            vision = rng.normal(size=(lengths[0], 4)).astype("float32")
            audio = rng.normal(size=(lengths[1], 3)).astype("float32")
            label = np.array([[rng.uniform(-3, 3)]], dtype="float32")
            if style == "misa":
                parts: tuple[Any, ...] = (np.arange(len(words)), vision, audio, words)
            else:  # padded in front
                padded = [np.pad(a, ((6 - len(a), 0), (0, 0))) for a in (vision, audio)]
                parts = ([], *padded, words, int(lengths[0]), int(lengths[1]))
            rows.append((parts, label, f"{name[:-4]}{row // 2}[{row}]"))
        write(folder / name, rows)
        written[name] = rows
    if style == "misa":
        np.save(folder / "embeddings.npy", rng.normal(size=(5, 7)))
    else:
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "[MASK]"]
        (folder / "vocab.txt").write_text("\n".join(pieces))
    return written


def write_csd(folder: pathlib.Path, videos: Sequence[str], segments: int = 2) -> None:
    """Five files of the CMU-MultimodalSDK: a word a second, segments of two words and a pause."""
    import h5py

    rng = np.random.default_rng(0)
    seconds = 3 * segments
    rates = {
        "CMU_MOSI_TimestampedWordVectors": (1, 5),
        "CMU_MOSI_COVAREP": (10, 3),
        "CMU_MOSI_Visual_Facet_42": (4, 2),
    }
    for name, (rate, columns) in rates.items():
        with h5py.File(folder / f"{name}.csd", "w") as file:
            for video in videos:
                edges = np.arange(seconds * rate + 1) / rate
                group = file.create_group(f"sequence/data/{video}")
                group["intervals"] = np.column_stack([edges[:-1], edges[1:]])
                group["features"] = rng.normal(size=(seconds * rate, columns)).astype("float32")
            file.create_group("sequence/metadata")
    with h5py.File(folder / "CMU_MOSI_TimestampedWords.csd", "w") as file:
        for video in videos:
            edges = np.arange(seconds + 1.0)
            words = [b"sp" if i % 3 == 2 else f"word{i}".encode() for i in range(seconds)]
            group = file.create_group(f"words/data/{video}")
            group["intervals"] = np.column_stack([edges[:-1], edges[1:]])
            group["features"] = np.array(words).reshape(-1, 1)
    with h5py.File(folder / "CMU_MOSI_Opinion_Labels.csd", "w") as file:
        for video in videos:
            group = file.create_group(f"labels/data/{video}")
            starts = np.arange(segments) * 3.0
            group["intervals"] = np.column_stack([starts, starts + 3])
            group["features"] = rng.uniform(-3, 3, (segments, 1))


def write_iemocap(
    folder: pathlib.Path,
    columns: Mapping[str, int],
    folds: Sequence[int] = (1,),
    seed: int = 0,
    steps: int = 8,
) -> dict[str, dict[str, np.ndarray]]:
    """MMIN's layout with `SIZES` utterances a split, at most `steps` long; each fold another cut.

    Returns:
        Modality -> utterance -> features.
    """
    import h5py

    rng = np.random.default_rng(seed)
    names = [f"Ses01F_impro01_F{row:03d}" for row in range(sum(SIZES.values()))]
    places = {"audio": "A/comparE.h5", "vision": "V/denseface.h5", "text": "L/bert_large.h5"}
    made: dict[str, dict[str, np.ndarray]] = {}
    for modality, place in places.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / place, "w") as file:
            made[modality] = {}
            for name in names:
                rows = rng.normal(2, 3, (rng.integers(1, steps + 1), columns[modality])).astype(
                    "float32"
                )
                made[modality][name] = rows
                file[name] = rows
    for fold in folds:
        start = folder / "target" / str(fold)
        start.mkdir(parents=True, exist_ok=True)
        rest = names[fold - 1 :] + names[: fold - 1]
        for split, size in zip(("trn", "val", "tst"), SIZES.values(), strict=True):
            now, rest = rest[:size], rest[size:]
            np.save(start / f"{split}_int2name.npy", np.array(now, dtype="S").reshape(-1, 1))
            np.save(start / f"{split}_label.npy", np.eye(4)[np.arange(size) % 4])
    return made


def write_sp_sw_har(folder: pathlib.Path, seed: int = 0, seconds: float = 4.0) -> None:
    """Recordings of a phone and a watch, one of a subject of each split, in the folder `DATA`."""
    rng = np.random.default_rng(seed)
    columns = [f"{axis}_{kind}" for kind in ("acc", "gyro") for axis in "xyz"]
    for subject in ("s01", "s13", "s06"):
        place = folder / "DATA" / subject
        place.mkdir(parents=True, exist_ok=True)
        for device in ("sp", "sw"):
            times = np.cumsum(rng.integers(0, 80, round(25 * seconds))) + 1_657_533_977_000
            walks = np.where(times < times[0] + 500 * seconds, "SEATED", "WALKING")
            lines = [",".join([*columns, "timestamp", "label"])]
            for values, time, label in zip(
                rng.normal(size=(len(times), 6)).round(2), times, walks, strict=True
            ):
                lines.append(",".join([*map(str, values), str(time), label]))
            (place / f"{subject}_01_{device}.csv").write_text("\n".join(lines) + "\n")


def write_physionet2012(folder: pathlib.Path, seed: int = 0, stays: int = 20) -> None:
    """`set-a` and `Outcomes-a.txt` of a few stays, with a few measurements each."""
    from .physionet2012.records import GROUPS

    rng = np.random.default_rng(seed)
    parameters = [name for names in GROUPS.values() for name in names]
    (folder / "set-a").mkdir(parents=True, exist_ok=True)
    outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for number in range(132_500, 132_500 + stays):
        static = {"RecordID": number, "Age": 40 + number % 30, "Gender": number % 2, "Height": -1,
                  "ICUType": 1 + number % 4, "Weight": 70.5}  # fmt: skip
        lines = ["Time,Parameter,Value", *(f"00:00,{name},{x}" for name, x in static.items())]
        for minute in np.sort(rng.integers(0, 48 * 60 + 1, 30)):
            name = parameters[rng.integers(len(parameters))]
            lines.append(f"{minute // 60:02d}:{minute % 60:02d},{name},{rng.uniform(1, 99):.1f}")
        (folder / "set-a" / f"{number}.txt").write_text("\n".join(lines) + "\n")
        outcomes.append(f"{number},6,1,5,-1,{number % 3 // 2}")
    (folder / "Outcomes-a.txt").write_text("\n".join(outcomes) + "\n")


def write_dummy(folder: pathlib.Path) -> None:
    """The `dummy_data` of the data sets whose folders lie in `folder`."""
    from .cmu_mosi.folds import FOLDS
    from .iemocap.iemocap_dataset_builder import COLUMNS

    names = ("cmu_mosi", "ch_sims", "iemocap", "sp_sw_har", "physionet2012")
    places = {name: folder / name / "dummy_data" for name in names}
    for place in (places["cmu_mosi"] / "word_lists", places["cmu_mosi"] / "csd", *places.values()):
        place.mkdir(parents=True, exist_ok=True)
    write(places["cmu_mosi"] / "dummy.pkl", mmsa_content())
    write_lists(places["cmu_mosi"] / "word_lists")
    write_csd(places["cmu_mosi"] / "csd", [min(videos) for videos in FOLDS.values()])
    write(places["ch_sims"] / "dummy.pkl", mmsa_content(bound=1, unimodal=True))
    write_iemocap(places["iemocap"], COLUMNS, folds=range(1, 11), steps=2)
    write_sp_sw_har(places["sp_sw_har"])
    write_physionet2012(places["physionet2012"])


if __name__ == "__main__":
    write_dummy(pathlib.Path(__file__).parent)
