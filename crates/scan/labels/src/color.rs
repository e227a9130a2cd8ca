//! Colours of classes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An sRGB colour, written `#ff8000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Color(pub(crate) [u8; 3]);

/// The first are ITK-SNAP's defaults; its three near-identical blues are replaced, so that neighbours can be told apart.
const FIRST: [[u8; 3]; 15] = [
    [0, 0, 0],
    [255, 0, 0],
    [0, 255, 0],
    [0, 0, 255],
    [255, 255, 0],
    [0, 255, 255],
    [255, 0, 255],
    [255, 239, 213],
    [128, 0, 160],
    [205, 133, 63],
    [140, 200, 60],
    [102, 205, 170],
    [255, 128, 0],
    [0, 139, 139],
    [255, 105, 180],
];

/// The colour of a value for which none is declared. Hues of further values go round by the golden angle, so that those of
/// neighbours lie far apart.
pub(crate) fn of_value(value: u8) -> [u8; 3] {
    if let Some(&color) = FIRST.get(usize::from(value)) {
        return color;
    }
    let hue = (f64::from(value) * 137.507_764_05) % 360.0 / 60.0;
    let (saturation, brightness) = if value.is_multiple_of(2) { (0.85, 0.95) } else { (0.55, 0.75) };
    let channel = |offset: f64| {
        let k = (offset + hue) % 6.0;
        let level: f64 = brightness * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0));
        (level * 255.0).round() as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

impl Serialize for Color {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [r, g, b] = self.0;
        serializer.collect_str(&format_args!("#{r:02x}{g:02x}{b:02x}"))
    }
}

impl<'de> Deserialize<'de> for Color {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let [_, r, g, b] = number
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a colour; write it as \"#ff8000\", with quotes")))?
            .to_be_bytes();
        Ok(Self([r, g, b]))
    }
}

impl JsonSchema for Color {
    fn schema_name() -> Cow<'static, str> {
        "Color".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"description": "A colour such as #ff8000.", "type": "string", "pattern": "^#[0-9a-fA-F]{6}$"})
    }
}
