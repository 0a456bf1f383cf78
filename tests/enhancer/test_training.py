from __future__ import annotations

import csv
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import enhancer
from enhancer.checkpoint import load_checkpoint
from enhancer.data import Patches, block_mean, half_of, list_images, read
from enhancer.errors import DataError, RecipeError, TrainingError
from enhancer.evaluation.images import Original
from enhancer.export import export, main
from enhancer.modelfile import read_model
from enhancer.recipe import Recipe, load_recipe
from enhancer.stage import FidelityStage, log_squared, scale_of, schedule
from enhancer.train import run, train
from enhancer.trainingset import is_kept_apart, training_set


def _write(path, seed, side=96):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((side, side), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def data(tmp_path):
    """A training set of toys: four train, six val images, one of them at twice the native size."""
    rows = []
    for index in range(10):
        split = "train" if index < 4 else "val"
        name = f"{split}/toys/{index}.png"
        _write(tmp_path / "data" / name, index, 512 if index == 0 else 96)
        rows.append({"file": name, "split": split, "patient": f"patient {index}"})
    with (tmp_path / "data" / "SOURCES.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["file", "split", "patient"])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "data"


@pytest.fixture
def recipe(data, tmp_path):
    return Recipe(
        stage="fidelity",
        name="toy",
        data=str(data),
        out=str(tmp_path / "out"),
        iterations=6,
        batch=2,
        patch=8,
        x2_share=0.34,
        warm_up=2,
        check_every=3,
        channels=8,
        blocks=1,
        device="cpu",
        precision="float32",
    )


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(recipe, tmp_path, optimiser):
    recipe = dataclasses.replace(recipe, optimiser=optimiser, squared_from=0.6)
    whole = run(recipe, resume=False)
    broken = dataclasses.replace(recipe, out=str(tmp_path / "broken"))
    first = run(broken, resume=False, stop_at=3)
    assert first.iterations == 3
    second = run(broken, resume=True)
    assert second.iterations == whole.iterations == 6
    expected, found = (load_checkpoint(one.checkpoint, torch.device("cpu")) for one in (whole, second))
    assert found["iteration"] == 6
    for part in ("generator", "average"):
        for key, value in expected["stage"][part].items():
            assert torch.allclose(found["stage"][part][key], value, atol=1e-6), key
    assert {"x2 over bicubic", "x4 over bicubic", "x4 energy 0.25-0.5"} <= set(whole.figures)


def test_the_adversarial_stage_starts_from_a_model_and_can_be_resumed(recipe, tmp_path):
    fidelity = run(recipe, resume=False)
    export(fidelity.checkpoint, "toy", "0", tmp_path)
    second = dataclasses.replace(
        recipe,
        stage="adversarial",
        name="toygan",
        start_from=str(tmp_path / "toy.safetensors"),
        feature_minutes=0.0,
        adversarial_after=1,
        weight_feature=1.0,
        weight_adversarial=0.5,
        weight_reduced=0.5,
        weight_energy=0.5,
        patch=16,
    )
    run(second, resume=False, stop_at=3)
    ended = run(second, resume=True)
    saved = load_checkpoint(ended.checkpoint, torch.device("cpu"))
    assert saved["iteration"] == 6
    assert {"L1 x4", "G x4", "feature x4", "reduced x4", "energy x4"} <= saved["stage"]["lengths"].keys()
    digest = export(ended.checkpoint, "toygan", "1", tmp_path)
    model = enhancer.load(tmp_path / "toygan.safetensors", "cpu")
    assert (model.info.digest, model.info.version) == (digest, "1")
    assert model.enhance(np.random.default_rng(0).random((9, 9), np.float32), 4).shape == (36, 36)


def test_a_run_ends_its_schedule_when_its_time_is_over(recipe):
    ended = run(dataclasses.replace(recipe, iterations=10**6, max_minutes=0.02), resume=False)
    assert 1 <= ended.iterations < 10**6


def test_an_adversarial_stage_without_a_start_is_refused(recipe):
    with pytest.raises(RecipeError, match="start_from"):
        run(dataclasses.replace(recipe, stage="adversarial"), resume=False)


def test_a_run_never_overwrites_another_and_never_resumes_nothing(recipe):
    with pytest.raises(TrainingError, match="no checkpoint"):
        run(recipe, resume=True)
    run(recipe, resume=False, stop_at=1)
    with pytest.raises(TrainingError, match="there already"):
        run(recipe, resume=False)


def test_a_checkpoint_of_rubbish_is_refused(recipe, tmp_path):
    (tmp_path / "out" / "toy").mkdir(parents=True)
    (tmp_path / "out" / "toy" / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(TrainingError, match="cannot be read"):
        run(recipe, resume=True)


def test_a_checkpoint_of_another_network_is_refused(recipe):
    run(recipe, resume=False, stop_at=1)
    with pytest.raises(TrainingError, match="another stage or network"):
        run(dataclasses.replace(recipe, channels=4), resume=True)


def test_an_interrupted_run_saves_itself_and_says_how_to_go_on(recipe, monkeypatch):
    real_step = FidelityStage.step

    def step(self, iteration, progress):
        if iteration == 2:
            raise KeyboardInterrupt
        return real_step(self, iteration, progress)

    monkeypatch.setattr(FidelityStage, "step", step)
    with pytest.raises(TrainingError, match="iteration 2; --resume"):
        run(recipe, resume=False)
    monkeypatch.undo()
    assert run(recipe, resume=True).iterations == 6


def test_a_run_leaves_pictures_to_look_at(recipe, tmp_path):
    run(recipe, resume=False)
    folder = tmp_path / "out" / "toy"
    with Image.open(folder / "samples.png") as grid, Image.open(folder / "curve.png") as curve:
        pixels, drawn = np.asarray(grid), np.asarray(curve)
    width = pixels.shape[1] // 3
    bicubic, ours, truth = (pixels[:, index * width : (index + 1) * width].astype(int) for index in range(3))
    assert np.abs(bicubic - truth).mean() < np.abs(bicubic - truth[::-1]).mean()
    assert not np.array_equal(ours, truth)
    assert drawn.min() == 0
    assert list((folder / "tensorboard").glob("events.*"))


def test_a_run_keeps_its_curve(recipe, tmp_path):
    run(recipe, resume=False)
    with (tmp_path / "out" / "toy" / "curve.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["iteration"] for row in rows} == {"3", "6"}
    assert {"L1 x4", "x4 over bicubic"} <= {row["figure"] for row in rows}


def test_exporting_what_is_not_there_says_so(tmp_path, capsys):
    assert main([str(tmp_path / "none.pt"), "toy", "1", "--folder", str(tmp_path)]) == 1
    assert "no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("colour = 3", "colour is not a key"),
        ('iterations = "many"', "iterations must be of type int"),
        ('stage = "other"', "stage must be one of"),
        ("patch = 2", "patch at least 8"),
        ("= 3", "not valid TOML"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(tmp_path, line, said):
    path = tmp_path / "run.toml"
    stage = "" if "stage" in line else 'stage = "fidelity"\n'
    path.write_text(f'{stage}name = "x"\n{line}\n')
    with pytest.raises(RecipeError, match=said) as caught:
        train(path)
    assert "run.toml" in str(caught.value)


def test_a_missing_configuration_or_folder_is_said(tmp_path, recipe):
    with pytest.raises(RecipeError, match="cannot be read"):
        train(tmp_path / "none.toml")
    with pytest.raises(DataError, match="not a folder"):
        run(dataclasses.replace(recipe, data=str(tmp_path / "none")), resume=False)


@pytest.mark.parametrize(
    ("name", "stage"), [("srresnet", "fidelity"), ("srgan", "adversarial"), ("seed", "fidelity")]
)
def test_the_shipped_configurations_are_valid(name, stage):
    from enhancer.modelfile import SHIPPED

    recipe = load_recipe(SHIPPED.parent / "configs" / f"{name}.toml")
    assert (recipe.name, recipe.stage) == (name, stage)


def test_validation_patients_are_split_in_two_halves_that_do_not_meet(data):
    dev, report = ({path.name for path in _listed(data, half)} for half in ("dev", "report"))
    assert not dev & report
    assert dev | report == {path.name for path in list_images(data, "val")}
    halves = [half_of(f"patient {index}") for index in range(200)]
    assert 70 < halves.count("dev") < 130


def _listed(data, half):
    try:
        return list_images(data, half)
    except DataError:
        return []


def test_patches_are_a_function_of_seed_and_iteration_and_their_halves_match(data):
    images = [read(path) for path in list_images(data, "train")]
    patches = Patches(images, (2, 4), patch=8, large_share=0.5, seed=1)
    lr, hr = patches.batch(5, 4, 6)
    again, _ = Patches(images, (2, 4), patch=8, large_share=0.5, seed=1).batch(5, 4, 6)
    assert np.array_equal(lr, again)
    assert not np.array_equal(lr, patches.batch(6, 4, 6)[0])
    assert (lr.shape, hr.shape) == ((6, 1, 8, 8), (6, 1, 32, 32))
    means = hr.reshape(6, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.corrcoef(means.ravel(), lr.ravel())[0, 1] > 0.98
    assert len(patches.large) == 1


def test_the_seed_protocol_trains_towards_soft_images(data):
    images = [read(path) for path in list_images(data, "train")]
    sharp, soft = (
        Patches(images, (2, 4), patch=8, large_share=0.0, seed=1, protocol=name).batch(5, 4, 6)[1]
        for name in ("native", "seed")
    )
    assert np.abs(np.diff(soft, 2)).mean() < 0.8 * np.abs(np.diff(sharp, 2)).mean()


def test_patches_are_reduced_as_their_shares_say(data):
    images = [read(path) for path in list_images(data, "train")]
    shares: dict[str, Any] = {"patch": 8, "large_share": 0.0, "seed": 1}
    area, hr = Patches(images, (2, 4), **shares, area_share=1.0).batch(5, 4, 6)
    assert np.allclose(area, hr.reshape(6, 1, 8, 4, 8, 4).mean(axis=(3, 5)), atol=1e-5)
    sharp, _ = Patches(images, (2, 4), **shares).batch(5, 4, 6)
    blurred, _ = Patches(images, (2, 4), **shares, blur_share=1.0).batch(5, 4, 6)
    assert not np.allclose(sharp, blurred, atol=1e-3)


def test_a_start_from_a_model_begins_with_its_weights(recipe, tmp_path):
    first = run(recipe, resume=False)
    export(first.checkpoint, "toy", "0", tmp_path)
    again = dataclasses.replace(
        recipe, name="again", start_from=str(tmp_path / "toy.safetensors"), iterations=1, learning_rate=0.0
    )
    second = run(again, resume=False)
    assert second.figures == pytest.approx(first.figures, abs=0.01)  # kept in float16


def test_a_hospitals_own_folder_is_split_by_patient_and_nobody_is_on_both_sides(tmp_path, recipe):
    folder = tmp_path / "own"
    folder.mkdir()
    rng = np.random.default_rng(0)
    values = {}
    for index in range(60):
        values[f"{index:02}.raw"] = rng.integers(0, 4096, (64, 80)).astype(np.int32)
        (folder / f"{index:02}.raw").touch()
    (folder / "broken.raw").touch()

    def reader(path):
        if path.name == "broken.raw":
            raise DataError("broken.raw is no image")
        return Original(values[path.name], 0, 4095, f"patient {int(path.stem) // 3}")

    images = training_set(folder, reader, {".raw"})
    train = list(images.train)
    kept = [name for name in values if is_kept_apart(f"patient {int(name[:2]) // 3}")]
    assert len(train) == 60 - len(kept)
    assert len(images.looks) == len(kept) >= 3
    assert len(kept) % 3 == 0
    assert all(image.dtype == np.uint16 for image in train)
    assert max(int(image.max()) for image in train) == 65535
    own = dataclasses.replace(recipe, data=str(folder), name="own", large_share=0.0)
    assert run(own, resume=False, reader=reader, suffixes={".raw"}).iterations == recipe.iterations


def test_a_folder_of_one_patient_is_refused(tmp_path):
    (tmp_path / "one.raw").touch()
    with pytest.raises(DataError, match="more patients"):
        training_set(tmp_path, lambda path: Original(np.zeros((64, 64), np.int32), 0, 1, "one"), {".raw"})


def test_the_learning_rate_warms_up_and_ends_at_zero():
    assert schedule(0.0, 0, 100) == pytest.approx(0.01)
    assert schedule(0.5, 5000, 100) == pytest.approx(0.5)
    assert schedule(1.0, 9999, 100) == pytest.approx(0.0)


def test_the_scales_share_the_batches_as_the_recipe_says(recipe):
    scales = [scale_of(dataclasses.replace(recipe, x2_share=0.25), index) for index in range(100)]
    assert scales.count(2) == 25
    assert scales.count(4) == 75


def test_noisy_patches_keep_their_truth_clear_of_noise():
    rng = np.random.default_rng(3)
    smooth = Image.fromarray(rng.integers(180, 220, (8, 8), dtype=np.uint8))
    image = np.asarray(smooth.resize((256, 256), Image.Resampling.BICUBIC), dtype=np.uint8)
    plain, noisy = (
        Patches([image], (2, 4), patch=64, large_share=0, noise_share=share, turned_share=0, seed=1)
        for share in (0.0, 1.0)
    )
    (clean_lr, clean_hr), (noisy_lr, noisy_hr) = plain.batch(0, 4, 1), noisy.batch(0, 4, 1)
    assert noisy_lr.shape == clean_lr.shape == (1, 1, 64, 64)

    def apart(lr, hr):
        return float((lr[0, 0] - block_mean(hr[0, 0], 4)).std() / hr.std())

    def rough(hr):
        return float(np.diff(hr[0, 0], 2, axis=0).std() / hr.std())

    assert apart(noisy_lr, noisy_hr) > 1.5 * apart(clean_lr, clean_hr)
    assert rough(noisy_hr) == pytest.approx(rough(clean_hr), rel=0.2)


def test_patches_that_are_not_turned_stay_upright():
    image = np.tile(np.linspace(0, 255, 256).astype(np.uint8)[:, None], (1, 256))
    patches = Patches([image], (2, 4), patch=16, large_share=0, turned_share=0, seed=2)
    for iteration in range(6):
        lr, _ = patches.batch(iteration, 4, 2)
        assert np.abs(np.diff(lr, axis=3)).max() < 1e-5 < np.abs(np.diff(lr, axis=2)).max()


def test_late_in_the_fidelity_stage_each_patch_counts_by_the_logarithm_of_its_error():
    small = torch.full((1, 1, 4, 4), 0.1)
    large = torch.full((1, 1, 4, 4), 1.0)
    both = log_squared(torch.cat([small, large]))
    assert float(both) == pytest.approx((np.log(0.01 + 3e-5) + np.log(1 + 3e-5)) / 2, abs=1e-5)


def test_an_exported_model_can_hold_a_share_of_another_ones_weights(recipe, tmp_path):
    one, two = (run(dataclasses.replace(recipe, name=name, seed=seed), resume=False) for name, seed in
                (("one", 1), ("two", 2)))  # fmt: skip
    for outcome, name in ((one, "one"), (two, "two")):
        export(outcome.checkpoint, name, "1", tmp_path)
    export(two.checkpoint, "between", "1", tmp_path, mix=tmp_path / "one.safetensors", share=0.25)
    ours, first, second = (
        read_model(tmp_path / f"{name}.safetensors").generator.state_dict()
        for name in ("between", "one", "two")
    )
    for key, value in ours.items():
        assert torch.allclose(value, 0.25 * first[key] + 0.75 * second[key], atol=1e-3), key
