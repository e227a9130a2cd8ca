//! Good and bad cases as pictures, as in the paper's Fig. 3.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pipeline::Snapshot;

use crate::cases::{self, Case, ends};
use crate::html::{Section, data_uri, escaped};
use crate::models::Scored;

/// As many pictures as a page can bear, shared by its nodes, and as many bytes of them.
const MOST_PICTURES: usize = 12;
const MOST_BYTES: u64 = 12 << 20;

pub(crate) fn section(seen: &Snapshot<'_>, models: &[Scored]) -> Result<Option<Section>> {
    let mut body = String::new();
    let (mut n_shown, mut n_left, mut bytes) = (0, 0, 0);
    let n_nodes = models.iter().filter(|scored| !is_part_of_another(scored, models)).count().max(1);
    for scored in models.iter().filter(|scored| !is_part_of_another(scored, models)) {
        let pictures = pictures(scored)?;
        if pictures.is_empty() {
            continue;
        }
        let model = scored.official.last().map_or("", |summary| summary.model.as_str());
        let groups: Vec<String> =
            scored.official.last().into_iter().flat_map(|model| &model.groups).map(|group| group.group.words()).collect();
        let _ = writeln!(
            body,
            "<h3>Fig. 3. Cases of <code>{}</code> <small>ranked by the {} of {}, plain rules</small></h3>",
            escaped(&scored.node),
            escaped(groups.first().map_or("", String::as_str)),
            escaped(model)
        );
        let (pictures, left) = ends(pictures, (MOST_PICTURES / n_nodes).max(2));
        n_left += left;
        for picture in pictures {
            let size = std::fs::metadata(&picture.path).with_context(|| format!("cannot read {}", picture.path.display()))?.len();
            if bytes + size > MOST_BYTES {
                n_left += 1;
                continue;
            }
            (n_shown, bytes) = (n_shown + 1, bytes + size);
            body.push_str(&figure(&picture, &groups)?);
        }
    }
    if n_left > 0 {
        let _ = writeln!(
            body,
            "<p class=\"note\">{n_left} more pictures lie in the folders <code>pictures</code> of {}.</p>",
            escaped(&seen.store.results().display().to_string())
        );
    }
    Ok((n_shown > 0).then(|| Section { id: "cases", title: "Cases".into(), body }))
}

/// Whether another node shows all of these models, and more.
fn is_part_of_another(scored: &Scored, all: &[Scored]) -> bool {
    let shows = |other: &Scored, model: &str| other.official.iter().any(|summary| summary.model == model);
    all.iter()
        .any(|other| other.official.len() > scored.official.len() && scored.official.iter().all(|summary| shows(other, &summary.model)))
}

struct Picture {
    path: PathBuf,
    case: Case,
    good: bool,
}

/// The pictures of a node, the best case first.
fn pictures(scored: &Scored) -> Result<Vec<Picture>> {
    let Some(model) = scored.official.last() else { return Ok(Vec::new()) };
    let cases = cases::read(&scored.folder.join("cases").join(format!("{}.plain.csv", model.model)), model)?;
    let n_cases = cases.len();
    let of_case = |(rank, case): (usize, Case)| {
        let path = scored.folder.join("pictures").join(format!("{}.png", case.name));
        path.is_file().then_some(Picture { path, case, good: 2 * rank < n_cases })
    };
    Ok(cases.into_iter().enumerate().filter_map(of_case).collect())
}

fn figure(picture: &Picture, groups: &[String]) -> Result<String> {
    let bytes = std::fs::read(&picture.path).with_context(|| format!("cannot read {}", picture.path.display()))?;
    let Picture { case, good, .. } = picture;
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let reached = |(group, dsc): (&String, &Option<f64>)| format!("{} {}", escaped(group), percent(*dsc));
    let reached = groups.iter().zip(&case.groups).map(reached).collect::<Vec<_>>().join(", ");
    let (name, kind) = (escaped(&case.name), if *good { "good" } else { "bad" });
    Ok(format!(
        "<figure>\n<figcaption><span class=\"badge {kind}\">{kind}</span> <b>{name}</b> {reached}</figcaption>\n\
         <img alt=\"{name}: the scan, the truth, and what each model found\" loading=\"lazy\" src=\"{}\"/>\n</figure>\n",
        data_uri("image/png", &bytes)
    ))
}
