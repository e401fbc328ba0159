"""Where each data set is published, under which terms, and where its files go: the layouts that lib.data reads.

Addresses, sizes and checksums are the publishers', or of the public code that fetches them; None where nobody states
one, and what is fetched is recorded then. Sizes are in GB of 10^9 bytes, rounded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from lib.fetch.download import Source

Place = Callable[[str], str | None]  # an archive's member -> where it goes below the data set's folder; None: nowhere


@dataclass(frozen=True)
class DataSet:
    """One data set; its folder and its command are called `name`.

    terms: what its publisher allows. gigabytes: to fetch, and on the disk in the end; None: not known. place: of a
    member of its archives. archives: fetched and unpacked; files: (folder below the data set's, Source), fetched as
    they are. by_hand: what only a person can fetch; patterns: how those archives are called. videos: its unit is a
    video file, of which `--subset` takes some, and which are looked into in the end.
    """

    name: str
    title: str
    page: str
    terms: str
    gigabytes: tuple[float | None, float | None]
    place: Place
    archives: tuple[Source, ...] = ()
    files: tuple[tuple[str, Source], ...] = ()
    by_hand: str = ""
    patterns: tuple[str, ...] = ()
    videos: str = ""


def below(*tops: str) -> Place:
    """Members in one of these folders, wherever it lies in the archive, with the path from there on."""

    def place(name: str) -> str | None:
        parts = PurePosixPath(name).parts
        start = next((number for number, part in enumerate(parts[:-1]) if part in tops), None)
        return None if start is None or "__MACOSX" in parts else "/".join(parts[start:])

    return place


KINETICS = "https://s3.amazonaws.com/kinetics/400"  # the copy of the Common Visual Data Foundation
REPLACEMENT = Source(f"{KINETICS}/replacement_for_corrupted_k400.tgz")
JHMDB = "https://files.is.tue.mpg.de/jhmdb"
UCF = "https://www.crcv.ucf.edu"
CIFAR = "https://www.cs.toronto.edu/~kriz"
KITTI = "https://s3.eu-central-1.amazonaws.com/avg-kitti"

DATASETS = {
    dataset.name: dataset
    for dataset in (
        DataSet(
            "kinetics400", "Kinetics-400", "https://github.com/cvdfoundation/kinetics-dataset",
            "annotations CC BY 4.0; videos belong to those who uploaded them to YouTube", (450, 450),
            place=lambda name: PurePosixPath(name).name,  # the annotations know the class
            files=tuple(("annotations", Source(f"{KINETICS}/annotations/{split}.csv")) for split in ("train", "val")),
            archives=(REPLACEMENT,),  # and the parts that a list on the server names
            videos="*.mp4",
        ),
        DataSet(
            "davis2017", "DAVIS-2017", "https://davischallenge.org",
            "BSD, by the README of its code", (0.8, 0.8), below("JPEGImages", "Annotations", "ImageSets"),
            (Source("https://data.vision.ee.ethz.ch/jpont/davis/DAVIS-2017-trainval-480p.zip"),),
        ),
        DataSet(
            "jhmdb", "JHMDB", "http://jhmdb.is.tue.mpg.de",
            "CC BY 4.0 by a third party's note alone; look at its page", (None, None),
            below("ReCompress_Videos", "Rename_Images", "joint_positions", "sub_splits", "splits", "puppet_mask"),
            (
                Source(f"{JHMDB}/sub_splits.zip", 19829, "e459df140cde2125c61970151a0ea8cb"),
                Source(f"{JHMDB}/splits.zip", 43785, "15b9f2f7a99d63c07f3be0c9ecde43b5"),
                Source(f"{JHMDB}/joint_positions.zip", 14177716, "3d1ac91bcb8544ddfdd9547997db239f"),
                Source(f"{JHMDB}/JHMDB_video.zip", 185602053, "0aca5af988892c8c2afe652a30544b8c"),
                Source(f"{JHMDB}/puppet_mask.zip", None, "eebf6c6c71faa16709b709b758710d17"),
                Source(f"{JHMDB}/Rename_Images.tar.gz", None, "23726fbac4bc69a726dc3daf2e7ab4c1"),
            ),
        ),
        DataSet(
            "ucf101", "UCF101", f"{UCF}/data/UCF101.php", "not stated", (6.5, None),
            below("UCF-101", "ucfTrainTestlist"),
            (
                Source(f"{UCF}/wp-content/uploads/2019/03/UCF101TrainTestSplits-RecognitionTask.zip"),
                Source(f"{UCF}/datasets/human-actions/ucf101/UCF101.rar"),
            ),
            videos="UCF-101/*/*.avi",
        ),
        DataSet(
            "cifar10", "CIFAR-10", f"{CIFAR}/cifar.html", "not stated", (0.17, 0.19),
            below("cifar-10-batches-py"),
            (Source(f"{CIFAR}/cifar-10-python.tar.gz", None, "c58f30108f718f92721af3b95e74349a"),),
        ),
        DataSet(
            "kitti", "KITTI tracking", "https://www.cvlibs.net/datasets/kitti",
            "CC BY-NC-SA 3.0: no commercial use, derived data under the same terms", (15, 15),
            below("training", "testing"),
            (Source(f"{KITTI}/data_tracking_label_2.zip"), Source(f"{KITTI}/data_tracking_image_2.zip")),
        ),
        DataSet(
            "ssv2", "Something-Something v2", "https://developer.qualcomm.com/software/ai-datasets/something-something",
            "research terms that one signs to get it", (19.4, 19.4), below("20bn-something-something-v2"),
            by_hand="sign up there; fetch all parts of the videos, 20bn-something-something-v2-00, -01, ..., and the "
            "labels (train, validation and test .json), and unzip what comes as .zip",
            patterns=("20bn-something-something-v2-??", "*.json"), videos="20bn-something-something-v2/*.webm",
        ),
        DataSet(
            "vip", "VIP", "https://github.com/HCPLab-SYSU/ATEN", "not stated", (None, None), below("VIP_Fine"),
            by_hand="follow its link to the drive and fetch the archive of VIP_Fine (VIP_Sequence is not needed)",
            patterns=("VIP*.zip", "VIP*.tar*", "VIP*.rar"),
        ),
        DataSet(
            "vspw", "VSPW", "https://www.vspwdataset.com", "as its page says; look there", (None, 43),
            below("VSPW_480p"),
            by_hand="follow its link to the drive and fetch the archive of VSPW_480p; clip 988_f_Xvy_DCPt8 has empty "
            "pictures there, for which its page has a patch",
            patterns=("VSPW*.zip", "VSPW*.tar*"),
        ),
        DataSet(
            "uvo", "UVO v1.0", "https://sites.google.com/view/unidentified-video-object",
            "as its page says; look there", (None, None), below("uvo_videos_dense_frames", "VideoDenseSet"),
            by_hand="follow its links and fetch the dense videos' frames and the annotations VideoDenseSet; its dense "
            "videos are of Kinetics-400's val split, so do not train on that",
            patterns=("*.zip", "*.tar*"),
        ),
    )
}  # fmt: skip
