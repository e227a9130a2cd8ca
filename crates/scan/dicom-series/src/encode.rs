//! Elements in explicit little endian, as files are written.

use dicom_core::{Tag, VR};

/// Elements one after another.
#[derive(Default)]
pub(crate) struct Elements(Vec<u8>);

impl Elements {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A value as it is stored, filled up to an even length.
    pub(crate) fn put(&mut self, tag: Tag, vr: VR, value: &[u8]) {
        self.head(tag, vr, (value.len() + value.len() % 2) as u32);
        self.0.extend_from_slice(value);
        if value.len() % 2 == 1 {
            self.0.push(if matches!(vr, VR::UI | VR::OB | VR::UN) { 0 } else { b' ' });
        }
    }

    pub(crate) fn text(&mut self, tag: Tag, vr: VR, text: &str) {
        self.put(tag, vr, text.as_bytes());
    }

    pub(crate) fn shorts(&mut self, tag: Tag, values: &[u16]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.put(tag, VR::US, &bytes);
    }

    pub(crate) fn longs(&mut self, tag: Tag, values: &[u32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.put(tag, VR::UL, &bytes);
    }

    /// Numbers as texts of at most 16 characters each.
    pub(crate) fn decimals(&mut self, tag: Tag, values: &[f64]) {
        let texts: Vec<String> = values.iter().map(|&value| decimal(value)).collect();
        self.text(tag, VR::DS, &texts.join("\\"));
    }

    /// A sequence of one item for each of `items`.
    pub(crate) fn sequence<T>(&mut self, tag: Tag, items: impl IntoIterator<Item = T>, mut fill: impl FnMut(&mut Elements, T)) {
        let mut bytes = Vec::new();
        for item in items {
            let mut inside = Elements::default();
            fill(&mut inside, item);
            bytes.extend(item_of(&inside));
        }
        self.head(tag, VR::SQ, bytes.len() as u32);
        self.0.extend(bytes);
    }

    /// A sequence of one item.
    pub(crate) fn one(&mut self, tag: Tag, fill: impl FnOnce(&mut Elements)) {
        let mut fill = Some(fill);
        self.sequence(tag, [()], |inside, ()| {
            if let Some(fill) = fill.take() {
                fill(inside);
            }
        });
    }

    /// Tag, kind and length of an element whose value comes next.
    pub(crate) fn head(&mut self, tag: Tag, vr: VR, length: u32) {
        self.0.extend([tag.group().to_le_bytes(), tag.element().to_le_bytes()].as_flattened());
        self.0.extend(vr.to_bytes());
        if matches!(vr, VR::OB | VR::OW | VR::OF | VR::OD | VR::OL | VR::OV | VR::SQ | VR::UC | VR::UR | VR::UT | VR::UN | VR::SV | VR::UV)
        {
            self.0.extend([0, 0]);
            self.0.extend(length.to_le_bytes());
        } else {
            self.0.extend((length as u16).to_le_bytes());
        }
    }
}

/// An item with its elements.
pub(crate) fn item_of(elements: &Elements) -> Vec<u8> {
    let mut bytes = vec![0xfe, 0xff, 0x00, 0xe0];
    bytes.extend((elements.0.len() as u32).to_le_bytes());
    bytes.extend(&elements.0);
    bytes
}

/// A number in at most 16 characters.
fn decimal(value: f64) -> String {
    const MOST: usize = 16;
    let exact = value.to_string();
    if exact.len() <= MOST {
        return exact;
    }
    (0..MOST).rev().map(|digits| format!("{value:.digits$}")).find(|text| text.len() <= MOST).unwrap_or_else(|| format!("{value:.8e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_sixteen_characters_and_stay_what_they_are() {
        for value in [0.1, -123.456_789_012_345_67, 1.0 / 3.0, 0.0, -1e-7, 123_456_789_012.345] {
            let text = decimal(value);
            assert!(text.len() <= 16, "{text}");
            assert!((text.parse::<f64>().unwrap() - value).abs() <= 1e-9 * value.abs().max(1.0), "{value} as {text}");
        }
    }
}
