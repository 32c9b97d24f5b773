"""`keras-m3s prepare`: files to a TFDS data set, one of ours or one of the user's own."""

import pathlib
from typing import Any

import click

from keras_m3s.cli.options import data_options


@click.command()
@click.argument("dataset", required=False)
@click.option("--from", "source", type=click.Path(path_type=pathlib.Path), help="Own data: a .pkl or .npz in MMSA's or MulT's schema, or a folder of .npy with label.csv; a .npz or folder of SPLIT/NAME arrays; a table's description (.yaml).")  # fmt: skip
@click.option("--name", help="What to call own data; then `--dataset NAME` everywhere.")
@data_options
def prepare(
    dataset: str | None, source: pathlib.Path | None, name: str | None, **where: Any
) -> None:
    """Turn DATASET's files, or your own, into a TFDS data set that every command takes by name.

    Which of the two reads a file, and with which options, `keras-m3s inspect FILE` says. Of MMSA's
    two pickles in one folder, --config chooses. Own data is features of speech in MMSA's schema,
    where a modality that it has not is one step of zeros, with a warning; or arrays and tables of
    any modalities, where NaN is a value that was never measured, and stays.

    \b
    Example:
      keras-m3s prepare cmu_mosi --manual-dir ~/data/mosi
      keras-m3s prepare cmu_mosi --manual-dir ~/data/mosi --config unaligned_50
      keras-m3s prepare --from my.pkl --name mine
      keras-m3s prepare --from sensors.npz --name sensors
      keras-m3s prepare --from sensors.yaml --name sensors
      keras-m3s train --dataset mine
    """
    from keras_m3s import data

    if dataset is not None and source is None and pathlib.Path(dataset).expanduser().exists():
        raise click.UsageError(
            f"DATASET must be a name. Received: the path {dataset}. For data of your own: "
            f"keras-m3s prepare --from {dataset} --name NAME"
        )
    if (dataset is None) == (source is None) or (source is None) != (name is None):
        raise click.UsageError(
            "Give either DATASET, or --from FILE --name NAME for data of your own."
        )
    if source is not None and name is not None:
        if where.pop("config") or where.pop("manual_dir"):
            raise click.UsageError("Own data takes neither --config nor --manual-dir.")
        data.prepare_own(name, source, where["data_dir"])
        dataset, where = name, {"data_dir": where["data_dir"]}
    assert dataset is not None
    splits = data.load(dataset, **where)
    for split_name, split in splits.items():
        shapes = ", ".join(
            f"{key} {'x'.join(map(str, array.shape[1:]))}"
            for key, array in sorted(
                split.features.items(), key=lambda one: (one[0] not in split.modalities, one[0])
            )
            if array.ndim > 1
        )
        click.echo(f"{split_name:<12}{len(split):>6} examples   {shapes}")
    for name, gaps in data.gaps(splits).items():
        if gaps.cells:
            click.echo(f"{name:<20}missing: {gaps}")
