"""The benchmark of shards reads the same from files and from shards."""

import argparse
import json

from benchmarks import shards


def test_a_run_gives_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "DROP", tmp_path / "nowhere" / "drop_caches")  # other programs keep what they have read
    read, read_contents = {}, shards.read_contents

    def record(images, batch):
        read[type(images)] = [[item["image_id"] for item in part] for part in shards.batches(images, batch)]
        read_contents(images, batch)

    monkeypatch.setattr(shards, "read_contents", record)
    parser = argparse.ArgumentParser()
    shards.add_arguments(parser)
    args = parser.parse_args(["--count=5", "--batch=2", "--size=32", "--short-side=64", f"--folder={tmp_path}"])
    args.repeats, args.threads = 1, 0
    result = json.loads(json.dumps(shards.measure(args)))
    assert result["forgotten"] == "contents" and len(read) == 2
    one, other = read.values()
    assert one == other and sorted(number for part in one for number in part) == list(range(5))
    for figures in result["ways"].values():
        rates = figures["images_per_second"]
        assert figures["speedup"] == figures["speedups"][0] > 0
        assert figures["speedup"] * rates["files"] - rates["shards"] < 1e-6 * rates["shards"]
    shards.report(result)
    printed = capsys.readouterr().out
    assert "shards are" in printed and "shorter side of 64 pixels" in printed
