"""Samples on disk: lines cut short, other settings, damage; the table and the plots."""

import csv
import json

import pytest

from sala_core.errors import EvalError
from sala_core.evals.plots import draw_heat_map, draw_losses, plotted_score
from sala_core.evals.results import Results
from sala_core.evals.summary import MEANS, interval, summarize, write_csv


def sample(task="t", length=4096, score=1.0, depth=0.5, label="", share=None, index=0):
    evidence = None if share is None else {"rank": 1, "share": share}
    return {
        "task": task, "label": label, "length": length, "index": index, "depth": depth,
        "scores": {"score": score}, "evidence": evidence,
    }  # fmt: skip


def test_a_line_cut_short_is_dropped_and_the_next_one_is_complete(tmp_path):
    with Results(tmp_path, "s", {"seed": 0}) as results:
        results.add({"a": 1})
        results.add({"a": "ü"})
    with results.file.open("ab") as out:
        out.write(b'{"a": "hal')
    with Results(tmp_path, "s", {"seed": 0}) as again:
        assert again.records == [{"a": 1}, {"a": "ü"}]
        again.add({"a": 3})
    assert [json.loads(line) for line in again.file.read_text().splitlines()] == [{"a": 1}, {"a": "ü"}, {"a": 3}]


def test_other_settings_are_an_error_that_names_them_and_restart_deletes_the_samples(tmp_path):
    with Results(tmp_path, "s", {"seed": 0, "model": "x"}) as results:
        results.add({"a": 1})
    with pytest.raises(EvalError, match="seed was 0, is 1"), Results(tmp_path, "s", {"seed": 1, "model": "x"}):
        pass
    with Results(tmp_path, "other", {"seed": 1}) as other:
        assert other.records == []
    with Results(tmp_path, "s", {"seed": 1, "model": "x"}, restart=True) as results:
        assert results.records == []


def test_damage_is_an_error(tmp_path):
    with Results(tmp_path, "s", {}) as results:
        results.add({"a": 1})
    results.file.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(EvalError, match=r"line 2 of .* is damaged"), Results(tmp_path, "s", {}):
        pass
    results.settings_file.write_text("[]")
    with pytest.raises(EvalError, match=r"settings\.json is damaged"), Results(tmp_path, "s", {}):
        pass
    results.settings_file.unlink()
    with pytest.raises(EvalError, match="has no settings"), Results(tmp_path, "s", {}):
        pass


def test_a_folder_that_is_a_file_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvalError, match="choose another --out"), Results(tmp_path / "file", "s", {}):
        pass


def test_intervals_are_wilsons_for_shares_and_else_contain_the_mean():
    mean, low, high = interval([1.0] * 8 + [0.0] * 2)
    assert mean == 0.8
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson's, 8 of 10
    assert interval([1.0] * 5)[1:] == pytest.approx((0.5655, 1.0), abs=1e-4)
    values = [0.1, 0.5, 0.9, 0.25, 0.75, 0.6]
    mean, low, high = interval(values)
    assert min(values) < low < mean < high < max(values)
    assert interval(values) == (mean, low, high)


def test_the_table_has_a_row_for_every_task_length_and_metric(tmp_path):
    records = [
        *(sample("niah_a", score=1.0, share=1.0) for _ in range(3)),
        *(sample("niah_b", score=0.0, share=0.5, depth=None) for _ in range(2)),
        sample("vt", score=0.5, depth=None),
        sample("niah_a", length=8192, score=0.0),
    ]
    rows = {(row.task, row.length, row.metric): row for row in summarize("ruler", records)}
    assert rows["niah_a", 4096, "score"].mean == 1.0
    assert rows["niah_a", 4096, "score"].n == 3
    assert rows["niah_b", 4096, "evidence_in_five"].mean == 0.5
    assert rows[MEANS, 4096, "score"].mean == pytest.approx((1 + 0 + 0.5) / 3)  # over tasks, not samples
    assert rows["mean of needle tasks", 4096, "score"].mean == 0.5
    assert (MEANS, 8192, "score") not in rows  # not all tasks are there
    write_csv(tmp_path / "t.csv", rows.values())
    with (tmp_path / "t.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert len(table) == len(rows)
    assert {"suite": "ruler", "task": "niah_a", "n": "3", "mean": "1.0000"}.items() <= table[0].items()


def test_a_mean_of_tasks_that_all_failed_has_an_interval():
    records = [sample(f"mrcr_{n}", score=0.0) for n in (2, 4, 8) for _ in range(10)]
    (row,) = [row for row in summarize("mrcr", records) if row.task == MEANS]
    high = interval([0.0] * 10)[2]
    assert (row.mean, row.low, row.n) == (0.0, 0.0, 30)
    assert row.high == pytest.approx(high / 3**0.5)


def test_every_label_has_its_own_row():
    records = [sample(label="present"), sample(label="absent", score=0.0)]
    assert {row.task: row.mean for row in summarize("absent", records)} == {"present": 1.0, "absent": 0.0}


def test_the_heat_map_is_a_png_and_needs_depths(tmp_path):
    records = [sample(depth=d / 10, length=n, score=d % 2) for d in range(10) for n in (4096, 1 << 20)]
    file = draw_heat_map(tmp_path / "map.png", "title", [*records, sample(depth=None)])
    assert file.read_bytes().startswith(b"\x89PNG")
    assert draw_heat_map(tmp_path / "none.png", "title", [sample(depth=None)]) is None
    assert plotted_score({"score": 1.0, "right": 0.0}) == 0.0
    assert plotted_score({"score": 0.5}) == 0.5
    assert draw_losses(tmp_path / "none.png", "title", []) is None
    assert not (tmp_path / "none.png").exists()
