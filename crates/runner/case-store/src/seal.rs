//! Records that tell whether they are whole.

use serde::{Serialize, de::DeserializeOwned};

const FIELD: &str = ",\n  \"seal\": \"";
const END: &str = "\"\n}\n";

/// A value, which must be a map, as JSON with a last field `seal`: BLAKE3 of all that stands before it.
///
/// # Errors
/// When the value is no JSON.
pub fn seal(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.truncate(text.len() - "\n}".len());
    let hash = blake3::hash(text.as_bytes());
    text.push_str(FIELD);
    text.push_str(hash.to_hex().as_str());
    text.push_str(END);
    Ok(text)
}

/// Reads what [`seal`] wrote; `None` when any bit of it has changed.
#[must_use]
pub fn open<T: DeserializeOwned>(text: &str) -> Option<T> {
    let at = text.rfind(FIELD)?;
    let (body, rest) = text.split_at(at);
    let hash = rest.strip_prefix(FIELD)?.strip_suffix(END)?;
    if blake3::hash(body.as_bytes()).to_hex().as_str() != hash {
        return None;
    }
    serde_json::from_str(&format!("{body}\n}}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_record_is_read_back_and_every_flipped_bit_and_every_cut_is_seen() {
        let value = json!({"key": "k", "seconds": 0.1, "inputs": {"a": "\"seal\""}, "last": [1, 2]});
        let text = seal(&value).unwrap();
        assert_eq!(open::<Value>(&text), Some(value));
        let is_json: Value = serde_json::from_str(&text).unwrap();
        assert!(is_json["seal"].is_string(), "people's tools can read it");
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert!(String::from_utf8(bytes).ok().is_none_or(|text| open::<Value>(&text).is_none()), "bit {bit} of byte {at}");
            }
            assert_eq!(open::<Value>(&text[..at]), None, "cut at {at}");
        }
    }
}
