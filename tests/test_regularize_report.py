from jaxdl.regularize import report as regularize_report
from jaxdl.regularize.report import Measured


def one(cure, seed, train, test):
    return Measured(cure, seed, train, test, 0.1, 0.5, 0.4)


def test_gains_are_paired_by_seed_and_gaps_are_of_the_same_run():
    found = {
        "none": [one("none", 0, 1.0, 0.8), one("none", 1, 1.0, 0.9)],
        "l2": [one("l2", 0, 0.95, 0.85), one("l2", 1, 0.95, 0.91)],
    }
    lines = regularize_report.rows(found)
    assert lines[1].split() == ["none", "100.00%", "85.00", "±", "7.07%", "15.00", "0.100", "0.500"]
    assert lines[2].split() == ["l2", "95.00%", "88.00", "±", "4.24%", "7.00", "0.100", "0.500", "+3.00"]


def test_a_cure_gives_a_folder_a_plain_name():
    assert regularize_report.folder_name("optimizer=adamw l2=0.1/../x") == "optimizer=adamw-l2=0.1-..-x"
