"""Tables and plots of the benchmark: figures one can add up, and rows that another process appends meanwhile."""

import math

import pytest
from matplotlib.image import imread
from scripts.core.atomic import write_figure
from scripts.core.proportions import wilson
from scripts.core.records import append_row, open_table, read_rows, write_rows
from scripts.study.benchmark.curves import binned, distribution
from scripts.study.benchmark.plots import draw_plots
from scripts.study.benchmark.rows import COLUMNS
from scripts.study.benchmark.table import markdown, report, summarise


def test_wilson_interval():
    assert wilson(40, 40) == pytest.approx((0.9124, 1.0), abs=1e-4)
    assert wilson(15, 40) == pytest.approx((0.2422, 0.5297), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_summary_adds_up():
    def row(method, tre, seconds, accepted=""):
        numbers = {"tre_mean_mm": tre, "best_rigid_mm": 2.0, "ratio": tre / 2, "success10": int(tre <= 10)}
        numbers |= {"rotation_error_deg": 0.5, "translation_error_mm": 1.0, "seconds": seconds, "cpu_seconds": seconds}
        return {"volume": "ct", "regime": "R1", "method": method, "accepted": accepted, **numbers}

    rows = [row("a", 3.0, 1, 1), row("b", 40.0, 9), row("a", 5.0, 2, 1), row("a", 30.0, 6, 0)]
    first, second = summarise(rows)
    assert (first["method"], first["n"], second["n"]) == ("a", 3, 1)
    assert first["success10"] == pytest.approx(2 / 3) and first["accepted"] == pytest.approx(2 / 3)
    assert (first["median_tre_mm"], first["median_ratio"], first["median_seconds"]) == (5.0, 2.5, 2.0)
    assert second["accepted"] is None
    assert "| R1 | a | 3 | 0.67 (0.21-0.94) | 5.00 | 2.00 | 2.500 |" in markdown([first])


def a_row(method, number, tre, **more):
    """A row as the table has it."""
    row = dict.fromkeys(COLUMNS, "") | {"volume": "ct", "regime": "R1", "seed": str(number), "method": method}
    row |= {"tre_mean_mm": str(tre), "best_rigid_mm": "4", "ratio": str(tre / 4), "success10": str(int(tre <= 10))}
    row |= {"rotation_error_deg": "1", "translation_error_mm": "2", "seconds": "1.5", "cpu_seconds": "3", "threads": "2"}
    return row | {"start_mm": str(2.0 * number), "turn_deg": "5", "overlap": "0.9"} | more


def test_distribution_counts_what_has_no_answer():
    assert distribution([4.0, math.inf, 2.0, 8.0]) == ([2.0, 4.0, 8.0], [0.25, 0.5, 0.75])


def test_capture_range_bins_hold_equally_many():
    """40 starts at 0, 1 ... 39 mm, of which those below 25 mm succeed: ten to a bin."""
    found = binned([float(n) for n in range(39, -1, -1)], [n < 25 for n in range(39, -1, -1)])
    assert found.middle == [4.5, 14.5, 24.5, 34.5]
    assert found.success == [1.0, 1.0, 0.5, 0.0]
    assert (found.low[2], found.high[2]) == pytest.approx(wilson(5, 10))
    assert len(binned([1.0] * 200, [True] * 200).middle) == 8
    assert len(binned([1.0, 2.0], [True, False]).middle) == 1


def test_plots_of_each_regime_and_over_all(tmp_path):
    rows = [a_row(method, number, tre) for number in range(12) for method, tre in (("centres", 3.0 * number), ("quiz", 4.0))]
    rows += [a_row("quiz", 0, math.inf, regime="unrelated", best_rigid_mm="", start_mm="")]
    names = [file.name for file in draw_plots(rows, tmp_path)]
    assert names == ["success.png", "time.png", *(f"R1_{name}.png" for name in ("tre", "distance", "rotation", "overlap"))]
    for name in names:
        assert imread(tmp_path / name).shape[1] >= 500
    assert draw_plots(rows[-1:], tmp_path) == []  # nothing to draw where nothing is known


def test_a_table_keeps_what_another_process_appends_while_it_is_read(tmp_path):
    """It is written anew only where a row does not hold any more, or where the last line has no end."""
    table = tmp_path / "cases.csv"
    write_rows(table, [a_row("quiz", 0, 4.0), a_row("centres", 0, 9.0)], COLUMNS)

    def meanwhile(row):
        if row["method"] == "centres":
            append_row(table, a_row("quiz", 1, 5.0), COLUMNS)
        return True

    assert len(open_table(table, meanwhile, COLUMNS)) == 2
    assert [row["seed"] for row in read_rows(table, COLUMNS)] == ["0", "0", "1"]
    assert len(open_table(table, lambda row: row["method"] == "quiz", COLUMNS)) == 2 == len(read_rows(table, COLUMNS))
    with table.open("a") as stream:
        stream.write(table.read_text().splitlines()[-1])  # all of a row but its end: another one would join it
    assert len(open_table(table, lambda row: True, COLUMNS)) == 2 == len(table.read_text().splitlines()) - 1
    assert [file.name for file in tmp_path.iterdir()] == ["cases.csv"]


def test_a_plot_that_fails_leaves_the_earlier_one(tmp_path):
    class Full:
        def savefig(self, stream, **options):
            stream.write(b"half")
            raise OSError("no space left")

    (tmp_path / "time.png").write_bytes(b"earlier")
    with pytest.raises(OSError, match="no space"):
        write_figure(tmp_path / "time.png", Full())
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"earlier"]


def test_report_is_whole():
    rows = [a_row("centres", 0, 3.0), a_row("quiz", 0, 4.0), a_row("quiz", 1, 40.0)]
    text = report(rows, "here", 60.0)
    assert "| R1 | quiz | 2 | 0.50 (0.09-0.91) | 22.00 |" in text and "| R1 | quiz | 1 | 1.00 (0.21-1.00) | 4.00 |" in text
    assert "longer than 60 s" in text and "Machine: here." in text
    assert "## Trust" not in text and "## Reversibility" not in text
