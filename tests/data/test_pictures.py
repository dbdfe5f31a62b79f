"""What pictures of every mode and container show, pixel by pixel."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms, ImageOps

from pipeline.data import pictures
from pipeline.data.dataset import load_data
from pipeline.errors import InputError

RNG = np.random.default_rng(0)
SHAPE = (7, 9)
GREY = RNG.integers(0, 256, SHAPE, np.uint8)
COLOUR = RNG.integers(0, 256, (*SHAPE, 3), np.uint8)
ALPHA = RNG.integers(0, 256, SHAPE, np.uint8)
LEVELS = RNG.integers(0, 65536, SHAPE, np.uint16)
WHITE, TEAL = (255, 255, 255), (0, 128, 128)


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def write(folder, cells, name="a.parquet"):
    pq.write_table(pa.table({"image": cells}), folder / name)
    return str(folder / name)


def pixels_of(path, **settings):
    """The pixels (n, h, w, c) that a data set has of pictures."""
    return load_data(str(path), **settings).table.column("x").transpose(0, 2, 3, 1)


def over(colour, alpha, background):
    """A colour (h, w, c) on a background, as displays do it."""
    a = alpha[..., None] / 255
    return np.rint(a * colour + (1 - a) * np.array(background)[: colour.shape[2]]).astype(int)


def palette():
    image = Image.fromarray((GREY % 4).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 0, 255, 255, 255])
    return image


def animation(kind):
    frames = [Image.fromarray(np.full((*SHAPE, 3), value, np.uint8)) for value in (40, 200, 90)]
    return encode(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )


LAB = Image.fromarray(COLOUR // 4 + np.uint8([100, 96, 96]), "LAB")
CMYK = Image.fromarray(RNG.integers(0, 256, (*SHAPE, 4), np.uint8), "CMYK")
YCBCR = Image.fromarray(COLOUR).convert("YCbCr")
BINARY = Image.fromarray(GREY).convert("1")
PALETTE_COLOURS = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 0], [255, 255, 255]])[GREY % 4]


BIG_ENDIAN = Image.frombytes("I;16B", SHAPE[::-1], LEVELS.astype(">u2").tobytes())
FIRST_FRAME = np.full((*SHAPE, 3), 40)


def naive_rgb(cmyk):
    """Colours of inks without a profile."""
    c, k = np.asarray(cmyk)[..., :3].astype(int), np.asarray(cmyk)[..., 3:].astype(int)
    return (255 - c) * (255 - k) / 255


def to_srgb(image):
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, *profiles, outputMode="RGB"))


def exact(image, kind, expected, **options):
    return pytest.param(encode(image, kind, **options), expected, 0, id=f"{image.mode} {kind}")


LOSSLESS = [
    *(exact(BINARY, kind, np.asarray(BINARY.convert("L"))[..., None]) for kind in ("PNG", "TIFF", "BMP", "PPM")),
    *(exact(Image.fromarray(GREY), kind, GREY[..., None]) for kind in ("PNG", "TIFF", "BMP", "PPM", "TGA")),
    *(exact(Image.fromarray(COLOUR), kind, COLOUR) for kind in ("PNG", "TIFF", "BMP", "PPM", "TGA")),
    exact(Image.fromarray(COLOUR), "WEBP", COLOUR, lossless=True),
    *(exact(palette(), kind, PALETTE_COLOURS) for kind in ("PNG", "GIF", "BMP", "TIFF")),
    exact(CMYK, "TIFF", np.asarray(CMYK.convert("RGB"))),
    exact(YCBCR, "TIFF", np.asarray(YCBCR.convert("RGB"))),
    exact(LAB, "TIFF", to_srgb(LAB)),
    *(exact(Image.fromarray(LEVELS), kind, np.rint(LEVELS / 257)[..., None]) for kind in ("PNG", "TIFF", "PPM")),
    exact(BIG_ENDIAN, "TIFF", np.rint(LEVELS / 257)[..., None]),
    pytest.param(encode(CMYK, "JPEG", quality=100, subsampling=0), naive_rgb(CMYK), 12, id="CMYK JPEG"),
    *(pytest.param(animation(kind), FIRST_FRAME, 0, id=f"animated {kind}") for kind in ("PNG", "TIFF", "GIF", "WEBP")),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected", "tolerance"), LOSSLESS)
def test_a_picture_is_what_it_shows(tmp_path, data, expected, tolerance):
    x = pixels_of(write(tmp_path, [data]))[0]
    assert x.shape == expected.shape
    assert np.abs(x.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("photometric", [0, 1])
def test_white_may_be_zero(tmp_path, photometric):
    for image, grey in ((Image.fromarray(LEVELS), np.rint(LEVELS / 257)), (Image.fromarray(GREY), GREY)):
        data = bytearray(encode(image, "TIFF"))
        at = data.index(bytes([6, 1, 3, 0, 1, 0, 0, 0])) + 8  # tag 262, a short
        data[at] = photometric
        x = pixels_of(write(tmp_path, [bytes(data)]))[0, ..., 0]
        assert np.array_equal(x, grey if photometric else 255 - grey)


def clear_where(values, level):
    return np.where((values == level) if values.ndim == 2 else (values == level).all(2), 0, 255)


GREY_ALPHA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
COLOUR_ALPHA = Image.fromarray(np.dstack([COLOUR, ALPHA]))
LEVEL, COLOUR_OF_ONE, SIXTEEN = int(GREY[0, 0]), tuple(map(int, COLOUR[1, 1])), int(LEVELS[2, 2])
ALPHAS = [9, 0, 255, 99]
TRANSPARENT = {
    "LA PNG": (encode(GREY_ALPHA, "PNG"), GREY[..., None], ALPHA),
    "RGBA PNG": (encode(COLOUR_ALPHA, "PNG"), COLOUR, ALPHA),
    "RGBA TIFF": (encode(COLOUR_ALPHA, "TIFF"), COLOUR, ALPHA),
    "RGBA WEBP": (encode(COLOUR_ALPHA, "WEBP", lossless=True, exact=True), COLOUR, ALPHA),
    "P PNG": (encode(palette(), "PNG", transparency=1), PALETTE_COLOURS, clear_where(GREY % 4, 1)),
    "P PNG, bytes": (encode(palette(), "PNG", transparency=bytes(ALPHAS)), PALETTE_COLOURS, np.array(ALPHAS)[GREY % 4]),
    "P GIF": (encode(palette(), "GIF", transparency=2), PALETTE_COLOURS, clear_where(GREY % 4, 2)),
    "L PNG": (encode(Image.fromarray(GREY), "PNG", transparency=LEVEL), GREY[..., None], clear_where(GREY, LEVEL)),
    "RGB PNG": (
        encode(Image.fromarray(COLOUR), "PNG", transparency=COLOUR_OF_ONE), COLOUR, clear_where(COLOUR, COLOUR_OF_ONE)
    ),
    "I;16 PNG": (
        encode(Image.fromarray(LEVELS), "PNG", transparency=SIXTEEN),
        np.rint(LEVELS / 257)[..., None], clear_where(LEVELS, SIXTEEN),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("background", ["white", "teal"])
def test_transparent_pixels_are_set_on_the_background(tmp_path, kind, background):
    data, colours, alpha = TRANSPARENT[kind]
    colour = {"white": WHITE, "teal": TEAL}[background]
    path = write(tmp_path, [data])
    table = load_data(path, background=background).table
    colours = colours if background == "white" else np.broadcast_to(colours, (*SHAPE, 3))
    assert np.abs(table.column("x")[0].transpose(1, 2, 0) - over(colours, alpha, colour)).max() <= 0
    assert table.notes == [f"1 picture with transparent pixels, set on {background}"]


def test_a_picture_that_is_all_opaque_has_no_background(tmp_path):
    opaque = encode(Image.fromarray(np.dstack([COLOUR, np.full(SHAPE, 255, np.uint8)])), "PNG")
    grey = encode(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", SHAPE[::-1], 255)]), "PNG")
    assert np.array_equal(pixels_of(write(tmp_path, [opaque]), background="red")[0], COLOUR)
    assert np.array_equal(pixels_of(write(tmp_path, [grey]), background="red")[0], GREY[..., None])
    assert load_data(write(tmp_path, [opaque])).table.notes == []


@pytest.mark.parametrize("background", ["blu", "#12", "#ffffff00", ""])
def test_a_background_must_be_an_opaque_colour(tmp_path, background):
    with pytest.raises(InputError, match=r"background=.*: must be") as caught:
        load_data(write(tmp_path, [TRANSPARENT["LA PNG"][0]]), background=background)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_exif_is_applied(tmp_path, kind, orientation):
    turns = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
        5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2), 8: np.rot90,
    }  # fmt: skip
    corners = np.zeros((16, 24, 3), np.uint8)
    corners[:8, :12], corners[8:, :12], corners[:8, 12:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    x = pixels_of(write(tmp_path, [encode(Image.fromarray(corners), kind, exif=exif, **options)]))[0].astype(int)
    expected = turns[orientation](corners)
    assert x.shape == expected.shape
    assert np.abs(x - expected).max() <= (6 if kind == "JPEG" else 0)


@pytest.mark.parametrize(("mode", "name"), [("I", r"32-bit integers \(mode I\)"), ("F", r"floats \(mode F\)")])
def test_pictures_without_a_range_are_refused_by_name(tmp_path, mode, name):
    good, bad = encode(Image.fromarray(GREY), "TIFF"), encode(Image.new(mode, SHAPE[::-1]), "TIFF")
    with pytest.raises(InputError, match=rf"the image in a.parquet, row 1 cannot be read: its pixels are {name}"):
        load_data(write(tmp_path, [good, bad]))


def test_grey_and_coloured_pictures_together_are_coloured(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "ROWS_PER_PIECE", 3)
    order = [GREY, GREY, GREY, GREY, GREY, COLOUR, GREY, COLOUR, GREY]
    x = pixels_of(write(tmp_path, [encode(Image.fromarray(one), "PNG") for one in order]))
    assert all(np.array_equal(a, b if b.ndim == 3 else np.dstack([b] * 3)) for a, b in zip(x, order, strict=True))


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (encode(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), "PNG")[:900], "truncated"),
        (encode(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")[:900], "truncated"),
        (b"", "of no known format"),
        (b"GIF89a", "of no known format"),
        (None, "it is missing"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(tmp_path, cell, why):
    path = write(tmp_path, [encode(Image.fromarray(COLOUR), "PNG"), cell])
    with pytest.raises(InputError, match=rf"the image in a.parquet, row 1 cannot be read: .*{why}") as caught:
        load_data(path)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, side):
    bomb = encode(Image.new("1", (side, side)), "PNG")
    with pytest.raises(InputError, match=rf"row 0 cannot be read: .*{side * side} pixels"):
        load_data(write(tmp_path, [bomb]))


@pytest.mark.parametrize("layout", ["struct", "bytes", "path", "path-only struct", "absolute path", "dictionary"])
def test_a_cell_holds_bytes_or_a_path_beside_its_file(tmp_path, layout):
    (tmp_path / "img").mkdir()
    images = RNG.integers(0, 256, (4, *SHAPE), np.uint8)
    data = [encode(Image.fromarray(image), "PNG") for image in images]
    for i, one in enumerate(data):
        (tmp_path / "img" / f"{i}.png").write_bytes(one)
    paths = [f"img/{i}.png" for i in range(4)]
    cells = {
        "struct": [{"bytes": one, "path": "gone.png"} for one in data],
        "bytes": data,
        "path": paths,
        "path-only struct": pa.array([{"bytes": None, "path": path} for path in paths],
                                     pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "absolute path": [str(tmp_path / path) for path in paths],
        "dictionary": pa.array(paths).dictionary_encode(),
    }[layout]  # fmt: skip
    assert np.array_equal(pixels_of(write(tmp_path, cells))[..., 0], images)


def test_a_path_to_nothing_names_the_row(tmp_path):
    (tmp_path / "0.png").write_bytes(encode(Image.fromarray(GREY), "PNG"))
    with pytest.raises(InputError, match=r"the image in a.parquet, row 1 cannot be read: .*img/1.png"):
        load_data(write(tmp_path, ["0.png", "img/1.png"]))


def test_a_folder_of_pictures_has_the_folders_below_as_labels(tmp_path):
    folder, expected = tmp_path / "animals", []
    for name in ("dog", "cat"):
        (folder / name / "deep").mkdir(parents=True)
        for i in range(3):
            image = RNG.integers(0, 256, SHAPE, np.uint8)
            Image.fromarray(image).save(folder / name / ("deep" if i else "") / f"{i}.PNG")
            expected.append((name, image))
    Image.fromarray(GREY).save(folder / "dog" / "._0.png")
    data = load_data(str(folder))
    batch = data.batch(np.arange(6))
    by_label = sorted(expected, key=lambda one: one[0])
    assert data.classes == ["cat", "dog"]
    assert [data.classes[i] for i in batch["label"]] == [name for name, _ in by_label]
    assert {x.tobytes() for x in data.table.column("x")} == {image.tobytes() for _, image in expected}
    assert "label" not in load_data(str(folder), label_column="").batch(np.arange(6))
    assert load_data(str(folder / "cat")).classes == ["deep"]
    assert load_data(str(folder / "cat" / "0.PNG")).size == 1


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    for name in (10, 9, -1):
        (tmp_path / str(name)).mkdir()
        Image.fromarray(GREY).save(tmp_path / str(name) / "a.png")
    data = load_data(str(tmp_path))
    assert data.classes == [9, 10]
    assert sorted(data.batch(np.arange(3))["label"].tolist()) == [-1, 0, 1]


def test_threads_change_no_pixel(tmp_path, monkeypatch):
    images = RNG.integers(0, 256, (50, *SHAPE, 3), np.uint8)
    path = write(tmp_path, [encode(Image.fromarray(image), "PNG") for image in images])
    for i, threads in enumerate((1, 4)):
        monkeypatch.setattr(pictures, "THREADS", threads)
        monkeypatch.setenv("EBM_CACHE", str(tmp_path / str(i)))
        assert np.array_equal(pixels_of(path), images)


def test_exif_transpose_is_pillows(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    data = encode(Image.fromarray(LEVELS), "PNG", exif=exif)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(pixels_of(write(tmp_path, [data]))[0, ..., 0], np.rint(turned / 257))
