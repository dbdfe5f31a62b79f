"""Features in columns of Parquet and CSV files."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.data.dataset import load_data
from pipeline.errors import InputError

DAY = datetime.date(2024, 1, 1)
TABLE = {
    "small": pa.array([1, 2, 3, 4], pa.int8()),
    "big": pa.array([2**40, 0, 1, 2], pa.uint64()),
    "half": pa.array(np.float16([0.5, 1, 2, 3])),
    "price": pa.array([Decimal("1.25"), Decimal("2.5"), Decimal("0"), Decimal("-1")]),
    "flag": pa.array([True, False, False, True]),
    "day": pa.array([DAY + datetime.timedelta(i * i) for i in range(4)]),
    "time": pa.array([1_700_000_000 + i * i for i in range(4)], pa.timestamp("s")),
    "span": pa.array([0, 10, 30, 20], pa.duration("ms")),
    "code": pa.array([5, 6, 6, 5]).dictionary_encode(),
    "pair": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 9.0]]),
    "word": pa.array(["a", "b", "a", "b"]),
    "nested": pa.array([[[1.0]]] * 4),
    "missing": pa.array([1.0, None, 2.0, 3.0]),
    "nan": pa.array([1.0, 2.0, float("nan"), 3.0]),
    "inf": pa.array([1.0, 2.0, 3.0, float("inf")]),
    "same": pa.array([0.1] * 4),
    "label": pa.array(["x", "y", "x", None]),
}
NUMBERS = {"small": [1, 2, 3, 4], "big": [2**40, 0, 1, 2], "half": [0.5, 1, 2, 3], "price": [1.25, 2.5, 0, -1],
           "flag": [1, 0, 0, 1], "day": [0, 1, 4, 9], "time": [0, 1, 4, 9], "span": [0, 10, 30, 20],
           "code": [5, 6, 6, 5]}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    pq.write_table(pa.table(TABLE), tmp_path / "a.parquet")
    return str(tmp_path / "a.parquet")


def standardized(numbers):
    x = np.array(numbers, np.float64)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def items(data):
    return data.batch(np.arange(data.size))


@pytest.mark.parametrize("column", NUMBERS)
def test_a_column_of_numbers_of_any_type_is_a_feature(path, column):
    data = load_data(path, columns=[column])
    np.testing.assert_allclose(items(data)["x"][:, 0], standardized(NUMBERS[column]), rtol=1e-6, atol=1e-6)
    assert (data.classes, items(data)["label"].tolist()) == (["x", "y"], [0, 1, 0, -1])


def test_columns_are_side_by_side_in_the_order_that_is_asked_for(path):
    data = load_data(path, columns=["price", "pair", "small"])
    expected = np.column_stack([NUMBERS["price"], TABLE["pair"].to_pylist(), NUMBERS["small"]])
    np.testing.assert_allclose(items(data)["x"], standardized(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("word", "column word holds string, which are no numbers"),
        ("nested", "column nested holds list<.*list<.*>>, which are no numbers"),
        ("missing", "features must be finite: missing is missing in a.parquet, row 1"),
        ("nan", "features must be finite: nan is missing in a.parquet, row 2"),
        ("inf", "features must be finite: inf is infinite in a.parquet, row 3"),
        ("gone", "columns=gone: there is no such column, only small, .*, label"),
    ],
)
def test_a_column_that_is_no_feature_is_named(path, columns, why):
    with pytest.raises(InputError, match=why) as caught:
        load_data(path, columns=["small", columns])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["label_column", "image_column", "text_column"])
def test_a_column_that_is_not_there_is_refused(path, field):
    with pytest.raises(InputError, match=f"{field}=gone: there is no such column"):
        load_data(path, columns=["small"], **{field: "gone"})


def test_columns_may_have_other_names(path):
    data = load_data(path, columns=["small"], label_column="flag")
    assert (data.classes, items(data)["label"].tolist()) == ([False, True], [1, 0, 0, 1])
    assert load_data(path, text_column="word").spec.kind == "text"
    assert load_data(path, columns=["small"], label_column="").classes == []


def test_features_keep_what_varies(tmp_path):
    time = 1_700_000_000 + np.arange(60) / 8
    for kind, values in (("list", {"features": time[:, None].tolist()}), ("plain", {"time": time})):
        pq.write_table(pa.table(values), tmp_path / f"{kind}.parquet")
        x = items(load_data(str(tmp_path / f"{kind}.parquet")))["x"][:, 0]
        np.testing.assert_allclose(x, standardized(time), atol=1e-6)
        assert len(x.unique()) == 60


@pytest.mark.parametrize("value", [0.1, 1e-20, 1e16, -3.7])
def test_a_constant_feature_is_0_and_is_named(tmp_path, value):
    pq.write_table(pa.table({"a": np.full(50, value), "b": np.arange(50.0)}), tmp_path / "a.parquet")
    data = load_data(str(tmp_path / "a.parquet"))
    assert not items(data)["x"][:, 0].any()
    assert "constant, and therefore 0: feature a" in data.describe()
    assert data.record["columns"] == ["a", "b"]


def test_features_too_large_for_a_deviation_are_refused(tmp_path):
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": [1e300, -1e300]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="feature b is too large to be standardised"):
        load_data(str(tmp_path / "a.parquet"))


def test_all_columns_but_the_label_are_features(tmp_path):
    pq.write_table(pa.table({"b": [1, 2], "label": [0, 1], "a": [3.5, 4]}), tmp_path / "a.parquet")
    assert load_data(str(tmp_path / "a.parquet")).table.names == ["b", "a"]
    pq.write_table(pa.table({"b": [1, 2], "name": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"no column `image`, .*, and name holds string: choose columns"):
        load_data(str(tmp_path / "a.parquet"))
    assert load_data(str(tmp_path / "a.parquet"), columns=["b"]).spec.shape == (1,)


CSV = 'a,"b c",label\n1,2.5,0\n-3,1e3,10\n4,0,9\n0,1,\n'


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", CSV), ("a.TSV", CSV.replace(",", "\t")), ("b.csv", "\ufeff" + CSV)]
)
def test_a_csv_file_is_a_table(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    data = load_data(str(tmp_path / name))
    assert data.table.names == ["a", "b c"]
    assert data.table.column("x").tolist() == [[1, 2.5], [-3, 1000], [4, 0], [0, 1]]
    assert (data.classes, data.table.column("label").tolist()) == ([0, 9, 10], [0, 2, 1, -1])
    assert load_data(str(tmp_path), columns=["b c"]).spec.shape == (1,)


def test_numbers_far_down_a_csv_file_may_have_another_form(tmp_path):
    lines = [f"{i},w" for i in range(300_000)]  # more than pyarrow reads to find the types
    (tmp_path / "a.csv").write_text("a,label\n" + "\n".join([*lines, "0.5,v"]))
    data = load_data(str(tmp_path / "a.csv"))
    assert (data.table.column("x")[-1, 0], data.classes) == (0.5, ["v", "w"])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(["b", "NA", "a"], ["NA", "a", "b"]), (["1.0", "2.0", ""], [1, 2]), (["01", "1", "2"], ["01", "1", "2"]),
     (["-1", "5", "NA"], [5]), (["True", "False", ""], ["False", "True"])],
)  # fmt: skip
def test_labels_of_a_csv_file_are_numbers_where_all_are(tmp_path, labels, classes):
    (tmp_path / "a.csv").write_text("a,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    assert load_data(str(tmp_path / "a.csv")).classes == classes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("5.1,3.5,0\n4.9,3.0,1\n", "the first line of a.csv holds no names of columns, but 5.1, 3.5, 0"),
        ("a,b\n1,x\n", "a.csv cannot be read: .*invalid value 'x'"),
        ("a,b\n1,\n", "b is missing in a.csv, row 0"),
        ("a,a\n1,2\n", "a.csv cannot be read as CSV: .*multiple columns named a"),
        ("a,b\n1\n", "a.csv cannot be read as CSV: .*Expected 2 columns"),
        ("\xe4,b\n1,2\n", "a.csv cannot be read as CSV: .*utf-8"),
        ("b,c\n1,\xe4\n", "a.csv cannot be read: .*invalid value"),
        ("a;b\n1;2\n", "invalid value '1;2'"),
        ("", "a.csv cannot be read as CSV"),
        ("a,b\n", "holds no items"),
        ("label\n1\n", "it has no column but label"),
    ],
)
def test_a_csv_file_that_is_no_table_of_numbers_is_one_line(tmp_path, text, why):
    (tmp_path / "a.csv").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=why) as caught:
        load_data(str(tmp_path / "a.csv"))
    assert "\n" not in str(caught.value)


def test_a_csv_file_of_texts_keeps_its_words(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"NA, a\na",x\n,y\n"a, NA",x\nNA,\n')
    data = load_data(str(tmp_path / "a.csv"))
    assert data.to_sentences(items(data)["x"]) == ["na , a a", "", "a , na", "na"]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.uint8, bool])
def test_an_npy_file_of_rows_is_a_table(tmp_path, kind):
    x = np.random.default_rng(0).integers(0, 2 if kind is bool else 100, (20, 3)).astype(kind)
    np.save(tmp_path / "a.npy", x)
    np.testing.assert_allclose(items(load_data(str(tmp_path / "a.npy")))["x"], standardized(x), atol=1e-6)


def test_an_npy_file_of_images_is_images(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), np.uint8)
    for i, one in enumerate((x, np.asfortranarray(x), x.transpose(0, 3, 1, 2), (x / 127.5 - 1).astype(np.float32))):
        np.save(tmp_path / f"{i}.npy", one)
        expected = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1
        assert torch.equal(items(load_data(str(tmp_path / f"{i}.npy")))["x"], expected)


@pytest.mark.parametrize("x", [np.zeros(3), np.array(["a"]), np.array([object()]), np.zeros((2, 3, 4), np.uint16)])
def test_another_npy_file_is_one_line(tmp_path, x):
    np.save(tmp_path / "a.npy", x, allow_pickle=True)
    with pytest.raises(InputError, match=r"data=.*a.npy: ") as caught:
        load_data(str(tmp_path / "a.npy"))
    assert "\n" not in str(caught.value)


def test_settings_of_files_are_refused_for_other_data():
    for field, value in (("columns", ["a"]), ("background", "red"), ("split", "test"), ("label_column", "")):
        with pytest.raises(InputError, match=f"{field}=.*is for pictures and tables in files"):
            load_data("digits", **{field: value})
