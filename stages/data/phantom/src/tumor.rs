//! Tumors: where they grow, how large they are and what they look like.

use labels::flare23;
use serde::{Deserialize, Serialize};

use crate::body::Trunk;
use crate::draw::Draw;
use crate::geometry::{Point, add, length, scaled, sub};
use crate::scene::{Part, Tissue};
use crate::shape::{Shape, inset};

/// Nominal diameters in mm; the networks must be able to see them at 3 to 5 mm voxels.
const DIAMETER_MM: [f32; 2] = [24.0, 50.0];
/// Kidneys and pancreas hold no more than this; larger ones would replace the organ.
const LARGEST_IN_SMALL_HOST_MM: f32 = 32.0;

/// A tumor as the case list describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    /// Key of the host organ, or `abdomen` for one in the fat between organs.
    pub(crate) host: String,
    /// Nominal diameter in mm, before the body's own deformation.
    pub(crate) diameter_mm: f32,
}

/// Which tumors a patient has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tumors {
    None,
    /// In liver, kidneys, pancreas, or between the organs.
    Anywhere,
    InKidneys,
}

impl Tumors {
    /// Where the next tumor shall start, and where if there is no room.
    fn draw(self, draw: &mut Draw) -> Option<[Host; 2]> {
        let kidneys = [Host::Kidney(2), Host::Kidney(13)];
        match self {
            Self::None => None,
            Self::Anywhere => Some([Host::draw(draw), Host::Liver]),
            Self::InKidneys if draw.chance(0.5) => Some(kidneys),
            Self::InKidneys => Some([kidneys[1], kidneys[0]]),
        }
    }
}

/// Where a tumor may start.
#[derive(Clone, Copy)]
enum Host {
    Liver,
    Kidney(u8),
    Pancreas,
    Abdomen,
}

impl Host {
    fn draw(draw: &mut Draw) -> Self {
        match draw.between([0.0, 1.0]) {
            v if v < 0.45 => Self::Liver,
            v if v < 0.55 => Self::Kidney(2),
            v if v < 0.65 => Self::Kidney(13),
            v if v < 0.78 => Self::Pancreas,
            _ => Self::Abdomen,
        }
    }

    fn label(self) -> Option<u8> {
        match self {
            Self::Liver => Some(1),
            Self::Kidney(label) => Some(label),
            Self::Pancreas => Some(4),
            Self::Abdomen => None,
        }
    }
}

/// Draws two to four tumors, if the patient has any, that lie in the scanned heights `z_mm` of the standard trunk.
///
/// `scale` is the size of the patient relative to the standard trunk.
pub(crate) fn tumors(
    draw: &mut Draw,
    tumors: Tumors,
    trunk: &Trunk,
    organs: &[Part],
    z_mm: [f32; 2],
    scale: f32,
) -> (Vec<Part>, Vec<Description>) {
    let classes = flare23::classes();
    let count = 2 + draw.below(3);
    let mut centres: Vec<(Point, f32)> = Vec::new();
    let mut described = Vec::new();
    let mut parts = Vec::new();
    for _ in 0..count {
        let Some(hosts) = tumors.draw(draw) else { break };
        let Some((host, centre, radius)) = place(draw, hosts, trunk, organs, &centres, z_mm, scale) else { continue };
        centres.push((centre, radius));
        described.push(Description {
            host: host.label().map_or_else(|| "abdomen".into(), |label| classes.key_of(label).into_owned()),
            diameter_mm: 2.0 * radius * scale,
        });
        parts.push(Part::organ(flare23::TUMOR, lump(draw, trunk, centre, radius), tissue(draw)));
    }
    (parts, described)
}

/// Tries places until one is free. The second host, mostly the liver, is tried last and with ever smaller tumors, so that a case
/// that needs a tumor gets one: a liver always has room for the smallest.
fn place(
    draw: &mut Draw,
    [wanted, last]: [Host; 2],
    trunk: &Trunk,
    organs: &[Part],
    others: &[(Point, f32)],
    z_mm: [f32; 2],
    scale: f32,
) -> Option<(Host, Point, f32)> {
    for attempt in 0..1200 {
        let host = if attempt < 300 { wanted } else { last };
        let largest = match host {
            Host::Kidney(_) | Host::Pancreas => LARGEST_IN_SMALL_HOST_MM,
            Host::Liver | Host::Abdomen if attempt < 600 => DIAMETER_MM[1],
            Host::Liver | Host::Abdomen => DIAMETER_MM[0] + 4.0,
        };
        let radius = draw.between([DIAMETER_MM[0], largest]) / 2.0 / scale;
        let centre = candidate(draw, host, organs, z_mm);
        let within = centre[2] - 0.8 * radius > z_mm[0] && centre[2] + 0.8 * radius < z_mm[1];
        let apart = others.iter().all(|(other, size)| length(sub(centre, *other)) > size + radius);
        if within && apart && suits(host, centre, radius, trunk, organs) {
            return Some((host, centre, radius));
        }
    }
    None
}

fn candidate(draw: &mut Draw, host: Host, organs: &[Part], z_mm: [f32; 2]) -> Point {
    let bounds = host.label().and_then(|label| organs.iter().find(|organ| organ.label == label)).map(|organ| organ.bounds);
    let (low, high) = bounds.map_or(([-110.0, -50.0, -100.0], [110.0, 70.0, 60.0]), |b| (b.low, b.high));
    let z = [low[2].max(z_mm[0]), high[2].min(z_mm[1])];
    [draw.between([low[0], high[0]]), draw.between([low[1], high[1]]), draw.between(z)]
}

/// Whether a tumor there belongs to its host and spares every other organ's core.
fn suits(host: Host, centre: Point, radius: f32, trunk: &Trunk, organs: &[Part]) -> bool {
    let spared = |organ: &Part| Some(organ.label) == host.label() || organ.shape.distance(centre) > 0.75 * radius;
    let rooted = match host.label().and_then(|label| organs.iter().find(|organ| organ.label == label)) {
        Some(organ) => {
            let depth = organ.shape.distance(centre);
            match host {
                Host::Liver => depth < -0.5 * radius,
                Host::Pancreas => depth < -0.2 * radius,
                // Exophytic: it bulges out of the kidney.
                Host::Kidney(_) | Host::Abdomen => depth.abs() < 0.4 * radius,
            }
        }
        None => true,
    };
    rooted
        && trunk.cavity.distance(centre) < -0.7 * radius
        && trunk.domes.iter().any(|dome| dome.distance(centre) < -0.7 * radius)
        && trunk.spine.distance(centre) > radius
        && organs.iter().all(spared)
}

/// A round mass with up to two lobules.
fn lump(draw: &mut Draw, trunk: &Trunk, centre: Point, radius: f32) -> Shape {
    let radii = [0, 1, 2].map(|_| radius * draw.between([0.88, 1.08]));
    let mut shapes = vec![Shape::ellipsoid(centre, radii, draw.normal_point(30.0))];
    for _ in 0..draw.below(3) {
        let direction = draw.normal_point(1.0);
        let offset = scaled(direction, 0.7 * radius / length(direction).max(0.1));
        shapes.push(Shape::ellipsoid(add(centre, offset), [0.5 * radius; 3], [0.0; 3]));
    }
    let mass = Shape::Union { shapes, blend_mm: 0.5 * radius };
    Shape::Common { shapes: vec![mass, inset(&trunk.cavity, 2.0)] }
}

/// A mottled, necrotic core within an enhancing rim, as many metastases show it: darker than every host, denser than
/// gallbladder and bowel contents, and no other shape has such a rim.
fn tissue(draw: &mut Draw) -> Tissue {
    let mut tissue = Tissue::layered(draw.between([165.0, 185.0]), 6.0, draw.between([30.0, 42.0]));
    tissue.texture_hu = 6.0;
    tissue
}
