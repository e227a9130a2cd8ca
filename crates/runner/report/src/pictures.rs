//! Good and bad cases as pictures, as in the paper's Fig. 3.

use std::path::PathBuf;

use anyhow::{Context, Result};
use maud::{Markup, html};
use pipeline::Snapshot;

use crate::cases::{self, Case, ends};
use crate::html::{Section, badge, image, note};
use crate::models::Scored;

/// As many pictures as a page can bear, shared by its nodes, and as many bytes of them.
const MOST_PICTURES: usize = 12;
const MOST_BYTES: u64 = 12 << 20;

pub(crate) fn section(seen: &Snapshot<'_>, models: &[Scored]) -> Result<Option<Section>> {
    let mut parts = Vec::new();
    let (mut n_shown, mut n_left, mut bytes) = (0, 0, 0);
    let n_nodes = models.iter().filter(|scored| !is_part_of_another(scored, models)).count().max(1);
    for scored in models.iter().filter(|scored| !is_part_of_another(scored, models)) {
        let pictures = pictures(scored)?;
        let Some(model) = scored.official.last().filter(|_| !pictures.is_empty()) else { continue };
        let groups: Vec<String> = model.groups.iter().map(|group| group.group.words()).collect();
        let lowest = groups.first().map_or("", String::as_str);
        parts.push(html! {
            h3 {
                "Fig. 3. Cases of " code { (scored.node) } " "
                small { "ranked by the " (lowest) " of " (model.model) ", plain rules" }
            }
        });
        let (pictures, left) = ends(pictures, (MOST_PICTURES / n_nodes).max(2));
        n_left += left;
        for picture in pictures {
            let size = std::fs::metadata(&picture.path).with_context(|| format!("cannot read {}", picture.path.display()))?.len();
            if bytes + size > MOST_BYTES {
                n_left += 1;
                continue;
            }
            (n_shown, bytes) = (n_shown + 1, bytes + size);
            parts.push(figure(&picture, &groups)?);
        }
    }
    let body = html! {
        @for part in &parts { (part) }
        @if n_left > 0 {
            (note(&html! {
                (n_left) " more pictures lie in the folders " code { "pictures" } " of " (seen.store.results().display()) "."
            }))
        }
    };
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

fn figure(picture: &Picture, groups: &[String]) -> Result<Markup> {
    let bytes = std::fs::read(&picture.path).with_context(|| format!("cannot read {}", picture.path.display()))?;
    let Picture { case, good, .. } = picture;
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let reached = groups.iter().zip(&case.groups).map(|(group, dsc)| format!("{group} {}", percent(*dsc)));
    let reached = reached.collect::<Vec<_>>().join(", ");
    Ok(html! {
        figure {
            figcaption { (badge(if *good { "good" } else { "bad" })) " " b { (case.name) } " " (reached) }
            (image(&format!("{}: the scan, the truth, and what each model found", case.name), "image/png", &bytes))
        }
    })
}
