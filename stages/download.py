"""``python -m stages.download``: puts the data set that params.yaml names into data/raw, checked and described."""

import os

from fedpipe.atomic import staged_files
from fedpipe.command_line import without_arguments
from fedpipe.config import Download
from fedpipe.config.download import Table, UserDataset
from fedpipe.datasets.idx import read_labelled_images
from fedpipe.datasets.raw import DATASET_FILE, RawDataset, describe
from fedpipe.datasets.sources.addresses import sources
from fedpipe.datasets.sources.checksums import is_whole
from fedpipe.datasets.sources.fetch import fetch, say
from fedpipe.datasets.sources.published import PUBLISHED, TEST, TEST_SAMPLES, TRAIN, TRAIN_SAMPLES, Dataset
from fedpipe.datasets.sources.standard import standard_of
from fedpipe.datasets.sources.table import CLIENTS_FILE, write_table
from fedpipe.datasets.sources.user_dataset import write_user_dataset
from fedpipe.outputs.restore import restore_for_dvc
from fedpipe.outputs.writer import only_writer
from fedpipe.params import load, require_unchanged, validate
from fedpipe.stage_process import run_stage
from layout import FAILURE, PARAMS, RAW, stage_lock


def main() -> None:
    """Reads params; fetches a published data set's missing files, or reads a user data set."""
    validate(PARAMS)
    params = load(Download, PARAMS)
    with only_writer("download", stage_lock("download")):
        # DVC has deleted the folder; files of it that are still right need not be fetched.
        restore_for_dvc()
        _download(params)


def _download(params: Download) -> None:
    # DVC hashes all that is in this folder, also what a killed run left.
    for leftover in RAW.glob("*.partial"):
        leftover.unlink()
    if params.idx is not None and params.dataset == "idx":
        _user_dataset(params.idx, params)
    elif params.table is not None and params.dataset == "table":
        _table(params.table, params)
    else:
        _published(PUBLISHED[params.dataset], params)
    _remove_others()
    require_unchanged(params, PARAMS)


def _published(dataset: Dataset, params: Download) -> None:
    """Fetches what is not there with the pinned bytes."""
    in_order = sources(dataset, params, os.environ)
    missing = [file for file in dataset.files if not is_whole(RAW / file.name, file)]
    if not missing:
        say(f"all {len(dataset.files)} {dataset.title} files are in {RAW} with the pinned SHA-256")
    else:
        with staged_files(RAW, DATASET_FILE) as folder:
            fetch(dataset, missing, in_order, folder)
    standard = None
    if params.standardise is not None:
        images, _ = read_labelled_images(RAW / TRAIN.images, RAW / TRAIN.labels)
        standard = standard_of(params.standardise, images)
    describe(RAW, dataset.name, TRAIN, TEST, standard=standard)


def _user_dataset(dataset: UserDataset, params: Download) -> None:
    """Reads all four parts anew: they are the user's, and may have changed in their place."""
    with staged_files(RAW, DATASET_FILE) as folder:
        write_user_dataset(dataset, params, folder)
    say(f"{dataset.name}: four files in {RAW}, made from files with the SHA-256 of params.yaml")


def _table(table: Table, params: Download) -> None:
    """Reads the table anew, as a user data set."""
    with staged_files(RAW, DATASET_FILE) as folder:
        write_table(table, params, folder)
    dataset = RawDataset.read(RAW)
    say(f"{table.name}: {dataset.kind} in {RAW}, made from the file with the SHA-256 of params.yaml")


def _remove_others() -> None:
    """Removes the files of a data set that this one replaced."""
    dataset = RawDataset.read(RAW)
    for split in (TRAIN, TEST, TRAIN_SAMPLES, TEST_SAMPLES):
        for name in {split.images, split.labels} if split not in (dataset.train, dataset.test) else ():
            (RAW / name).unlink(missing_ok=True)
    if dataset.clients is None:
        (RAW / CLIENTS_FILE).unlink(missing_ok=True)


if __name__ == "__main__":
    run_stage(without_arguments(main), FAILURE)
