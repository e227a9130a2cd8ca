#!/usr/bin/env bash
# Lays out four public CT scans, and synthetic patients with tumors, as FLARE23 is laid out: the data of real-ct.yaml.
#
# usage: pipelines/real-ct.sh CT_DIR DATA        (FLARE=path/to/flare if it is not on the PATH)
#
# CT_DIR holds these scans and label maps, all with the challenge's label numbers:
#   ts_example_ct{_0000,}.nii.gz     TotalSegmentator's test scan, 12 organs (no esophagus): D_l1
#   ts_example_ct_sm{_0000,}.nii.gz  its upper 30 slices alone, so no new patient: a test image with a truth
#   msd_spleen2crop{_0000,}.nii.gz   Medical Segmentation Decathlon, spleen alone: D_l2, which no training of the 3-D method uses
#   CRLM-CT-1004_0000.nii.gz         TCIA Colorectal-Liver-Metastases, 512×512×41, no labels: D_u, and a test image without a truth
# DATA must not exist yet.
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: $0 CT_DIR DATA" >&2
    exit 2
fi
ct=$1 data=$2
pipeline=$(dirname "$0")/real-ct.yaml
phantom=$(dirname "$0")/../work/real-ct/results/real-ct/phantom/FLARE

for file in {ts_example_ct,ts_example_ct_sm,msd_spleen2crop}{_0000,}.nii.gz CRLM-CT-1004_0000.nii.gz; do
    if [[ ! -f $ct/$file ]]; then
        echo "$ct/$file is missing; the head of $0 tells what it is" >&2
        exit 2
    fi
done
if [[ -e $data ]]; then
    echo "$data exists; remove it or name another folder" >&2
    exit 2
fi

"${FLARE:-flare}" run phantom --pipeline "$pipeline"

mkdir -p "$data"/{imagesTr2200,labelsTr2200/20230507-fix,unlabeledTr1800,validation,truth}
cp "$phantom"/imagesTr2200/*.nii.gz "$ct"/{ts_example_ct,msd_spleen2crop}_0000.nii.gz "$data/imagesTr2200/"
cp "$phantom"/labelsTr2200/*.nii.gz "$ct"/{ts_example_ct,msd_spleen2crop}.nii.gz "$data/labelsTr2200/"
cp "$ct/CRLM-CT-1004_0000.nii.gz" "$data/unlabeledTr1800/"
cp "$ct"/{CRLM-CT-1004,ts_example_ct_sm}_0000.nii.gz "$data/validation/"
cp "$ct/ts_example_ct_sm.nii.gz" "$data/truth/"
echo "$data: $(find "$data" -name '*_0000.nii.gz' | wc -l) images"
