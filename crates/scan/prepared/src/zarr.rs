//! The part of Zarr v3 that prepared cases need: groups, and arrays of three axes in shards.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::codec;
use crate::info::{CaseInfo, Layout};

/// The voxels of inner chunks along each side, at most.
const SLICE_CHUNK: [usize; 3] = [1, 128, 128];
const VOLUME_CHUNK: [usize; 3] = [32; 3];

/// The voxels of a shard along the slowest axis: its table of chunks is read for every box that touches it.
const SHARD_DEPTH: usize = 32;

/// More than this has no chunk; one that is told of is damage.
const MOST_CHUNK_VOXELS: usize = 1 << 24;

/// More than this has no case along an axis.
const LONGEST_SIDE: usize = 1 << 20;

/// How an array is cut into pieces. All arrays of a case are cut alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Voxels along the stored axes.
    pub(crate) shape: [usize; 3],
    /// Those of a shard, which is one entry of the archive; a multiple of the chunk.
    pub(crate) shard: [usize; 3],
    /// Those of an inner chunk, which is compressed by itself.
    pub(crate) chunk: [usize; 3],
}

impl Cut {
    /// As we cut cases: each axis into as few chunks as may be, all of nearly one size.
    pub(crate) fn of(info: &CaseInfo) -> Self {
        let shape = info.stored_shape();
        let most = match info.layout {
            Layout::Volume => VOLUME_CHUNK,
            Layout::Slices => SLICE_CHUNK,
        };
        let chunk: [usize; 3] = std::array::from_fn(|axis| shape[axis].div_ceil(shape[axis].div_ceil(most[axis]).max(1)).max(1));
        let mut shard: [usize; 3] = std::array::from_fn(|axis| shape[axis].next_multiple_of(chunk[axis]).max(1));
        shard[0] = shard[0].min(SHARD_DEPTH / chunk[0] * chunk[0]);
        Self { shape, shard, chunk }
    }

    /// The chunks of a shard along each axis.
    pub(crate) fn chunks(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.shard[axis] / self.chunk[axis])
    }

    /// The voxels of a chunk.
    pub(crate) fn chunk_voxels(&self) -> usize {
        self.chunk.iter().product()
    }
}

/// The types of our arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataType {
    U8,
    U16,
}

impl DataType {
    fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::U16 => "uint16",
        }
    }

    /// Bytes of a voxel.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
        }
    }
}

/// The entry with the metadata of a node; the root has no name.
pub(crate) fn metadata_entry(node: &str) -> String {
    Path::new(node).join("zarr.json").display().to_string()
}

/// The entry of a shard.
pub(crate) fn shard_entry(array: &str, [i, j, k]: [usize; 3]) -> String {
    format!("{array}/c/{i}/{j}/{k}")
}

/// The metadata of the group, with all that is known of the case and the stored value of the upper end of the window.
pub(crate) fn group_metadata(info: &CaseInfo, scale: u16) -> Result<Value, serde_json::Error> {
    let mut attributes = serde_json::to_value(info)?;
    attributes["scale"] = scale.into();
    Ok(json!({"zarr_format": 3, "node_type": "group", "attributes": attributes}))
}

/// The metadata of an array.
pub(crate) fn array_metadata(cut: &Cut, data_type: DataType, layout: Layout) -> Value {
    let little_endian = json!({"name": "bytes", "configuration": {"endian": "little"}});
    json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": cut.shape,
        "data_type": data_type.name(),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": cut.shard}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": {
            "chunk_shape": cut.chunk,
            "codecs": codec::metadata(data_type),
            "index_codecs": [little_endian, {"name": "crc32c"}],
            "index_location": "end",
        }}],
        "attributes": {},
        "dimension_names": layout.stored(["x", "y", "z"]),
    })
}

/// The case that a group describes, and the stored value of the upper end of the window.
pub(crate) fn read_group(json: &[u8]) -> Result<(CaseInfo, u16), String> {
    let metadata = parsed(json, "group")?;
    let attributes = metadata.get("attributes").cloned().unwrap_or(Value::Object(Map::new()));
    let scale = attributes.get("scale").and_then(Value::as_u64).and_then(|scale| u16::try_from(scale).ok()).filter(|&scale| scale > 0);
    let scale = scale.ok_or_else(|| format!("its attribute `scale` is {}, expected 1 to 65535", shown(attributes.get("scale"))))?;
    let info = serde_json::from_value(attributes).map_err(|error| format!("its attributes cannot be understood: {error}"))?;
    Ok((info, scale))
}

/// How an array is cut, if it is one that we read: of the type and the shape that are expected, in shards of our codecs.
pub(crate) fn read_array(json: &[u8], data_type: DataType, shape: [usize; 3]) -> Result<Cut, String> {
    let metadata = parsed(json, "array")?;
    let found = (metadata.get("data_type").and_then(Value::as_str), sides(metadata.get("shape")));
    if found != (Some(data_type.name()), Some(shape)) {
        let [found_type, found_shape] = ["data_type", "shape"].map(|key| shown(metadata.get(key)));
        return Err(format!("it is {found_type} {found_shape}, expected {:?} {shape:?}", data_type.name()));
    }
    must_be(metadata.get("fill_value"), "fill_value", &json!(0))?;
    let keys = named(metadata.get("chunk_key_encoding"), "default")?;
    must_be(Some(keys.get("separator").unwrap_or(&json!("/"))), "separator", &json!("/"))?;
    let shard = sides(named(metadata.get("chunk_grid"), "regular")?.get("chunk_shape"));
    let [sharding] = codecs(metadata.get("codecs"), ["sharding_indexed"])?;
    let chunk = sides(sharding.get("chunk_shape"));
    let [first, _] = codecs(sharding.get("codecs"), codec::names(data_type))?;
    let [index_bytes, _] = codecs(sharding.get("index_codecs"), ["bytes", "crc32c"])?;
    must_be(Some(first.get("endian").unwrap_or(&json!("little"))), "endian", &json!("little"))?;
    must_be(index_bytes.get("endian"), "endian", &json!("little"))?;
    must_be(Some(sharding.get("index_location").unwrap_or(&json!("end"))), "index_location", &json!("end"))?;
    let (Some(shard), Some(chunk)) = (shard, chunk) else { return Err("its chunks have no shape of three sides".into()) };
    let fits = |axis: usize| (1..=LONGEST_SIDE).contains(&chunk[axis]) && shard[axis] > 0 && shard[axis].is_multiple_of(chunk[axis]);
    let voxels = chunk.iter().try_fold(1, |voxels: usize, side| voxels.checked_mul(*side));
    if !(0..3).all(fits) || shape.iter().any(|side| *side > LONGEST_SIDE) || voxels.is_none_or(|voxels| voxels > MOST_CHUNK_VOXELS) {
        return Err(format!("it has chunks of {chunk:?} voxels in shards of {shard:?}, which nobody writes"));
    }
    Ok(Cut { shape, shard, chunk })
}

fn parsed(json: &[u8], node_type: &str) -> Result<Value, String> {
    let metadata: Value = serde_json::from_slice(json).map_err(|error| format!("its zarr.json is no JSON: {error}"))?;
    must_be(metadata.get("zarr_format"), "zarr_format", &json!(3))?;
    must_be(metadata.get("node_type"), "node_type", &json!(node_type))?;
    Ok(metadata)
}

fn must_be(found: Option<&Value>, what: &str, expected: &Value) -> Result<(), String> {
    if found == Some(expected) { Ok(()) } else { Err(format!("its {what} is {}, expected {expected}", shown(found))) }
}

/// The configuration of what must have a certain name; null where it has none.
fn named<'v>(found: Option<&'v Value>, name: &str) -> Result<&'v Value, String> {
    must_be(found.and_then(|found| found.get("name")), "extension", &json!(name))?;
    Ok(found.and_then(|found| found.get("configuration")).unwrap_or(&Value::Null))
}

/// The configurations of codecs that must be these.
fn codecs<'v, const N: usize>(found: Option<&'v Value>, names: [&str; N]) -> Result<[&'v Value; N], String> {
    let list = found.and_then(Value::as_array).filter(|list| list.len() == N);
    let list = list.ok_or_else(|| format!("its codecs are {}, expected {names:?}", shown(found)))?;
    let mut configurations = [&Value::Null; N];
    for ((configuration, codec), name) in configurations.iter_mut().zip(list).zip(names) {
        *configuration = named(Some(codec), name)?;
    }
    Ok(configurations)
}

fn sides(found: Option<&Value>) -> Option<[usize; 3]> {
    let sides: Option<Vec<usize>> = found?.as_array()?.iter().map(|side| usize::try_from(side.as_u64()?).ok()).collect();
    sides?.try_into().ok()
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "missing".to_owned(), Value::to_string)
}
