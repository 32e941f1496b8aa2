import numpy as np

from jaxdl.fuse import report as fuse_report


def test_a_row_says_how_far_it_is_above_the_mean(tmp_path):
    row = fuse_report.Row
    members, mean = [row("a", 1, 0.9, 0.3), row("b", 1, 0.92, 0.3)], row("mean of the members", 1, 0.91, 0.3)
    lines = fuse_report.shown(members, mean, [row("ensemble", 2, 0.935, 0.2)], [], tmp_path)
    assert lines[4].split()[:4] == ["ensemble", "2", "93.50%", "0.2000"]
    assert lines[4].endswith("+2.50")
    assert len(np.unique([len(line.split("  ")[0]) for line in lines[1:3]])) == 1
