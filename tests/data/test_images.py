import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from sightread.data.images import DatasetPictures, PictureFiles, open_picture, read_pictures
from sightread.errors import DataError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image, kind="PNG", **settings):
    image.save(buffer := io.BytesIO(), kind, **settings)
    return buffer.getvalue()


def noise(width=64, height=48):
    return Image.frombytes("RGB", (width, height), random.Random(0).randbytes(width * height * 3))


def bomb(width, height):
    """A small PNG that promises width x height pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(10_000))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("BMP", 0), ("JPEG", 6)])
def test_a_good_picture_comes_back_in_rgb(tmp_path, kind, tolerance):
    image = Image.linear_gradient("L").convert("RGB")
    (path := tmp_path / f"x.{kind.lower()}").write_bytes(encoded(image, kind))
    for opened in (open_picture(path), open_picture(path.read_bytes())):
        assert (opened.mode, opened.size) == ("RGB", (256, 256))
        assert np.abs(np.asarray(opened, int) - np.asarray(image, int)).max() <= tolerance


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("RGB", (3, 2), RED).convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        (Image.new("RGBA", (3, 2), (*RED, 255)), "PNG"),
        (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "TIFF"),
        (Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"),
        (Image.new("RGB", (3, 2), RED).convert("P"), "GIF"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
def test_red_is_red_in_every_mode(image, kind):
    opened = open_picture(encoded(image, kind))
    assert opened.mode == "RGB"
    assert np.abs(np.asarray(opened, int) - RED).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_white_is_white_without_colour(mode):
    assert open_picture(encoded(Image.new("L", (3, 2), 255).convert(mode))).getpixel((2, 1)) == (255, 255, 255)


def test_floating_point_numbers_of_unknown_range_are_refused():
    with pytest.raises(DataError, match="floating-point numbers"):
        open_picture(encoded(Image.new("F", (3, 2), 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(kind):
    levels = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    opened = np.asarray(open_picture(encoded(Image.fromarray(levels), kind)), int)
    assert opened.shape == (16, 16, 3)
    assert np.abs(opened - (levels // 256)[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "turned", "corner"),
    [
        (1, False, (0, 0)), (2, False, (-1, 0)), (3, False, (-1, -1)), (4, False, (0, -1)),
        (5, True, (0, 0)), (6, True, (-1, 0)), (7, True, (-1, -1)), (8, True, (0, -1)),
    ],
)  # fmt: skip
def test_pictures_stand_upright(orientation, turned, corner):
    image = Image.new("RGB", (6, 4), BLUE)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_picture(encoded(image, exif=exif))
    assert opened.size == ((4, 6) if turned else (6, 4))
    x, y = corner
    assert opened.getpixel((x % opened.width, y % opened.height)) == RED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"<html>404 not found</html>",
        encoded(noise(), "JPEG")[:2000],
        encoded(noise())[:2000],
        encoded(noise(), "JPEG")[:20],
        b"\xff\xd8\xff\xe0" + random.Random(1).randbytes(500),
        bomb(8, 0),
    ],
    ids=["empty", "zeros", "html", "cut JPEG", "cut PNG", "JPEG header", "JPEG of noise", "no height"],
)
def test_a_broken_picture_is_named_so(tmp_path, data):
    (path := tmp_path / "x.jpg").write_bytes(data)
    for source in (path, data):
        with pytest.raises(DataError, match="broken picture"):
            open_picture(source)


def test_a_missing_picture_is_named_so(tmp_path):
    with pytest.raises(DataError, match="missing picture"):
        open_picture(tmp_path / "none.jpg")


@pytest.mark.parametrize("side", [50_000, 9_000])  # above Pillow's own cap, and below it
def test_a_bomb_is_refused_before_it_is_decoded(side, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert len(bomb(side, side)) < 1000
    with pytest.raises(DataError, match="too large"):
        open_picture(bomb(side, side))


def test_max_pixels_is_the_largest_that_passes():
    data = encoded(noise(20, 10))
    assert open_picture(data, max_pixels=200).size == (20, 10)
    with pytest.raises(DataError, match=r"too large \(20 x 10 > 199 pixels\)"):
        open_picture(data, max_pixels=199)


@pytest.fixture
def folder(tmp_path):
    """Pictures whose widths are 1, 2, 3, 4 in the order of their names, and files of other kinds."""
    (root := tmp_path / "pictures").mkdir()
    for width, name in enumerate(["B.PNG", "a.jpeg", "sub/c.png", "sub/deep/d.webp"], start=1):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, 1)).save(root / name)
    for name in ("captions.tsv", "png", "sub/x.png.txt"):
        (root / name).touch()
    return root


def test_a_folder_is_read_in_order(folder):
    pictures = PictureFiles.from_folder(folder)
    assert pictures.ids == ["B.PNG", "a.jpeg", "sub/c.png", "sub/deep/d.webp"]
    assert [pictures.load(i).width for i in range(len(pictures))] == [1, 2, 3, 4]
    assert pictures.path(2) == folder / "sub" / "c.png"
    chosen = pictures.select([3, 0])
    assert (chosen.ids, chosen.load(0).width, chosen.load(1).width) == (["sub/deep/d.webp", "B.PNG"], 4, 1)


def test_a_folder_named_like_a_picture_is_none(folder):
    (folder / "holiday.jpg").mkdir()
    assert "holiday.jpg" not in PictureFiles.from_folder(folder).ids


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="no folder of pictures at"):
        PictureFiles.from_folder(tmp_path / "none")
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match=r"no pictures below .*\.jpeg"):
        PictureFiles.from_folder(tmp_path)


def test_only_the_listed_pictures(folder):
    assert read_pictures(folder, only=["sub/c.png", "B.PNG", "absent"]).ids == ["B.PNG", "sub/c.png"]
    assert len(read_pictures(folder, only=None)) == 4
    with pytest.raises(DataError, match="none of the 1 listed pictures is among the 4"):
        read_pictures(folder, only=["absent"])


@pytest.fixture
def saved(tmp_path, folder):
    """A data set on disk: a picture in bytes, one by its path, a missing one, a broken one, a bomb."""
    import datasets

    cells = [
        {"bytes": encoded(Image.new("RGB", (7, 1))), "path": None},
        {"bytes": None, "path": str(folder / "a.jpeg")},
        None,
        {"bytes": b"nonsense", "path": None},
        {"bytes": bomb(50_000, 50_000), "path": None},
    ]
    dataset = datasets.Dataset.from_dict(
        {"photo": cells}, features=datasets.Features({"photo": datasets.Image(decode=False)})
    )
    dataset.cast_column("photo", datasets.Image()).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_pictures_of_a_data_set(saved):
    pictures = read_pictures(saved, column="photo")
    assert isinstance(pictures, DatasetPictures)
    assert len(pictures) == len(set(pictures.ids)) == 5
    assert [pictures.load(0).width, pictures.load(1).width] == [7, 2]
    assert pictures.path(1) is None
    for row, fault in ((2, "missing picture"), (3, "broken picture"), (4, "too large")):
        with pytest.raises(DataError, match=fault):
            pictures.load(row)
    chosen = pictures.select([3, 0]).select([1])
    assert (chosen.ids, chosen.load(0).width) == ([pictures.ids[0]], 7)
    assert read_pictures(saved, column="photo", only=pictures.ids[1:3]).ids == pictures.ids[1:3]


def test_a_data_set_without_the_column_is_refused(saved):
    with pytest.raises(DataError, match="has columns photo; no 'image'"):
        read_pictures(saved)
