from __future__ import annotations

import json

from cxr_sr import bench, cli


def test_the_queue_is_measured_beside_plain_commits():
    for figure in bench.queue(jobs=5):
        assert figure.value > 0
        assert 0 < figure.ratio < 10
        assert figure.ratio == figure.value / figure.reference


def test_the_network_is_measured_beside_a_matrix_product():
    for figure in bench.enhance(side=16):
        assert figure.value > 0
        assert 0 < figure.ratio < 10


def test_figures_are_printed_as_json(monkeypatch, capsys):
    monkeypatch.setitem(bench.SUITES, "queue", lambda: bench.queue(jobs=3))
    assert cli.run(["bench", "--suite", "queue", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert {figure["suite"] for figure in figures} == {"queue"}


def test_reception_is_measured_beside_plain_files():
    (figure,) = bench.ingest(images=5)
    assert figure.value > 0
