//! Paths with places for names, such as `{patient}/{case}_ct.nii.gz`.

use std::collections::BTreeSet;

/// The names that a path gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Names {
    pub(crate) case: Option<String>,
    pub(crate) patient: Option<String>,
}

/// A part of a file's or folder's name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `{case}`, at least one letter, the same in all of the path.
    Case,
    /// `{patient}`, likewise.
    Patient,
    /// `*`, any letters or none.
    Any,
}

/// A path with places for names. Folders are parted by `/`; no place reaches beyond a `/`.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    parts: Vec<Vec<Piece>>,
}

impl Template {
    /// Reads a template. The error says what is wrong with it, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let parts = text.split('/').map(pieces).collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// How many folders deep its files lie, counted with the file itself.
    pub(crate) fn depth(&self) -> usize {
        self.parts.len()
    }

    pub(crate) fn names_case(&self) -> bool {
        self.pieces().any(|piece| *piece == Piece::Case)
    }

    pub(crate) fn names_patient(&self) -> bool {
        self.pieces().any(|piece| *piece == Piece::Patient)
    }

    /// How many letters it fixes: of two templates that a path fits, the one that fixes more is meant.
    pub(crate) fn fixed(&self) -> usize {
        self.pieces().map(|piece| if let Piece::Literal(text) = piece { text.len() } else { 0 }).sum()
    }

    /// All readings of a path, or of the first folders of one: none if it does not fit.
    pub(crate) fn readings(&self, path: &[&str]) -> BTreeSet<Names> {
        let mut readings = BTreeSet::from([Names::default()]);
        if path.len() > self.depth() {
            return BTreeSet::new();
        }
        for (part, name) in self.parts.iter().zip(path) {
            let mut longer = BTreeSet::new();
            readings.iter().for_each(|names| read(part, name, names, &mut longer));
            readings = longer;
        }
        readings
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.parts.iter().flatten()
    }
}

fn pieces(name: &str) -> Result<Vec<Piece>, &'static str> {
    if name.is_empty() || name == "." || name == ".." {
        return Err("is no path within the dataset; write folders and a file, parted by `/`");
    }
    let mut pieces = Vec::new();
    let mut rest = name;
    while let Some(place) = rest.find(['{', '}', '*']) {
        let (literal, special) = rest.split_at(place);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        let (piece, length) = [(Piece::Case, "{case}"), (Piece::Patient, "{patient}"), (Piece::Any, "*")]
            .into_iter()
            .find_map(|(piece, text)| special.starts_with(text).then_some((piece, text.len())))
            .ok_or("has braces around something else than `{case}` or `{patient}`")?;
        pieces.push(piece);
        rest = &special[length..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

/// Adds every way in which `text` fits the pieces, given the names so far.
fn read(pieces: &[Piece], text: &str, names: &Names, readings: &mut BTreeSet<Names>) {
    let Some((first, others)) = pieces.split_first() else {
        if text.is_empty() {
            readings.insert(names.clone());
        }
        return;
    };
    let known = match first {
        Piece::Literal(literal) => Some(literal),
        Piece::Case => names.case.as_ref(),
        Piece::Patient => names.patient.as_ref(),
        Piece::Any => None,
    };
    if let Some(known) = known {
        if let Some(rest) = text.strip_prefix(known.as_str()) {
            read(others, rest, names, readings);
        }
        return;
    }
    let least = usize::from(*first != Piece::Any);
    for end in (least..=text.len()).filter(|&end| text.is_char_boundary(end)) {
        let (name, rest) = text.split_at(end);
        let mut names = names.clone();
        match first {
            Piece::Case => names.case = Some(name.to_owned()),
            Piece::Patient => names.patient = Some(name.to_owned()),
            Piece::Literal(_) | Piece::Any => {}
        }
        read(others, rest, &names, readings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(template: &str, path: &str) -> Vec<(Option<String>, Option<String>)> {
        let path: Vec<&str> = path.split('/').collect();
        Template::parse(template).unwrap().readings(&path).into_iter().map(|names| (names.case, names.patient)).collect()
    }

    fn case(name: &str) -> Vec<(Option<String>, Option<String>)> {
        vec![(Some(name.to_owned()), None)]
    }

    #[test]
    fn a_path_gives_the_names_in_its_places() {
        assert_eq!(readings("ct/{case}.nii.gz", "ct/a.b.nii.gz"), case("a.b"));
        assert_eq!(readings("{case}/{case}_ct.nii", "x/x_ct.nii"), case("x"));
        assert_eq!(readings("{case}/{case}_ct.nii", "x/y_ct.nii"), []);
        assert_eq!(readings("*/{case}.nii", "any/ü.nii"), case("ü"));
        assert_eq!(readings("ct/{case}.nii", "ct"), [(None, None)], "the first folders fit");
        assert_eq!(readings("ct/{case}.nii", "ct/.nii"), [], "no name is empty");
        assert_eq!(readings("{case}.nii", "a/b.nii"), []);
        assert_eq!(readings("{patient}/{case}.nii", "p/1.nii"), [(Some("1".to_owned()), Some("p".to_owned()))]);
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_has_two_readings() {
        assert_eq!(readings("{patient}_*", "STS_001_pre").len(), 2);
        assert_eq!(readings("STS_{patient}_*", "STS_001_pre"), [(None, Some("001".to_owned()))]);
        assert_eq!(readings("*a*{case}.nii", "aaXX.nii").len(), 3, "aXX, XX and X");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in ["", "/a/{case}.nii", "../{case}.nii", "a//{case}.nii", "{cases}.nii", "{case.nii", "case}.nii"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
