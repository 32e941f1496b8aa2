import json

import numpy as np
import pytest
from PIL import Image

from jaxdl.quantize import report
from jaxdl.quantize.options import QuantizeOptions

ROWS = [
    {
        "runtime": "XLA",
        "form": "float32",
        "accuracy": 0.98,
        "agreement": 1.0,
        "bytes": 4000,
        "us_1": 8.0,
        "us_500": 2.0,
    },
    {
        "runtime": "XLA",
        "form": "int8",
        "accuracy": 0.979,
        "agreement": 0.99,
        "bytes": 1000,
        "us_1": 16.0,
        "us_500": 4.0,
    },
    {
        "runtime": "onnxruntime",
        "form": "int8",
        "accuracy": 0.978,
        "agreement": 0.99,
        "bytes": 1100,
        "us_1": 4.0,
        "us_500": 0.5,
    },
]


def test_the_table_has_a_line_for_each_form():
    lines = report.printed(ROWS).splitlines()
    assert len(lines) == 4
    assert lines[2].split() == ["int8,", "XLA", "97.90%", "99.00%", "1.0", "kB", "25.0%", "16.00", "4.00"]


def test_the_verdict_compares_the_fastest_runtimes():
    assert report.verdict(ROWS) == (
        "int8: -0.10 points at 25.0% of the size, 2.00 times as fast (1 at once; onnxruntime against XLA), "
        "4.00 times as fast (500 at once; onnxruntime against XLA)"
    )


def test_means_are_of_every_number_and_the_accuracy_has_its_deviation():
    other = ROWS[0] | {"accuracy": 0.96, "us_1": 4.0}
    row = report.mean_row([ROWS[0], other])
    assert (row["accuracy"], row["us_1"], row["bytes"], row["form"]) == pytest.approx((0.97, 6, 4000, "float32"))
    assert row["spread"] == pytest.approx(0.02 / 2**0.5)
    assert report.mean_row([ROWS[0]])["spread"] == 0


def test_predictions_are_measured_against_labels_and_the_first_form(tmp_path):
    (tmp_path / "file").write_bytes(bytes(7))
    images, labels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), np.asarray([0, 1, 0, 1, 0, 0])

    def parity(images):  # 1 where the pixel is odd
        return np.eye(2)[images.ravel() % 2]

    def zeros(images):
        return np.eye(2)[0 * images.ravel()]

    forms = [("a", "float32", tmp_path / "file", parity), ("b", "int8", tmp_path / "file", zeros)]
    rows = report.measured(forms, {"image": images, "label": labels})
    assert [row["accuracy"] for row in rows] == pytest.approx([5 / 6, 4 / 6])
    assert [row["agreement"] for row in rows] == [1, 0.5]
    assert [row["bytes"] for row in rows] == [7, 7]
    assert all(row["us_1"] > 0 and row["us_500"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (QuantizeOptions(), "static, per channel, minmax of 1000 images"),
        (QuantizeOptions(method="dynamic", per_channel=False), "dynamic, per tensor"),
        (
            QuantizeOptions(method="qat", calibration="percentile", percentile=99.9, calibration_images=5),
            "qat, per channel, percentile 99.9 of 5 images",
        ),
    ],
)
def test_a_method_is_described_by_what_matters_to_it(options, text):
    assert report.described(options) == text


def test_many_names_are_shortened():
    assert report.shortened(["a", "b"]) == "a, b"
    assert report.shortened(list("abcdefgh")) == "a, b, ..., h"


def test_the_figure_is_a_small_picture(tmp_path):
    report.draw(ROWS, "net: static", tmp_path / "q.png")
    with Image.open(tmp_path / "q.png") as picture:
        assert picture.size == (1100, 280)
    assert (tmp_path / "q.png").stat().st_size < 200_000


def folder(path, method, rows=ROWS):
    path.mkdir()
    (path / "quantize.json").write_text(json.dumps({"method": method, "rows": rows}))
    return path


def test_reports_are_compared_by_their_means(tmp_path, capsys):
    folders = [folder(tmp_path / name, "static") for name in "ab"]
    assert report.compare(folders, tmp_path / "mean") == 0
    assert "static, mean of 2" in capsys.readouterr().out
    written = json.loads((tmp_path / "mean" / "quantize-mean.json").read_text())
    assert [row["accuracy"] for row in written["rows"]] == pytest.approx([0.98, 0.979, 0.978])
    assert (tmp_path / "mean" / "quantize-mean.png").exists()


def test_reports_of_other_methods_or_runtimes_are_not_compared(tmp_path):
    a = folder(tmp_path / "a", "static")
    for other in (folder(tmp_path / "b", "dynamic"), folder(tmp_path / "c", "static", ROWS[:2])):
        with pytest.raises(ValueError, match="expected reports of one method and the same runtimes"):
            report.compare([a, other], tmp_path / "mean")


def test_a_folder_without_a_whole_report_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no report at"):
        report.compare([tmp_path], tmp_path)
    (tmp_path / "quantize.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        report.compare([tmp_path], tmp_path)
