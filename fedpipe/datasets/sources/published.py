"""The official files: name, size and SHA-256 of each, uncompressed."""

from dataclasses import dataclass

from fedpipe.datasets.raw import Split


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: ``size`` in bytes and ``sha256`` in hex, both of the uncompressed file."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """A published data set: its name, its title for messages, its files in the order in which they are fetched."""

    name: str
    title: str
    files: tuple[DataFile, ...]


# Whatever the data set, data/raw/ holds four files of these names: one replaces the other, and none is left behind.
TRAIN = Split(images="train-images-idx3-ubyte", labels="train-labels-idx1-ubyte")
TEST = Split(images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte")
# And of samples that are no images.
TRAIN_SAMPLES = Split(images="train-samples-idx", labels="train-labels-idx")
TEST_SAMPLES = Split(images="test-samples-idx", labels="test-labels-idx")

MNIST = Dataset(
    "mnist",
    "MNIST",
    (
        DataFile(TRAIN.images, 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        DataFile(TRAIN.labels, 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        DataFile(TEST.images, 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        DataFile(TEST.labels, 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
)

# Xiao, Rasul and Vollgraf 2017. Sums of the files in Debian's dataset-fashion-mnist 0.0~git20200523. Debian takes name
# and time stamp out of the gzip headers; with these put back (31 August 2017) all four have the publishers' MD5 sums.
FASHION_MNIST = Dataset(
    "fashion_mnist",
    "Fashion-MNIST",
    (
        DataFile(TRAIN.images, 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        DataFile(TRAIN.labels, 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        DataFile(TEST.images, 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        DataFile(TEST.labels, 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
)

PUBLISHED = {dataset.name: dataset for dataset in (MNIST, FASHION_MNIST)}
