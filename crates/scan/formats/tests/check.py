"""Checks what `predict` writes with the programs that people read it with (highdicom, pydicom, SimpleITK, nibabel, pynrrd, xmltodict):

    python check.py PREDICT MODEL [CT.nii.gz]

The small CT of the fixtures, and the CT that is given, go in as NIfTI, NRRD, MetaImage and DICOM. Every format must give the same labels to
the voxel, at the same places in the world, and each output must be read by its own program with its classes.
"""
import json, pathlib, subprocess, sys, tempfile
import highdicom as hd, nibabel as nib, nrrd, numpy as np, pydicom, SimpleITK as sitk, xmltodict
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

here = pathlib.Path(__file__).parent
predict, model = sys.argv[1:3]


def run(scan, out, *more):
    subprocess.run([predict, scan, out, "--model", model, "--exact", "--progress", "lines", *more], check=True, capture_output=True)


def as_dicom(image, folder):
    """A CT series of an ITK image, its files in no order."""
    folder.mkdir()
    voxels, direction = sitk.GetArrayFromImage(image), np.array(image.GetDirection()).reshape(3, 3)
    spacing, study, series, frame = image.GetSpacing(), generate_uid(), generate_uid(), generate_uid()
    for k, name in enumerate(np.random.default_rng(1).permutation(len(voxels))):
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID, ds.file_meta.ImplementationClassUID = ExplicitVRLittleEndian, "2.25.1"
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "A", "1", "", "O"
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "20240101", "101010", "1", "", ""
        ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.ImageType = "CT", 1, k + 1, ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = voxels.shape[1:]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.ImagePositionPatient = [f"{v:.12g}"[:16] for v in image.TransformIndexToPhysicalPoint((0, 0, k))]
        ds.ImageOrientationPatient = [f"{v:.12g}"[:16] for v in (*direction[:, 0], *direction[:, 1])]
        ds.PixelSpacing, ds.SliceThickness = [repr(spacing[1])[:16], repr(spacing[0])[:16]], repr(spacing[2])[:16]
        ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
        ds.PixelData = voxels[k].astype("<i2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"IM{name:05}", enforce_file_format=True)


def world(image):
    """The affine to RAS of an ITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def segmentation(path, series, classes, labels):
    seg = hd.seg.segread(path)
    assert seg.segmentation_type == hd.seg.SegmentationTypeValues.BINARY and seg.Modality == "SEG"
    source = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, series.iterdir())}
    first = next(iter(source.values()))
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID, seg.PatientID) == (first.StudyInstanceUID, first.FrameOfReferenceUID, first.PatientID)
    ordered = sorted(source.values(), key=lambda ds: np.dot(np.cross(ds.ImageOrientationPatient[:3], ds.ImageOrientationPatient[3:]), ds.ImagePositionPatient))
    found = seg.get_pixels_by_source_instance([ds.SOPInstanceUID for ds in ordered], combine_segments=True, skip_overlap_checks=False,
                                              ignore_spatial_locations=True, assert_missing_frames_are_empty=True)
    numbers = {number: classes[seg.get_segment_description(number).segment_label] for number in seg.segment_numbers}
    assert np.array_equal(np.vectorize(lambda number: numbers.get(number, 0))(found), labels), "voxels of the segmentation"
    for number in seg.segment_numbers:
        what = seg.get_segment_description(number)
        assert what.segmented_property_category.scheme_designator == "SCT"
        kind = what.segmented_property_type
        if hasattr(codes.SCT, kind.meaning.title().replace(" ", "").replace("gland", "Gland")):
            known = getattr(codes.SCT, kind.meaning.title().replace(" ", ""))
            assert known.value == kind.value, (kind, known)
    for frame, item in zip(seg.iter_segments(), seg.PerFrameFunctionalGroupsSequence):
        at = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert np.allclose(item.PlanePositionSequence[0].ImagePositionPatient, source[at].ImagePositionPatient, atol=1e-6)


def check(image, folder):
    scans = {}
    for name in ("ct.nii.gz", "ct.nrrd", "ct.mha"):
        (folder / name).mkdir()
        sitk.WriteImage(image, str(folder / name / name), True)
        scans[name] = folder / name
    as_dicom(image, folder / "ct")
    scans["ct"] = folder
    expected = None
    for name, scan in scans.items():
        scan = scan / "ct" if name == "ct" else scan
        out, own = folder / f"out-{name}", folder / f"own-{name}"
        run(scan, out, "--format", "nifti", "--names")
        run(scan, own, "--statistics", "--tables")
        labels = nib.load(out / "ct.nii.gz")
        voxels = np.asarray(labels.dataobj).transpose(2, 1, 0)
        assert np.allclose(labels.affine, world(image), atol=1e-3), name
        expected = voxels if expected is None else expected
        assert np.array_equal(voxels, expected), f"labels of {name}"
        by_itk = sitk.ReadImage(str(out / "ct.nii.gz"))
        assert np.allclose(world(by_itk), world(image), atol=1e-3)
        table = xmltodict.parse(labels.header.extensions[0].get_content())["CaretExtension"]["VolumeInformation"]["LabelTable"]["Label"]
        statistics = json.loads((own / "ct.json").read_text())["classes"]
        assert {int(row["@Key"]): row["#text"] for row in table} == {of["label"]: key for key, of in statistics.items()}
        classes = {of["name"]: of["label"] for of in statistics.values()}
        if name == "ct.nrrd":
            data, header = nrrd.read(str(own / "ct.seg.nrrd"))
            assert np.array_equal(data.transpose(2, 1, 0), expected)
            assert {header[f"Segment{k}_Name"]: int(header[f"Segment{k}_LabelValue"]) for k in range(len(classes))} == classes
            assert np.allclose(world(sitk.ReadImage(str(own / "ct.seg.nrrd"))), world(image), atol=1e-6)
        if name == "ct.mha":
            written = sitk.ReadImage(str(own / "ct.mha"))
            assert np.array_equal(sitk.GetArrayFromImage(written), expected) and np.allclose(world(written), world(image), atol=1e-6)
        if name == "ct":
            segmentation(own / "ct.dcm", scan, classes, expected)
    print(f"{image.GetSize()}: the same {np.count_nonzero(expected)} labelled voxels of {len(np.unique(expected)) - 1} classes from every format")


for path in [here / "fixtures" / "ct.nii.gz", *sys.argv[3:]]:
    with tempfile.TemporaryDirectory() as folder:
        check(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkInt16), pathlib.Path(folder))
