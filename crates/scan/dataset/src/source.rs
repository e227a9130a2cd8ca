//! A declared dataset at its place: what its values mean, and which files belong to which case.

use std::path::{Path, PathBuf};

use labels::{Classes, Regions};

use crate::declaration::{DatasetConfig, Layout, Nnunet, Pattern};
use crate::files::{self, FolderFiles, Found};
use crate::meaning;
use crate::nnunet::{DatasetList, IMAGES, LABELS, TEST_IMAGES};
use crate::pattern::Templates;
use crate::problem::{DatasetError, Problem};
use crate::sides;
use crate::template::Template;
use stage_kit::{Aside, LeftOut};

/// A case and its files, not yet looked into. Paths are relative to the dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFiles {
    /// The name within the dataset.
    pub case: String,
    /// The image.
    pub image: PathBuf,
    /// The label map, if there is one.
    pub label: Option<PathBuf>,
    /// The patient, if the dataset tells.
    pub patient: Option<String>,
}

/// A dataset whose declaration fits what is there.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    name: &'a str,
    config: &'a DatasetConfig,
    root: PathBuf,
    list: Option<DatasetList>,
    regions: Regions,
}

/// Whether a dataset can be called so. The name of a case is DATASET__CASE, and must not be readable in two ways.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    plain && !name.is_empty() && !name.contains("__") && !name.ends_with('_')
}

impl DatasetConfig {
    /// Refuses what cannot be right, whatever the dataset.
    ///
    /// # Errors
    /// Names the dataset and the field.
    pub fn check(&self, name: &str, classes: &Classes) -> Result<(), DatasetError> {
        self.check_fields(name, classes).map_err(|problem| problem.of(name))
    }

    fn check_fields(&self, name: &str, classes: &Classes) -> Result<(), Problem> {
        if !is_name(name) {
            return Err(Problem::Name);
        }
        match &self.layout {
            Layout::Folders(folders) if folders.images.is_empty() => return Err(Problem::NoImages),
            Layout::Pattern(pattern) => drop(Templates::of(pattern)?),
            Layout::Folders(_) | Layout::Nnunet(_) => {}
        }
        let template = self.patient_template()?;
        if template.is_some() && matches!(&self.layout, Layout::Pattern(Pattern { images, .. }) if images.contains("{patient}")) {
            let reason = "tells the patient, and `layout: pattern: images` does so too; keep one of the two";
            return Err(Problem::Template { field: "patient", template: self.patient.clone().unwrap_or_default(), reason });
        }
        self.split.iter().try_for_each(|split| split.check()).map_err(Problem::Split)?;
        self.check_values(classes)
    }

    fn check_values(&self, classes: &Classes) -> Result<(), Problem> {
        meaning::check_keys(classes, self)?;
        sides::check(self)?;
        if self.declares_no_label_maps() && meaning::marks(self).next().is_some() {
            return Err(Problem::NothingToMean);
        }
        let is_listed = matches!(self.layout, Layout::Nnunet(_));
        if !is_listed || meaning::is_static(self) {
            meaning::regions(classes, self, None)?;
        }
        Ok(())
    }

    /// Whether the layout says that there are none.
    fn declares_no_label_maps(&self) -> bool {
        match &self.layout {
            Layout::Folders(folders) => folders.labels.is_none() && folders.corrected_labels.is_none(),
            Layout::Pattern(pattern) => pattern.labels.is_none(),
            Layout::Nnunet(_) => false,
        }
    }

    fn patient_template(&self) -> Result<Option<Template>, Problem> {
        let Some(text) = &self.patient else { return Ok(None) };
        let failed = |reason| Problem::Template { field: "patient", template: text.clone(), reason };
        let template = Template::parse(text).map_err(failed)?;
        if template.depth() != 1 || template.names_case() || !template.names_patient() {
            return Err(failed("does not tell a patient from the name of a case; write one such as `{patient}_*`"));
        }
        Ok(Some(template))
    }
}

impl<'a> Source<'a> {
    /// Reads what the dataset at `root` says of itself. Opens no scan.
    ///
    /// # Errors
    /// When declaration and dataset do not fit together.
    pub fn open(name: &'a str, config: &'a DatasetConfig, root: &Path, classes: &Classes) -> Result<Self, DatasetError> {
        let opened = || {
            let list = matches!(config.layout, Layout::Nnunet(_)).then(|| DatasetList::read(root)).transpose()?;
            let has_label_maps = match &config.layout {
                Layout::Nnunet(_) => match list.as_ref().and_then(|list| list.files.as_ref()) {
                    Some(files) => files.values().any(|files| files.label.is_some()),
                    None => root.join(LABELS).is_dir(),
                },
                Layout::Folders(_) | Layout::Pattern(_) => !config.declares_no_label_maps(),
            };
            if let (Layout::Nnunet(Nnunet { unlabeled: false }), Some(list), false) = (&config.layout, &list, has_label_maps)
                && !list.labels.is_empty()
            {
                return Err(Problem::NoLabelMaps(root.join(LABELS)));
            }
            let regions = if has_label_maps { meaning::regions(classes, config, list.as_ref())? } else { Regions::default() };
            Ok(Self { name, config, root: root.to_owned(), list, regions })
        };
        opened().map_err(|problem: Problem| problem.of(name))
    }

    /// The name that it is declared under.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the values of its label maps mean.
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// All cases that have one image, by name, and what else lies in the folders.
    ///
    /// # Errors
    /// When a folder cannot be listed, or has nothing. What is wrong with a file costs its case.
    pub fn cases(&self) -> Result<(Vec<CaseFiles>, Aside), DatasetError> {
        let gathered = || {
            let found = match &self.config.layout {
                Layout::Folders(folders) => FolderFiles::of(folders).gather(&self.root)?,
                Layout::Nnunet(layout) => self.nnunet(*layout)?,
                Layout::Pattern(pattern) => Templates::of(pattern)?.gather(&self.root)?,
            };
            let (mut cases, mut aside) = found.cases();
            if let Some(template) = self.config.patient_template()? {
                cases.retain_mut(|case| self.tell_patient(&template, case, &mut aside));
            }
            Ok((cases, aside))
        };
        gathered().map_err(|problem: Problem| problem.of(self.name))
    }

    fn nnunet(&self, layout: Nnunet) -> Result<Found, Problem> {
        let list = self.list.clone().unwrap_or_default();
        let is_labelled = !self.regions.classes().is_empty();
        if let Some(files) = &list.files {
            let remedy = "list the label map, or say `layout: {nnunet: {unlabeled: true}}` to take such images as unlabelled cases";
            return Ok(files::listed(&self.root, files, (!layout.unlabeled && is_labelled).then_some(remedy)));
        }
        let labels = self.root.join(LABELS).is_dir().then(|| PathBuf::from(LABELS));
        let mut images = vec![PathBuf::from(IMAGES)];
        if layout.unlabeled && self.root.join(TEST_IMAGES).is_dir() {
            images.push(TEST_IMAGES.into());
        }
        let takes_unlabeled = layout.unlabeled || labels.is_none();
        let remedy = "add the label map, or say `layout: {nnunet: {unlabeled: true}}` to take such images as unlabelled cases";
        let files =
            FolderFiles { images, labels, corrected_labels: None, lone_image: (!takes_unlabeled).then_some(remedy), list: Some(list) };
        files.gather(&self.root)
    }

    /// Whether the name of a case tells its patient; a finding if not.
    fn tell_patient(&self, template: &Template, case: &mut CaseFiles, aside: &mut Aside) -> bool {
        let readings: Vec<String> = template.readings(&[&case.case]).into_iter().filter_map(|names| names.patient).collect();
        if let [patient] = &readings[..] {
            case.patient = Some(patient.clone());
            return true;
        }
        let found = match &readings[..] {
            [] => "a name that does not tell the patient".to_owned(),
            several => format!("a name that tells several patients: {}", several.join(", ")),
        };
        aside.left_out.push(LeftOut {
            case: case.case.clone(),
            file: case.image.clone(),
            found,
            expected: format!("a name of the form {}", self.config.patient.as_deref().unwrap_or_default()),
            remedy: "rename the files, or correct `patient` of the dataset".into(),
        });
        false
    }
}
