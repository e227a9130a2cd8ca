//! Which parameters a training step moves (paper 2.3: M_2 … M_4 train one decoder at a time).

use std::collections::BTreeSet;

use nets::Params;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rule over parameter names. A pattern is a name in which `*` stands for any run of characters:
/// `*` is everything, `organ_decoder.*` one part of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FreezePlan {
    /// Parameters that match one of these are trained; all others keep their value to the bit.
    pub live: Vec<String>,
}

/// Why a plan does not fit a network.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// Nothing would be trained.
    #[error("there are no patterns, so nothing would be selected; use [\"*\"] for all parameters")]
    Empty,
    /// A pattern that selects nothing, most likely a misspelling.
    #[error("the pattern `{pattern}` matches none of the network's parameters; its parts are {parts}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// First name components of the network, each with `.*`.
        parts: String,
    },
}

impl FreezePlan {
    /// Everything is trained.
    #[must_use]
    pub fn all_live() -> Self {
        Self { live: vec!["*".into()] }
    }

    /// Whether it is [`FreezePlan::all_live`].
    #[must_use]
    pub fn is_all_live(&self) -> bool {
        *self == Self::all_live()
    }

    /// The live ones among `names`.
    ///
    /// # Errors
    /// When there are no patterns, or one of them matches nothing.
    pub fn select<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<BTreeSet<&'a str>, FreezeError> {
        let names: Vec<&str> = names.into_iter().collect();
        if self.live.is_empty() {
            return Err(FreezeError::Empty);
        }
        let mut live = BTreeSet::new();
        for pattern in &self.live {
            let matched = names.iter().filter(|name| matches(pattern, name)).map(|name| live.insert(*name)).count();
            if matched == 0 {
                let parts: BTreeSet<String> = names.iter().map(|name| format!("`{}.*`", name.split('.').next().unwrap_or(name))).collect();
                return Err(FreezeError::NoMatch { pattern: pattern.clone(), parts: parts.into_iter().collect::<Vec<_>>().join(", ") });
            }
        }
        Ok(live)
    }

    /// Makes the plan hold for `params`.
    ///
    /// # Errors
    /// As [`FreezePlan::select`]; nothing is changed then.
    pub fn apply(&self, params: &mut Params) -> Result<(), FreezeError> {
        let live: BTreeSet<String> = self.select(params.names())?.into_iter().map(str::to_owned).collect();
        params.set_live(|name| live.contains(name));
        Ok(())
    }
}

/// Whether `name` fits `pattern`, in which each `*` stands for any run of characters, an empty one included.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return name.ends_with(piece);
        }
        // Taking the earliest place for a middle piece leaves the most room for those after it.
        let Some(at) = name.find(piece) else { return false };
        name = &name[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["cancer_decoder.final.bias", "conv_0.weight", "organ_decoder.final.bias", "organ_decoder.up.weight"];

    fn plan(live: &[&str]) -> FreezePlan {
        FreezePlan { live: live.iter().map(|&p| p.to_owned()).collect() }
    }

    #[test]
    fn patterns_select_by_name() {
        let select = |live: &[&str]| plan(live).select(NAMES).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(select(&["*"]), NAMES);
        assert_eq!(select(&["organ_decoder.*"]), NAMES[2..]);
        assert_eq!(select(&["*_decoder.*.bias", "conv_0.weight"]), NAMES[..3]);
        assert_eq!(select(&["*.weight"]), [NAMES[1], NAMES[3]]);
    }

    #[test]
    fn a_star_may_stand_for_nothing_but_pieces_never_overlap() {
        assert!(matches("a*b", "ab") && matches("a*b*", "ab"));
        assert!(!matches("ab*ba", "aba"), "one `b` cannot serve both sides");
        assert!(!matches("a", "ab") && !matches("*b*b", "ab"));
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_refused_with_the_parts_there_are() {
        let error = plan(&["*", "organs_decoder.*"]).select(NAMES).unwrap_err().to_string();
        assert!(
            error.contains("`organs_decoder.*` matches none") && error.contains("`cancer_decoder.*`, `conv_0.*`, `organ_decoder.*`"),
            "{error}"
        );
        assert!(matches!(plan(&[]).select(NAMES), Err(FreezeError::Empty)));
    }
}
