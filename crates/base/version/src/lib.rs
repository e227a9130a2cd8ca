//! What a program says of itself when it is asked for its version, and writes into the records of its work.

/// The version with the commit, as in `0.1.0 (5f1c3ab2d904)`, or `0.1.0 (5f1c3ab2d904, changed)` where files differ from it. Of sources
/// without a repository the commit is not known, and left out.
pub const VERSION: &str = env!("VERSION");

#[cfg(test)]
mod tests {
    #[test]
    fn it_begins_with_the_version_of_the_packages() {
        let rest = super::VERSION.strip_prefix(env!("CARGO_PKG_VERSION")).unwrap();
        let commit = rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')')).map(|commit| commit.trim_end_matches(", changed"));
        let is_commit = |commit: &str| commit.len() >= 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(rest.is_empty() || commit.is_some_and(is_commit), "{}", super::VERSION);
    }
}
