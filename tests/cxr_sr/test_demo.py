from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from cxr_sr import pictures
from tests.peers import ROOT
from webui.comparison import CAPTION, GAP, NARROWEST


def command(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CXR_SR_")}
    return {
        "args": [sys.executable, "-m", "cxr_sr", "demo", *map(str, arguments)],
        "env": {**environment, "PYTHONPATH": str(ROOT)},
        "text": True,
    }


@pytest.fixture
def tiny_samples(samples_dir, tmp_path):
    """A folder with one small chest image."""
    folder = tmp_path / "samples"
    folder.mkdir()
    ds = dcmread(samples_dir / "chest_pa_nih_256.dcm")
    ds.set_pixel_data(
        ds.pixel_array[64:128, 32:96], "MONOCHROME2", ds.BitsStored, generate_instance_uid=False
    )
    ds.save_as(folder / "tiny.dcm")
    return folder


@pytest.mark.slow
def test_the_demo_brings_every_image_back_shows_it_and_ends(tiny_samples, tmp_path):
    folder = tmp_path / "demo"
    done = subprocess.run(
        **command("--once", "--folder", folder, "--samples", tiny_samples), capture_output=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert re.fullmatch(
        r"tiny\.dcm  64x64 -> 256x256  \d+\.\d s  http://127\.0\.0\.1:\d+/jobs/1  .*tiny\.png", line
    )
    assert re.search(r"Log in as admin with the password \S+", done.stderr)
    with Image.open(folder / "tiny.png") as picture:
        assert picture.size == (2 * NARROWEST + GAP, 256 + CAPTION)
    assert len(list((folder / "archive").glob("*.dcm"))) == 1
    assert "Traceback" not in done.stderr + (folder / "node.log").read_text()


@pytest.mark.slow
def test_an_image_that_does_not_come_back_is_named_and_fails_the_demo(tiny_samples, tmp_path):
    ds = dcmread(tiny_samples / "tiny.dcm")
    ds.BodyPartExamined, ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = "HIP", "", "", ""
    ds.save_as(tiny_samples / "tiny.dcm")
    done = subprocess.run(
        **command("--once", "--folder", tmp_path / "demo", "--samples", tiny_samples),
        capture_output=True,
        timeout=180,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "tiny.dcm: skipped:" in done.stderr


@pytest.mark.slow
def test_the_demo_stays_until_it_is_told_to_end(tiny_samples, tmp_path):
    folder = tmp_path / "demo"
    with subprocess.Popen(
        **command("--folder", folder, "--samples", tiny_samples),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        assert running.stdout is not None
        page = re.search(r"http://\S+", running.stdout.readline())
        assert page is not None
        time.sleep(0.5)
        assert running.poll() is None
        with urllib.request.urlopen(page.group(), timeout=20) as answer:  # the login page, by redirection
            assert answer.status == 200
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0


def test_a_folder_without_samples_is_an_error(tmp_path):
    done = subprocess.run(
        **command("--once", "--folder", tmp_path / "demo", "--samples", tmp_path), capture_output=True
    )
    assert done.returncode == 1
    assert "holds no sample" in done.stderr


def test_before_and_after_are_shown_one_to_one_with_the_same_greys():
    before = np.linspace(0, 1000, 64 * 64).reshape(64, 64)
    after = before.repeat(4, 0).repeat(4, 1)
    picture = np.asarray(pictures.side_by_side(before, after, left="a", right="b"))
    left, right = picture[CAPTION:, :NARROWEST], picture[CAPTION:, NARROWEST + GAP :]
    assert left.shape == right.shape == (256, NARROWEST)
    assert left.max() > 200
    assert abs(left.mean() - right.mean()) < 1


def test_a_large_result_is_shown_in_part():
    before = np.zeros((512, 512))
    after = np.zeros((2048, 2048))
    picture = pictures.side_by_side(before, after, left="a", right="b")
    assert picture.size == (2 * pictures.PANEL + GAP, pictures.PANEL + CAPTION)


def test_monochrome1_is_shown_as_a_reader_sees_it(samples_dir):
    ds = dcmread(samples_dir / "chest_pa_fuji_440.dcm")
    assert ds.PhotometricInterpretation == "MONOCHROME1"
    shown = pictures.brightness(ds)
    centre, lung = shown[200:300, 210:230].mean(), shown[180:230, 100:150].mean()
    assert centre > lung  # the spine is brighter than the lung
