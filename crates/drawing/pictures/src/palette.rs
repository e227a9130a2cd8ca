//! The names and colours of what label maps show.

use std::collections::BTreeMap;

use labels::{Classes, LabelError, LabelPattern, Regions, histogram};

use crate::canvas::Color;

/// Names and colours of the values of label maps, and which of them stand out.
#[derive(Clone, Debug)]
pub struct Palette {
    names: BTreeMap<u8, String>,
    colors: [Color; 256],
    /// The classes of the uppermost of several groups, such as tumors: what the reader looks for.
    marked: LabelPattern,
}

impl Palette {
    /// The names and colours of classes.
    #[must_use]
    pub fn of(classes: &Classes) -> Self {
        let marked = match classes.groups() {
            [_, .., top] => top.pattern(),
            _ => LabelPattern::EMPTY,
        };
        let names = classes.all().into_iter().map(|class| (class.value, class.name.clone())).collect();
        Self { names, colors: classes.colors(), marked }
    }

    /// Gives a value another name.
    pub fn rename(&mut self, value: u8, name: &str) {
        self.names.insert(value, name.to_owned());
    }

    pub(crate) fn name(&self, value: u8) -> &str {
        self.names.get(&value).map_or("", String::as_str)
    }

    pub(crate) fn color(&self, value: u8) -> Color {
        self.colors[usize::from(value)]
    }

    /// Whether a value stands out.
    pub(crate) fn marks(&self, value: u8) -> bool {
        self.marked.contains(value)
    }

    /// The values that are seen.
    pub(crate) fn seen(&self, labels: &[u8]) -> Result<LabelPattern, LabelError> {
        Regions::plain(self.names.keys().copied().collect()).shown(&histogram(labels))
    }
}
