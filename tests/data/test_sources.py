"""Every source of data, on small stand-ins of the real layouts."""

import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from pipeline.data.arrow_table import ROWS_PER_PIECE
from pipeline.data.dataset import load_data
from pipeline.errors import InputError

RNG = np.random.default_rng(0)


def png(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def write_parquet(path, images, labels=None):
    cells = pa.array(
        [{"bytes": png(i), "path": "x.png"} for i in images], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    pq.write_table(pa.table({"image": cells} | ({} if labels is None else {"label": labels})), path)


@pytest.mark.parametrize("shape", [(12, 9, 11), (12, 9, 11, 3)])
@pytest.mark.parametrize("kind", ["parquet", "folder", "npz"])
def test_images_are_read_as_they_are(tmp_path, shape, kind):
    images, labels = RNG.integers(0, 256, shape, np.uint8), np.arange(12) % 4
    if kind == "npz":
        path = tmp_path / "a.npz"
        np.savez(path, images=images, labels=labels)
    else:
        path = tmp_path / "a.parquet" if kind == "parquet" else tmp_path
        write_parquet(tmp_path / "a.parquet", images[:7], labels[:7] if kind == "folder" else None)
        if kind == "folder":
            write_parquet(tmp_path / "b.parquet", images[7:], labels[7:])
    data = load_data(str(path))
    n = 7 if kind == "parquet" else 12
    channels = 3 if len(shape) == 4 else 1
    assert (data.size, data.spec.shape) == (n, (channels, 9, 11))
    batch = data.batch(np.array([4, 1]))
    expected = images[[4, 1]] if len(shape) == 3 else images[[4, 1]].transpose(0, 3, 1, 2)
    assert torch.equal(batch["x"].flatten(), torch.tensor(expected).flatten().float() / 127.5 - 1)
    assert data.spec.num_classes == (0 if kind == "parquet" else 4)
    assert "label" not in batch if kind == "parquet" else batch["label"].tolist() == [0, 1]


def test_other_files_are_ignored_and_palettes_become_colours(tmp_path):
    (tmp_path / "README.md").write_text("about")
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 255, 0, 128])
    out = io.BytesIO()
    picture.save(out, "PNG")
    pq.write_table(pa.table({"image": [{"bytes": out.getvalue(), "path": ""}]}), tmp_path / "a.parquet")
    x = load_data(str(tmp_path)).table.column("x")
    assert x[0, :, 0, 0].tolist() == [255, 0, 128]


def test_many_items_keep_their_order_whatever_the_pieces(tmp_path):
    n = ROWS_PER_PIECE + 300
    numbers, path = np.arange(n), tmp_path / "a.parquet"
    images = np.zeros((n, 8, 8), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = numbers % 256, numbers // 256
    pq.write_table(pa.table({"image": [{"bytes": png(i), "path": ""} for i in images]}), path, row_group_size=700)
    assert np.array_equal(load_data(str(path)).table.column("x")[:, 0], images)
    pq.write_table(pa.table({"features": numbers[:, None].tolist(), "label": numbers % 7}), path, row_group_size=700)
    table = load_data(str(path)).table
    assert np.array_equal(table.column("x")[:, 0], numbers)
    assert np.array_equal(table.column("label"), numbers % 7)
    pq.write_table(pa.table({"text": [f"w{i} w{i} end" for i in numbers]}), path, row_group_size=700)
    table = load_data(str(path)).table
    texts = [" ".join(table.words[i] for i in text) for text in table.ragged("x", numbers)]
    assert (table.words[0], texts) == ("end", [f"w{i} w{i} end" for i in numbers])


def test_an_error_in_a_later_piece_is_an_error_of_the_data(tmp_path):
    images = [np.zeros((8, 8), np.uint8)] * ROWS_PER_PIECE
    write_parquet(tmp_path / "a.parquet", [*images, np.zeros((8, 9), np.uint8)])
    with pytest.raises(InputError, match=r"differ in size: a.parquet, row 1000 is \(8, 9\)"):
        load_data(str(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"features": [[1.0]] * ROWS_PER_PIECE + [[1.0, 2.0]]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="lists of one length, not of 1, 2"):
        load_data(str(tmp_path / "a.parquet"))


def test_max_items_takes_the_first_items():
    assert load_data("digits", max_items=100).size == 100
    assert load_data("digits", max_items=10**6).size == 1797


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.zeros((5, 8, 8), np.uint8))
    first = load_data(str(path))
    np.savez(path, images=np.full((6, 8, 8), 255, np.uint8))
    second = load_data(str(path))
    assert (first.size, second.size) == (5, 6)
    assert second.batch(np.array([0]))["x"].min() == 1


def bad_files(folder):
    (folder / "noise.parquet").write_bytes(b"PAR1 no")
    (folder / "noise.npz").write_bytes(b"PK no")
    pq.write_table(pa.table({"sound": ["a"]}), folder / "sound.parquet")
    pq.write_table(pa.table({"text": ["a", "b"]}), folder / "once.parquet")
    pq.write_table(pa.table({"text": [1, 2]}), folder / "numbers.parquet")
    pq.write_table(pa.table({"text": [" "]}), folder / "blank.parquet")
    pq.write_table(pa.table({"features": [[1.0, 2.0], [1.0]]}), folder / "ragged.parquet")
    pq.write_table(pa.table({"features": [[1.0, None]]}), folder / "missing.parquet")
    pq.write_table(pa.table({"image": [{"bytes": b"no png", "path": ""}]}), folder / "nopng.parquet")
    write_parquet(folder / "sizes.parquet", [np.zeros((8, 8), np.uint8), np.zeros((9, 8), np.uint8)])
    np.savez(folder / "float.npz", images=np.zeros((3, 8, 8)))
    np.savez(folder / "noimages.npz", x=np.zeros(3))
    (folder / "empty").mkdir()
    np.savez(folder / "cut.npz", images=np.zeros((9, 8, 8), np.uint8))
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:300])
    np.savez(folder / "channels.npz", images=np.zeros((3, 8, 8, 5), np.uint8))
    np.savez(folder / "scalar.npz", images=np.uint8(3))
    images = np.zeros((3, 8, 8), np.uint8)
    for name, labels in (("few", [1, 2]), ("many", [1] * 4), ("floats", [0.5, 1.0, 2.0])):
        np.savez(folder / f"{name}.npz", images=images, labels=np.array(labels))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("noise.parquet", "cannot be read as Parquet"),
        ("noise.npz", "cannot be read as .npz"),
        ("sound.parquet", "no column `image`, `text`, `features`, and sound holds string"),
        ("once.parquet", "no word that is in the texts twice"),
        ("numbers.parquet", "column text does not hold texts, but in numbers.parquet, row 0 int"),
        ("blank.parquet", "no word in any text"),
        ("ragged.parquet", "features must be lists of one length, not of 1, 2"),
        ("missing.parquet", "features must be finite"),
        ("nopng.parquet", "the image in nopng.parquet, row 0 cannot be read: it is of no known format"),
        ("sizes.parquet", "differ in size"),
        ("float.npz", "must be uint8"),
        ("cut.npz", "cannot be read as .npz"),
        ("channels.npz", "1 or 3 channels, not 5"),
        ("scalar.npz", "images"),
        *((name, "labels must be one per item") for name in ("few.npz", "many.npz")),
        ("floats.npz", "labels must be whole numbers, words or booleans, not 0.5"),
        ("noimages.npz", "no array `images`"),
        ("empty", "holds no .parquet files"),
        ("absent", "neither a data set .digits, .*flowers. nor a file"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_one_line(tmp_path, name, why):
    bad_files(tmp_path)
    with pytest.raises(InputError, match=why) as caught:
        load_data(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert (caught.value.field, caught.value.value) == ("data", str(tmp_path / name))


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(int(s).to_bytes(4, "big") for s in array.shape) + array.tobytes()


def flowers(folder, monkeypatch):
    """Forty images in the layout of Oxford Flowers."""
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *args: True)
    (folder / "jpg").mkdir(parents=True)
    for i in range(1, 41):
        image = Image.fromarray(RNG.integers(0, 256, (60, 50, 3), np.uint8))
        image.save(folder / "jpg" / f"image_{i:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.arange(40) % 10 + 1})
    ids = np.arange(1, 41)
    savemat(folder / "setid.mat", {"trnid": ids[:10], "valid": ids[10:20], "tstid": ids[20:]})


def stand_in(name, root, monkeypatch):
    """Forty images in the layout that torchvision reads."""
    if name in ("mnist", "fashion-mnist"):
        raw = root / {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name] / "raw"
        raw.mkdir(parents=True)
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(RNG.integers(0, 256, (40, 28, 28), np.uint8)))
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx((np.arange(40) % 10).astype(np.uint8)))
    elif name == "cifar10":
        monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for i in range(1, 6):
            content = {"data": RNG.integers(0, 256, (8, 3072), np.uint8), "labels": [k % 10 for k in range(8)]}
            (folder / f"data_batch_{i}").write_bytes(pickle.dumps(content))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(k) for k in range(10)]}))
    elif name == "svhn":
        monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)
        root.mkdir(parents=True)
        content = {"X": RNG.integers(0, 256, (32, 32, 3, 40), np.uint8), "y": 1 + np.arange(40)[:, None] % 10}
        savemat(root / "train_32x32.mat", content)
    elif name == "flowers":
        flowers(root / "flowers-102", monkeypatch)
    else:
        monkeypatch.setattr(datasets.CelebA, "_check_integrity", lambda self: True)
        folder = root / "celeba"
        (folder / "img_align_celeba").mkdir(parents=True)
        names = [f"{i:06d}.jpg" for i in range(1, 41)]
        for n in names:
            Image.fromarray(RNG.integers(0, 256, (218, 178, 3), np.uint8)).save(folder / "img_align_celeba" / n)
        rows = {"list_eval_partition": ["0"], "identity_CelebA": ["1"], "list_bbox_celeba": ["0"] * 4,
                "list_landmarks_align_celeba": ["0"] * 10, "list_attr_celeba": ["1"] * 40}  # fmt: skip
        for file, values in rows.items():
            head = (
                ""
                if file in ("list_eval_partition", "identity_CelebA")
                else f"40\n{' '.join(f'c{i}' for i in range(len(values)))}\n"
            )
            (folder / f"{file}.txt").write_text(head + "".join(f"{n} {' '.join(values)}\n" for n in names))


@pytest.fixture(params=["mnist", "fashion-mnist", "cifar10", "svhn", "celeba", "flowers"])
def torchvision_set(request, tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_CACHE", str(tmp_path))
    stand_in(request.param, tmp_path / "torchvision", monkeypatch)
    return request.param


def test_torchvision_sets_are_read(torchvision_set):
    shape = {"cifar10": (3, 32, 32), "svhn": (3, 32, 32), "flowers": (3, 32, 32), "celeba": (3, 64, 64)}.get(
        torchvision_set, (1, 28, 28)
    )
    data = load_data(torchvision_set)
    assert (data.size, data.spec.shape) == (40, shape)
    assert data.spec.num_classes == {"celeba": 0, "cifar10": 8}.get(torchvision_set, 10)


def test_a_set_that_cannot_be_downloaded_is_an_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [])
    with pytest.raises(InputError, match=r"data=mnist: it is not under .* and cannot be downloaded"):
        load_data("mnist")
