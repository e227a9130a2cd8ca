//! The known name that a misspelt one was meant to be.

/// The name among `known` that is most like `wanted`, if any is like it at all: no more than a third of its letters,
/// rounded up, have to be put in, left out, replaced, or swapped with their neighbour. The first of equals.
#[must_use]
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| -> Vec<char> { text.chars().flat_map(char::to_lowercase).collect() };
    let wanted = letters(wanted);
    let (steps, name) = known.map(|name| (distance(&wanted, &letters(name)), name)).min_by_key(|(steps, _)| *steps)?;
    (steps <= wanted.len().max(name.chars().count()).div_ceil(3)).then_some(name)
}

/// How many single changes make `b` of `a` (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant_and_a_strange_one_finds_none() {
        let known = ["dataset", "partition", "images", "M_o13"];
        let found = |wanted| nearest(wanted, known.into_iter());
        assert_eq!(found("dataste"), Some("dataset"));
        assert_eq!(found("imagez"), Some("images"));
        assert_eq!(found("Image"), Some("images"));
        assert_eq!(found("m_o31"), Some("M_o13"));
        assert_eq!(found("prtition"), Some("partition"));
        assert_eq!(found("weights"), None);
        assert_eq!(found(""), None);
        assert_eq!(nearest("a", std::iter::empty()), None);
    }
}
