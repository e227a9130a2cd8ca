//! What goes into the image, and where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use containers::{Recipe, Root, libraries};
use model_card::MODEL_FILE;
use serde_json::{Value, json};
use stage_kit::StageIo;

use crate::Config;

/// Where the program and its model stand; `predict` looks for the model beside itself.
const HOME: &str = "/opt/predict";
/// Where libraries stand that no system has.
const LIBRARIES: &str = "/usr/local/lib";
/// The challenge calls `/bin/bash -c "sh predict.sh"`.
const SHELLS: [&str; 2] = ["/bin/bash", "/usr/bin/bash"];
const SCRIPT: &str = "predict.sh";
/// What the program is made of and under which licences, if the recipe has it.
const NOTICES: &str = "THIRD-PARTY-NOTICES.txt";

/// The image before it is packed.
pub struct Contents {
    pub(crate) recipe: Recipe,
    pub(crate) root: Root,
    /// The files that are no input: place → digest.
    pub(crate) of_this_machine: Value,
    folder: PathBuf,
}

impl Contents {
    pub(crate) fn of(config: &Config, io: &StageIo) -> Result<Self> {
        let folder = io.input("recipe")?.to_owned();
        let program = io.input("program")?;
        let model = model_card::model_file(io.input("model")?);
        // As the loader tells it.
        let more = io.input_opt("libraries")?.map(std::path::absolute).transpose().context("libraries")?;
        let more = more.as_deref();
        ensure!(program.is_file(), "{} is no file; the input `program` is the executable `predict`", program.display());
        ensure!(model.is_file(), "there is no {}; the stage `export` or a training writes it", model.display());
        ensure!(
            config.libraries.is_empty() || more.is_some(),
            "`libraries` names {}, and there is no input `libraries` to take them from",
            config.libraries.join(", ")
        );

        let mut root = skeleton()?;
        root.program(&Path::new(HOME).join("predict"), program)?;
        root.file(&Path::new(HOME).join(MODEL_FILE), &model)?;
        root.file(&Path::new("/workspace").join(SCRIPT), &folder.join(SCRIPT))?;
        let notices = folder.join(NOTICES);
        if notices.is_file() {
            root.file(&Path::new(HOME).join(NOTICES), &notices)?;
        }
        let shell = SHELLS.map(Path::new).into_iter().find(|path| path.is_file());
        let shell = shell.context("this machine has no bash, which the challenge calls in the image; install it")?;
        root.program(Path::new("/bin/bash"), shell)?;

        let mut linked = libraries(shell, None)?;
        linked.extend(libraries(program, more.map(|folder| (folder, LIBRARIES)))?);
        for (name, folder) in config.libraries.iter().zip(std::iter::repeat(more).flatten()) {
            let path = folder.join(name);
            ensure!(path.is_file(), "there is no {name} in {}, which `libraries` names", folder.display());
            linked.extend(libraries(&path, Some((folder, LIBRARIES)))?);
            linked.insert(Path::new(LIBRARIES).join(name), path);
        }
        let mut of_this_machine = BTreeMap::from([("/bin/bash".to_owned(), digest(shell)?)]);
        for (place, path) in &linked {
            // The loader must be executable for those who call it by name.
            root.program(place, path)?;
            if !more.is_some_and(|folder| path.starts_with(folder)) {
                of_this_machine.insert(place.to_string_lossy().into_owned(), digest(path)?);
            }
        }
        Ok(Self { recipe: Recipe::read(&folder)?, root, of_this_machine: json!(of_this_machine), folder })
    }

    pub(crate) fn recipe_file(&self) -> PathBuf {
        self.folder.join(containers::RECIPE_FILE)
    }
}

/// What every image has: a user without rights, a place for temporary files, and the challenge's folders.
fn skeleton() -> Result<Root> {
    let mut root = Root::default();
    root.text("/etc/passwd", "root:x:0:0::/:/bin/sh\npredict:x:1000:1000::/workspace:/bin/sh\n")?;
    root.text("/etc/group", "root:x:0:\npredict:x:1000:\n")?;
    root.folder("/tmp", 0o1777)?;
    root.folder("/workspace/inputs", 0o755)?;
    // Whoever the container runs as may write where nothing is mounted.
    root.folder("/workspace/outputs", 0o777)?;
    // bash called as sh keeps to POSIX.
    root.link("/bin/sh", "bash")?;
    Ok(root)
}

fn digest(path: &Path) -> Result<String> {
    let read = || stage_kit::hash_of(&std::fs::File::open(path)?);
    read().with_context(|| format!("cannot read {}", path.display()))
}
