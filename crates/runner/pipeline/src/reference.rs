//! References: `partition`, `phantom/truth`, `segment[M_1]/organs`, `segment[*]`, `data.dataset`, `data.dataset/labels`.

/// What a reference names; nothing is looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The output folder of a node, or something in it.
    Node { name: String, sub: String },
    /// Each node of a `foreach` whose values fit, one of them `*`: the family's name, the values, and something in each output folder.
    Each { family: String, values: Vec<String>, sub: String },
    /// An entry of `data:`, or something in it.
    Data { name: String, sub: String },
}

/// What stands for any value of a `foreach`.
pub(crate) const ANY: &str = "*";

/// Whether `name` may name a node, an entry of `data:` or a value of `foreach`.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Whether `value` may stand between the brackets of an expanded node (`0.5` may).
pub(crate) fn is_foreach_value(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

impl Reference {
    /// Reads a reference, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (head, sub) = text.split_once('/').unwrap_or((text, ""));
        let sub = sub.trim_end_matches('/').to_owned();
        if !sub.is_empty() && sub.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("`{text}` must lead into the folder of `{head}`: no `.`, `..` or empty part"));
        }
        if let Some(name) = head.strip_prefix("data.") {
            if is_name(name) {
                return Ok(Self::Data { name: name.to_owned(), sub });
            }
        } else {
            let (name, brackets) = head.split_once('[').unwrap_or((head, "x]"));
            let values: Vec<&str> = brackets.strip_suffix(']').unwrap_or_default().split(',').collect();
            if is_name(name) && values.iter().all(|value| is_foreach_value(value) || *value == ANY) {
                return match values.iter().filter(|value| **value == ANY).count() {
                    0 => Ok(Self::Node { name: head.to_owned(), sub }),
                    1 => Ok(Self::Each { family: name.to_owned(), values: values.into_iter().map(str::to_owned).collect(), sub }),
                    _ => Err(format!("`{text}` has several `*`, of which one may give names")),
                };
            }
        }
        Err(format!(
            "`{text}` is no reference; write `NODE`, `NODE/FOLDER`, `NODE[VALUE]`, `NODE[*]` or `data.NAME` (paths stand under `data:`)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, sub: &str) -> Result<Reference, String> {
        Ok(Reference::Node { name: name.into(), sub: sub.into() })
    }

    #[test]
    fn nodes_expanded_nodes_and_data_are_told_apart() {
        assert_eq!(Reference::parse("partition"), node("partition", ""));
        assert_eq!(Reference::parse("phantom/truth/"), node("phantom", "truth"));
        assert_eq!(Reference::parse("segment[M_1,0.5]/organs/a.nii.gz"), node("segment[M_1,0.5]", "organs/a.nii.gz"));
        let each = Reference::Each { family: "segment".into(), values: ["*", "0.5"].map(str::to_owned).into(), sub: "organs".into() };
        assert_eq!(Reference::parse("segment[*,0.5]/organs"), Ok(each));
        assert_eq!(Reference::parse("data.truth"), Ok(Reference::Data { name: "truth".into(), sub: String::new() }));
        assert_eq!(Reference::parse("data.set/labels"), Ok(Reference::Data { name: "set".into(), sub: "labels".into() }));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "/data/FLARE23",
            "../x",
            "a/../b",
            "a//b",
            "a[",
            "a[]",
            "a[x*]",
            "a[*,*]",
            "*",
            "data.a[*]",
            "$step",
            "data.",
            "data.a.b",
            "a b",
            "./a",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
