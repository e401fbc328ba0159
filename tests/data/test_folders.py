"""Text in any encoding, what programs leave behind, links, and frames in the order of their numbers."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data.folders import beside, children, frames_in, read_csv, read_lines, read_text, walk
from lib.errors import UserError

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_are_read_in_whatever_encoding_editors_save_them(tmp_path, encoding, end):
    path = tmp_path / "list.txt"
    lines = ["dog", "", "  ", "\u00fcber den\u2028Berg ", "a b\x85c", "\u72ac"]
    path.write_bytes(end.join(lines).encode(encoding))
    read = read_lines(path)
    assert [line for _, line in read] == ["dog", "\u00fcber den\u2028Berg", "a b\x85c", "\u72ac"]
    assert [place for place, _ in read] == [f"{path}:{number}" for number in (1, 4, 5, 6)]
    path.write_bytes(f"path,label{end}a.mp4,\u72ac{end}".encode(encoding))
    assert read_csv(path, ["path"]) == [{"path": "a.mp4", "label": "\u72ac"}]


def test_text_that_is_none_is_told(tmp_path):
    path = tmp_path / "list.txt"
    for content, words in (
        ("dog".encode("utf-16-le"), "holds zero bytes, as UTF-16 without its mark does"),
        (b"\xff\xfe\xfa", "is no text in UTF-16"),
        (b"{\xfa}", "is no text in UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"list.txt: {words}.*save it as UTF-8"):
            read_text(path)
    path.write_bytes(b"caf\xe9\n")  # a file's name need not be UTF-8
    assert os.fsencode(read_lines(path)[0][1]) == b"caf\xe9"


def test_what_programs_leave_is_not_there(tmp_path):
    for name in (".git", "__MACOSX", ".ipynb_checkpoints", "@eaDir", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").touch()
    for name in ("._dogs", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).touch()
        (tmp_path / "dogs" / name).touch()
    assert [path.name for path in children(tmp_path)] == ["dogs"]
    assert list(walk(tmp_path)) == [tmp_path / "dogs" / "a.mp4"]


def test_links_are_followed_and_end(tmp_path):
    store, root = tmp_path / "store", tmp_path / "root"
    (store / "a" / "deep").mkdir(parents=True)
    (store / "a" / "deep" / "1.mp4").touch()
    root.mkdir()
    (root / "one").symlink_to(store / "a")
    (root / "two").symlink_to(store / "a")  # the same folder twice is no loop
    (store / "a" / "deep" / "back").symlink_to(root)
    (root / "gone").symlink_to(store / "nowhere")
    found = {str(path.relative_to(root)) for path in walk(root)}
    assert {"one/deep/1.mp4", "two/deep/1.mp4", "gone"} <= found
    assert all(name.endswith("1.mp4") for name in found - {"gone"})  # for its reader to miss
    (store / "frames").mkdir()
    for number in range(3):
        (store / "frames" / f"{number}.jpg").symlink_to(store / ("a/deep/1.mp4" if number != 1 else "nowhere"))
    with pytest.raises(UserError, match=r"1.jpg: missing frame, to which a link leads \(1 missing\)"):
        frames_in(store / "frames")


def touched(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("first", "later"),
    [("0.jpg", "11.jpg"), ("frame_9.png", "frame_10.png"), ("img2_l.JPG", "img10_l.JPG"), ("s01e9.jpeg", "s01e10.jpeg"),
     ("9999.jpg", "10000.jpg"), ("v1.0009.png", "v1.0010.png"), ("2-9.jpg", "10-1.jpg"), ("0.09.jpg", "0.10.jpg"),
     ("00009.jpg.jpg", "00010.jpg.jpg"), ("9.jpg", "10.PNG")],
)  # fmt: skip
def test_frames_come_by_number(tmp_path, first, later):
    folder = touched(tmp_path / "f", later, first, ".DS_Store", "notes.txt")
    assert [path.name for path in frames_in(folder)] == [first, later]


@pytest.mark.parametrize(
    ("names", "words"),
    [(("1.jpg", "01.jpg"), "has the number of"), (("1.jpg", "1.png"), "has the number of"),
     (("frame1.jpg", "img2.jpg"), "is not numbered as"), (("a.jpg", "b.jpg"), "is not numbered as"),
     (("0.25.jpg", "1.5.jpg"), "a fraction or two counts"), (("-1.jpg", "0.jpg"), "is not numbered as"),
     (("1.jpg", "2.heic"), "2.heic: no picture that can be read, among frames"), (("a.txt",), "holds no frame")],
)  # fmt: skip
def test_frames_of_no_certain_order_are_refused(tmp_path, names, words):
    with pytest.raises(UserError, match=words):
        frames_in(touched(tmp_path / "f", *names))


def test_masks_are_found_by_their_frames_names(tmp_path):
    frames = frames_in(touched(tmp_path / "f", "1.jpg", "2.JPG", "10.jpeg"))
    masks = touched(tmp_path / "m", "1.PNG", "10.png", "2.jpg", "._1.png")  # a JPEG's ids would be blurred
    assert beside(frames, masks, "mask") == (masks / "1.PNG", None, masks / "10.png")
    touched(masks, "1.png")
    with pytest.raises(UserError, match="is the mask of the same frame"):
        beside(frames, masks, "mask")
    with pytest.raises(UserError, match=r"n/1.png: missing mask \(all 3 missing\)"):
        beside(frames, touched(tmp_path / "n"), "mask")


def test_pictures_of_other_depths_are_scaled_or_refused(tmp_path):
    from lib.data.images import read_frame, read_mask

    values = np.linspace(0, 65535, 48 * 64).round().reshape(48, 64)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "16.png")
    frame = read_frame(tmp_path / "16.png").astype(int)
    assert np.abs(frame - values[..., None] / 257).max() <= 0.5 + 1e-6 and frame.max() == 255
    for kind, name in ((np.float32, "f.tif"), (np.int32, "i.tif")):
        Image.fromarray(values.astype(kind)).save(tmp_path / name)
        with pytest.raises(UserError, match=f"{name}: its pixels are .*, whose range nobody tells"):
            read_frame(tmp_path / name)
    ids = (np.arange(48 * 64).reshape(48, 64) % 3).astype(np.uint8)
    grey, opaque = Image.fromarray(ids), Image.new("L", (64, 48), 255)
    for name, image in {
        "la.png": Image.merge("LA", (grey, opaque)), "rgb.png": Image.merge("RGB", (grey,) * 3),
        "rgba.png": Image.merge("RGBA", (grey, grey, grey, opaque)),
    }.items():  # fmt: skip
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), ids)
    Image.merge("LA", (grey, Image.new("L", (64, 48), 7))).save(tmp_path / "clear.png")
    Image.merge("RGB", (grey, grey, opaque)).save(tmp_path / "colours.png")
    for name in ("clear.png", "colours.png"):
        with pytest.raises(UserError, match=f"{name}: a mask must be"):
            read_mask(tmp_path / name)
    Image.fromarray(ids > 0).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), ids > 0)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_pictures_are_upright(tmp_path, suffix, tag):
    from lib.data.images import read_frame, size_of

    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12, :20], upright[:12, 20:], upright[12:, :20] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    stored = {2: np.s_[:, ::-1], 3: np.s_[::-1, ::-1], 4: np.s_[::-1], 5: np.s_[:], 6: np.s_[:, ::-1],
              7: np.s_[::-1, ::-1], 8: np.s_[::-1]}.get(tag, np.s_[:])  # fmt: skip
    picture = upright.transpose(1, 0, 2) if tag > 4 else upright
    # what is stored, once turned by its tag, is upright: 6 is a quarter turn clockwise, 8 one against the clock
    picture = {6: np.rot90(upright, 1), 8: np.rot90(upright, -1), 5: upright.transpose(1, 0, 2),
               7: np.rot90(upright, 2).transpose(1, 0, 2)}.get(tag, upright[stored])  # fmt: skip
    exif = Image.Exif()
    exif[0x112] = tag
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(picture)).save(path, exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    assert size_of(path) == (24, 40)
    assert np.abs(read_frame(path).astype(int) - upright).mean() < 4
