//! The part of a Dockerfile that an image of one layer needs.

use std::path::Path;

use crate::error::ContainerError;

/// The name of a recipe in its folder.
pub const RECIPE_FILE: &str = "Dockerfile";

/// How a container of the image starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// `NAME=VALUE`, in the order of the file.
    pub environment: Vec<String>,
    /// `user:group`.
    pub user: String,
    /// The folder in which the command runs.
    pub folder: String,
    /// The command when a container is started without one.
    pub command: Vec<String>,
}

impl Recipe {
    /// Reads the Dockerfile of a folder: `FROM scratch`, `COPY root/ /`, and `ENV`, `USER`, `WORKDIR` and `CMD` in the form of a list.
    ///
    /// # Errors
    /// Names the line that is something else, which takes an engine.
    pub fn read(folder: &Path) -> Result<Self, ContainerError> {
        let path = folder.join(RECIPE_FILE);
        let text = std::fs::read_to_string(&path).map_err(ContainerError::file("read", &path))?;
        parse(&text).map_err(|(line, message)| ContainerError::Recipe { path, line, message })
    }
}

fn parse(text: &str) -> Result<Recipe, (usize, String)> {
    let mut recipe = Recipe::default();
    let (mut based, mut copied) = (false, false);
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let mut instruction = line.trim().to_owned();
        if instruction.is_empty() || instruction.starts_with('#') {
            continue;
        }
        while let Some(begun) = instruction.strip_suffix('\\') {
            let next = lines.next().map_or("", |(_, line)| line.trim());
            instruction = format!("{begun}{next}");
        }
        let (name, rest) = instruction.split_once(char::is_whitespace).unwrap_or((&instruction, ""));
        let rest = rest.trim();
        let wrong = |message: &str| Err((at + 1, message.to_owned()));
        match (name, rest) {
            ("FROM", "scratch") => based = true,
            _ if !based => return wrong("the first instruction must be `FROM scratch`; an image on another one takes an engine"),
            ("COPY", "root/ /") => copied = true,
            ("ENV", _) => {
                let pairs: Vec<&str> = rest.split_whitespace().collect();
                if pairs.iter().any(|pair| !pair.contains('=') || pair.contains(['"', '\'', '$'])) {
                    return wrong("`ENV` takes NAME=VALUE without quotes and variables here");
                }
                recipe.environment.extend(pairs.into_iter().map(str::to_owned));
            }
            ("USER", user) if !user.is_empty() => recipe.user = user.to_owned(),
            ("WORKDIR", folder) if folder.starts_with('/') => recipe.folder = folder.to_owned(),
            ("CMD", list) => match serde_json::from_str(list) {
                Ok(command) => recipe.command = command,
                Err(_) => return wrong("`CMD` takes a list of texts in double quotes here"),
            },
            _ => return wrong(&format!("`{instruction}` is understood by engines only; name one as the parameter `builder`")),
        }
    }
    if copied { Ok(recipe) } else { Err((text.lines().count(), "nothing is copied; it takes `COPY root/ /`".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_is_read_as_engines_read_it() {
        let text = "# words\nFROM scratch\n\nCOPY root/ /\nENV A=1 B=x=y \\\n    C=3\nUSER 1000:1000\nWORKDIR /work\nCMD [\"/bin/sh\", \"-c\", \"a b\"]\n";
        let expected = Recipe {
            environment: ["A=1", "B=x=y", "C=3"].map(str::to_owned).into(),
            user: "1000:1000".into(),
            folder: "/work".into(),
            command: ["/bin/sh", "-c", "a b"].map(str::to_owned).into(),
        };
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn what_takes_an_engine_is_named_with_its_line() {
        let start = "FROM scratch\nCOPY root/ /\n";
        let line = |text: &str| parse(text).unwrap_err();
        assert_eq!(line("FROM debian\n").0, 1);
        assert!(line(&format!("{start}RUN true\n")).1.contains("`RUN true`"));
        assert_eq!(line(&format!("{start}CMD run it\n")).0, 3);
        assert_eq!(line(&format!("{start}ENV A\n")).0, 3);
        assert!(line("FROM scratch\n").1.contains("COPY root/ /"));
        assert!(parse("").is_err());
    }
}
