"""What the package promises, held against nibabel, NumPy and the files that `predict` wrote. `it.rs` lays both out in BENCH."""

import os
import pathlib
import threading

import nibabel
import numpy as np
import pytest

import flare

BENCH = pathlib.Path(os.environ["BENCH"])
SCAN = BENCH / "scans" / "a_0000.nii.gz"


@pytest.fixture(scope="module")
def image():
    return nibabel.load(SCAN)


def expected(model):
    return np.asarray(nibabel.load(BENCH / model / "a.nii.gz").dataobj)


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_labels_are_those_of_predict_whatever_the_array(image, name):
    model = flare.Model(BENCH / f"{name}.safetensors", exact=True, device="cpu")
    stored = np.asarray(image.dataobj).astype(np.int16)
    assert expected(name).any()
    for array in [image.get_fdata(), stored, np.asfortranarray(stored.astype(np.float32)), np.ascontiguousarray(stored), stored[::1].tolist()]:
        labels = model.predict(array, image.affine)
        assert labels.dtype == np.uint8 and labels.flags.f_contiguous
        np.testing.assert_array_equal(labels, expected(name))


def test_a_turned_array_is_the_same_patient(image):
    model = flare.Model(str(BENCH / "student.safetensors"), exact=True)
    turned = nibabel.as_closest_canonical(image)
    labels = nibabel.Nifti1Image(model.predict(turned.get_fdata(), turned.affine), turned.affine)
    back = labels.as_reoriented(nibabel.io_orientation(np.linalg.inv(image.affine) @ turned.affine))
    np.testing.assert_array_equal(np.asarray(back.dataobj), expected("student"))


def test_models_know_their_classes():
    classes = flare.Model(BENCH / "student.safetensors").classes
    assert len(classes) == 14 and classes["liver"] == 1 and classes["tumor"] == 14


def test_files_are_read_as_by_nibabel(image):
    array, affine = flare.read(SCAN)
    np.testing.assert_array_equal(array, image.get_fdata())
    np.testing.assert_array_equal(affine, image.affine)
    assert array.dtype == np.float32 and array.flags.f_contiguous


@pytest.mark.parametrize("ending", [".nii.gz", ".seg.nrrd", ".mha"])
def test_label_maps_come_back_from_every_format(tmp_path, image, ending):
    model, path = flare.Model(BENCH / "student.safetensors"), tmp_path / f"a{ending}"
    for write in [flare.write, model.write]:
        write(path, expected("student"), image.affine)
        labels, affine = flare.read_labels(path)
        np.testing.assert_array_equal(labels, expected("student"))
        np.testing.assert_allclose(affine, image.affine, atol=1e-5)
    if ending == ".nii.gz":
        np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), expected("student"))
    if ending == ".seg.nrrd":
        assert b"Segment0_Name:=Liver" in path.read_bytes()


def test_scores_are_those_of_the_definition(image):
    truth, found = np.zeros((2, 20, 20, 20), np.uint8)
    truth[2:12, 3:13, 4:14] = 1
    found[4:14, 3:13, 4:14] = 1
    found[0, 0, 0] = 2
    scores = flare.evaluate(truth, found, np.diag([1, 1, 1, 1]), {"cube": 1, "invented": 2, "absent": 3})
    both = ((truth == 1) & (found == 1)).sum()
    assert scores["cube"]["dsc"] == pytest.approx(2 * both / 2000)
    assert scores["cube"]["hd_mm"] == pytest.approx(2)
    assert scores["invented"] == {"dsc": 0, "nsd": 0, "hd_mm": None, "hd95_mm": None, "note": "absent_from_truth"}
    assert scores["absent"]["dsc"] is None and scores["absent"]["note"] == "absent_from_both"
    assert flare.evaluate(truth, truth, np.diag([2, 1, 1, 1]), {"cube": 1})["cube"]["nsd"] == 1


def test_what_cannot_be_used_is_an_error_in_words(tmp_path, image):
    model = flare.Model(BENCH / "student.safetensors")
    unusable = image.get_fdata().copy()
    unusable[3, 4, 5] = np.nan
    for call, words in [
        (lambda: flare.Model(tmp_path / "none.safetensors"), "none.safetensors"),
        (lambda: flare.Model(), "model"),
        (lambda: flare.Model(BENCH / "student.safetensors", device="tpu"), "expected auto, cpu, cuda"),
        (lambda: model.predict(image.get_fdata()[0], image.affine), "three dimensions"),
        (lambda: model.predict(image.get_fdata(), np.zeros((3, 4))), "expected 4 x 4"),
        (lambda: model.predict(unusable, image.affine), "NaN"),
        (lambda: flare.read(tmp_path / "none.nii.gz"), "none.nii.gz"),
        (lambda: flare.write(tmp_path / "a.png", expected("student"), image.affine), "a.png: expected a name"),
        (lambda: flare.write(tmp_path / "a.mha", expected("student") + 0.5, image.affine), "no integers"),
        (lambda: flare.evaluate(np.full((4, 4, 4), 7), np.zeros((4, 4, 4)), np.eye(4), {"liver": 1}), "7"),
    ]:
        with pytest.raises(flare.Error) as error:
            call()
        assert words in str(error.value), str(error.value)


def test_a_scan_that_is_hardly_in_hu_is_warned_of(image):
    model = flare.Model(BENCH / "student.safetensors")
    with pytest.warns(UserWarning):
        model.predict(image.get_fdata() + 1024, image.affine)


def test_other_threads_run_while_a_model_computes(image):
    model, counted, done = flare.Model(BENCH / "student.safetensors", exact=True), [0], threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    before = counted[0]
    try:
        model.predict(image.get_fdata(), image.affine)
        after = counted[0]
    finally:
        done.set()
    thread.join()
    assert after > before + 1
