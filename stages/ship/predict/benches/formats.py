"""Time and memory of `predict` for one long scan in each format, one after another, as often as asked for; the least time counts.

    cargo build --release -p predict
    python formats.py TARGET/release/predict MODEL.safetensors CASE_0000.nii.gz [--slices 1000] [--times 2]

Needs nibabel, numpy, pydicom and SimpleITK. The slices of a real CT are repeated, 1 mm apart.
"""
import argparse, os, pathlib, sys, tempfile, time
import nibabel as nib, numpy as np, pydicom, SimpleITK as sitk
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def as_dicom(voxels, spacing, folder):
    """One uncompressed file a slice, axes to the left, to the back and up."""
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(voxels.shape[0]):
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID, ds.file_meta.ImplementationClassUID = ExplicitVRLittleEndian, "2.25.1"
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "A", "1", "CT", 1, k + 1
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = voxels.shape[1:]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, k * spacing[2]], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [spacing[1], spacing[0]], spacing[2], "1", "0"
        ds.PixelData = voxels[k].astype("<i2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"IM{k:05}", enforce_file_format=True)


def run(program, model, image, output, log):
    """Seconds of the clock and of the processor, and the largest resident memory in MiB."""
    begun = time.perf_counter()
    actions = [(os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT, 0o644)]
    pid = os.posix_spawn(program, [program, image, output, "--model", model, "--progress", "lines"], os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, pathlib.Path(log).read_text()
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--times", type=int, default=2)
    args = parser.parse_args()
    image = nib.as_closest_canonical(nib.load(args.image))
    # Axes to the left and to the back, as DICOM has them.
    there = np.asarray(image.dataobj).astype(np.int16).transpose(2, 1, 0)[:, ::-1, ::-1]
    at = np.arange(args.slices) % (2 * len(there) - 2)
    voxels = there[np.minimum(at, 2 * len(there) - 2 - at)]
    spacing = [float(round(s, 6)) for s in image.header.get_zooms()[:2]] + [1.0]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        whole = sitk.GetImageFromArray(voxels)
        whole.SetSpacing(spacing)
        for name in ("NIfTI/a.nii.gz", "NRRD/a.nrrd", "MetaImage/a.mha"):
            (folder / name).parent.mkdir()
            writer = sitk.ImageFileWriter()
            writer.SetFileName(str(folder / name)), writer.UseCompressionOn(), writer.SetCompressionLevel(1)
            writer.Execute(whole)
        as_dicom(voxels, spacing, folder / "DICOM")
        del whole, voxels
        rows = {}
        for turn in range(args.times):
            for name in ("NIfTI", "DICOM", "NRRD", "MetaImage"):
                found = run(args.program, args.model, str(folder / name), str(folder / f"out-{name}-{turn}"), folder / "log")
                rows.setdefault(name, []).append(found)
                print(name, *(f"{number:.1f}" for number in found), file=sys.stderr, flush=True)
    print(f"| {args.slices} slices of 512×512 | seconds | of the processor | peak memory (MiB) |\n|---|---:|---:|---:|")
    for name, found in rows.items():
        print(f"| {name} | {min(f[0] for f in found):.1f} | {min(f[1] for f in found):.1f} | {max(f[2] for f in found):.0f} |")


main()
