//! Names of cases: safe as names of files, the same in every run, and no two alike.

use std::collections::HashMap;

/// A name is cut after so many characters.
const MOST: usize = 64;

/// What a series can be named by, from the short to the certain.
pub(crate) struct Named<'a> {
    /// The patient's ID.
    pub(crate) patient: &'a str,
    /// The number of the series, and of the stack in it.
    pub(crate) series: &'a str,
    pub(crate) uid: &'a str,
}

impl Named<'_> {
    /// The name of a level; the last one is unlike that of any other series.
    fn at(&self, level: usize) -> String {
        let patient = safe(self.patient);
        let patient = if patient.is_empty() { "unknown" } else { &patient };
        let number = safe(self.series);
        match level {
            0 => patient.to_owned(),
            1 => format!("{patient}_{number}"),
            _ => {
                let digest = blake3::hash(format!("{}\n{}", self.uid, self.series).as_bytes()).to_hex();
                format!("{patient}_{number}_{}", &digest[..8])
            }
        }
    }
}

/// A name for each series: the patient, and more where several would have one name.
pub(crate) fn unique(series: &[Named<'_>]) -> Vec<String> {
    const LEVELS: usize = 3;
    let mut levels = vec![0; series.len()];
    let named = |levels: &[usize]| -> Vec<String> { series.iter().zip(levels).map(|(one, level)| one.at(*level)).collect() };
    for _ in 1..LEVELS * 2 {
        let names = named(&levels);
        let mut counts = HashMap::<String, usize>::new();
        // Some file systems do not tell capitals.
        names.iter().for_each(|name| *counts.entry(name.to_lowercase()).or_default() += 1);
        for (level, name) in levels.iter_mut().zip(&names) {
            if counts[&name.to_lowercase()] > 1 {
                *level = (*level + 1).min(LEVELS - 1);
            }
        }
    }
    named(&levels)
}

/// Letters and digits of ASCII and single `-`, `_` between them.
fn safe(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        let letter = if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' };
        let is_sign = |letter: char| matches!(letter, '-' | '_');
        if !(is_sign(letter) && safe.chars().next_back().is_none_or(is_sign)) && safe.len() < MOST {
            safe.push(letter);
        }
    }
    safe.trim_end_matches(['-', '_']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(series: &[[&str; 3]]) -> Vec<String> {
        unique(&series.iter().map(|[patient, series, uid]| Named { patient, series, uid }).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_safe_and_say_only_what_they_have_to() {
        assert_eq!(names(&[["LIDC-IDRI-0001", "2", "1.2"], ["../etc/passwd", "3", "1.3"]]), ["LIDC-IDRI-0001", "etc-passwd"]);
        assert_eq!(names(&[["", "2", "1.2"], ["Müller^Anna", "3", "1.3"], ["_a__b_", "3", "1.4"]]), ["unknown", "M-ller-Anna", "a_b"]);
        assert_eq!(names(&[[&"9".repeat(500), "2", "1.2"]])[0].len(), MOST);
    }

    #[test]
    fn no_two_names_are_alike() {
        assert_eq!(names(&[["P1", "2", "1.2"], ["P1", "3", "1.3"], ["P2", "2", "1.4"]]), ["P1_2", "P1_3", "P2"]);
        for series in [
            &[["P1", "2", "1.2"], ["P1", "2", "1.3"], ["p1", "2", "1.4"]][..],
            &[["P1", "2", "1.2"], ["P1", "3", "1.3"], ["P1_2", "5", "1.4"], ["P1_2_5", "1", "1.5"]],
            &[["P1", "2_1", "1.2"], ["P1", "2_2", "1.2"], ["P/1", "2_2", "1.2"], ["P-1", "2.2", "1.2"]],
        ] {
            let names = names(series);
            let mut lower: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
            lower.sort();
            lower.dedup();
            assert_eq!(lower.len(), series.len(), "{names:?}");
        }
    }
}
