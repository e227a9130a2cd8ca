//! A stage for people: its inputs, what it writes, and every parameter with its type, default and meaning.

use std::fmt::Write as _;

use crate::entry::Entry;
use crate::shape::{Field, Need, Shape, flow};

/// The width of the text.
const WIDTH: usize = 110;

impl Entry {
    /// Inputs, output, parameters and an example.
    #[must_use]
    pub fn manual(&self) -> String {
        let mut text = String::from("Inputs:\n");
        if self.reads.is_empty() {
            text.push_str("  none\n");
        }
        for role in self.reads {
            entry(&mut text, 2, &format!("{}{}", role.full_name(), if role.required { "" } else { " (optional)" }), role.about);
        }
        text.push_str("\nOutput:\n");
        wrapped(&mut text, 2, self.writes);
        text.push_str("\nParameters:\n");
        match Shape::of(self) {
            Shape::Map(fields) if !fields.is_empty() => {
                let mut manual = Manual { text: &mut text, at: String::new() };
                fields.iter().for_each(|field| manual.field(field));
            }
            _ => text.push_str("  none\n"),
        }
        if !self.example.is_empty() {
            text.push_str("\nAn example, below `nodes:` in a pipeline file:\n");
            self.example.trim_matches('\n').lines().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            });
        }
        let _ = writeln!(text, "\nPaper: {}", self.paper);
        text
    }
}

struct Manual<'a> {
    text: &'a mut String,
    /// The names of the fields above, with dots.
    at: String,
}

impl Manual<'_> {
    fn field(&mut self, field: &Field) {
        let need = match &field.need {
            Need::Required => ", required".to_owned(),
            Need::Default(value) => format!(", default {}", flow(value)),
            Need::Optional => ", optional".to_owned(),
            Need::Chosen => String::new(),
        };
        let kind = match &field.shape {
            Shape::Either(shapes) => without_null(shapes),
            shape => shape.kind(),
        };
        entry(self.text, 2, &format!("{}{}: {kind}{need}", self.at, field.name), &field.about);
        self.below(&field.shape, &field.name);
    }

    /// What lies within a shape.
    fn below(&mut self, shape: &Shape, name: &str) {
        match shape {
            Shape::Map(fields) | Shape::OneOf(fields) => self.fields(&format!("{name}."), fields),
            Shape::Named(shape) => self.below(shape, &format!("{name}.NAME")),
            Shape::List(shape, _) => self.below(shape, &format!("{name}[]")),
            Shape::Either(shapes) => shapes.iter().for_each(|shape| self.below(shape, name)),
            Shape::Choice(values) => {
                for (value, about) in values.iter().filter(|(_, about)| !about.is_empty()) {
                    entry(self.text, 6, &flow(value), about);
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, under: &str, fields: &[Field]) {
        let outer = self.at.len();
        self.at.push_str(under);
        fields.iter().for_each(|field| self.field(field));
        self.at.truncate(outer);
    }
}

fn without_null(shapes: &[Shape]) -> String {
    shapes.iter().filter(|shape| **shape != Shape::Null).map(Shape::kind).collect::<Vec<_>>().join(" or ")
}

/// A head and, below it and further in, what it means.
fn entry(text: &mut String, indent: usize, head: &str, about: &str) {
    let _ = writeln!(text, "{:indent$}{head}", "");
    wrapped(text, indent + 4, about);
}

fn wrapped(text: &mut String, indent: usize, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{:indent$}{line}", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}
