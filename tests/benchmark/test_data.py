"""Formats of frames: each gives the frames that were asked for, and the result says what it was measured on."""

import json

import pytest
from make_videos import read_number, write_numbered

from lib.benchmark import data
from lib.benchmark.__main__ import main
from lib.data.kinetics import list_kinetics, scan_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "videos").mkdir()
    for number in range(3):
        write_numbered(folder / "videos" / f"{number}.mp4", 60 + number, preset="ultrafast")
    return folder


def test_every_format_gives_the_frames_that_were_asked_for(videos, tmp_path):
    clips = scan_videos(list_kinetics(videos)).clips
    sources = data.open_sources(clips, videos, tmp_path, pairs=2)
    assert {data.USUAL, data.STORE} < set(sources) and len(sources) >= 7
    for name, source in sources.items():
        for number in range(3):
            found = [read_number(frame) for frame in source.read(number, [41, 7, 59, 7])]
            assert found == [41, 7, 59, 7], name
        assert source.bytes > 0 and (not source.small or data.psnr(source, clips) > 25)
    sizes = [sources[name].bytes for name in data.KINDS]
    assert sizes == sorted(sizes, reverse=True)


def test_the_result_says_what_it_was_measured_on(videos, tmp_path, capsys):
    path = tmp_path / "data.json"
    small = ["--seconds", "0.05", "--rounds", "1", "--memory-pairs", "60", "--limit", "2"]
    assert main(["data", "--videos", str(videos), "--json", str(path), *small]) == 0
    result = json.loads(path.read_text())
    rows = {row["source"]: row for row in result["rows"]}
    assert result["clips"] == 2 and rows[data.USUAL]["speed_ratio"] == 1 == rows[data.USUAL]["disk_ratio"]
    assert all(row["pairs_per_cpu_second"] > 0 for row in rows.values()) and result["hardware"]
    assert result["workers_ratio"] == pytest.approx(result["workers_2"] / result["workers_1"])
    assert [point["drawn"] for point in result["memory"]] == sorted({point["drawn"] for point in result["memory"]})
    assert data.STORE in capsys.readouterr().out
