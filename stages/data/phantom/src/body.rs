//! What surrounds the organs: trunk, lungs, heart, bones, muscles and bowel. None of it carries a label.

use crate::draw::Draw;
use crate::scene::{Part, Tissue};
use crate::shape::{Shape, inset};

/// Half width and half depth of the inside of the trunk, in mm.
const CAVITY_MM: [f32; 2] = [138.0, 86.0];
const WALL_MM: f32 = 11.0;
const SECTION_EXPONENT: f32 = 2.3;
const FAT_HU: f32 = -100.0;
const MUSCLE_HU: f32 = 55.0;

/// The shapes that bound everything else.
pub(crate) struct Trunk {
    /// The inside of the abdominal wall and ribs.
    pub(crate) cavity: Shape,
    /// The outside of the wall's muscles.
    pub(crate) wall: Shape,
    /// The skin.
    pub(crate) skin: Shape,
    /// What lies under the diaphragm's right dome, left dome and middle.
    pub(crate) domes: [Shape; 3],
    /// The line of the vertebral bodies.
    pub(crate) spine: Shape,
    /// Half width and half depth of the whole trunk, in mm.
    pub(crate) half_size_mm: [f32; 2],
}

impl Trunk {
    pub(crate) fn draw(draw: &mut Draw, variation: f32) -> Self {
        let fat_mm = 14.0 + 4.0 * variation * draw.normal();
        let column = |grown_mm: f32| Shape::Column { centre: [0.0; 2], radii: CAVITY_MM.map(|r| r + grown_mm), exponent: SECTION_EXPONENT };
        let lift = 5.0 * variation * draw.normal();
        let dome = |x: f32, radii: [f32; 3]| Shape::Dome { centre: [x, 2.0, 20.0 + lift], radii };
        Self {
            cavity: column(0.0),
            wall: column(WALL_MM),
            skin: column(WALL_MM + fat_mm),
            domes: [dome(68.0, [95.0, 98.0, 82.0]), dome(-68.0, [95.0, 98.0, 75.0]), dome(0.0, [90.0, 105.0, 62.0])],
            spine: Shape::tube(&[spine(-240.0, 22.0), spine(-120.0, 22.0), spine(0.0, 21.0), spine(120.0, 19.0), spine(240.0, 18.0)]),
            half_size_mm: CAVITY_MM.map(|r| r + WALL_MM + fat_mm),
        }
    }

    /// Unlabelled parts, the one that wins an overlap first.
    pub(crate) fn parts(&self, draw: &mut Draw) -> Vec<Part> {
        let mut parts = self.vertebrae();
        parts.extend(self.ribs());
        parts.push(self.heart());
        parts.extend(self.bowel(draw));
        parts.extend(self.muscles());
        parts.push(self.lungs());
        let domes = Shape::Union { shapes: self.domes.to_vec(), blend_mm: 8.0 };
        let below_diaphragm = Shape::Common { shapes: vec![domes, self.cavity.clone()] };
        parts.push(Part::plain(below_diaphragm, Tissue::layered(MUSCLE_HU, 3.0, FAT_HU)));
        parts.push(Part::plain(self.cavity.clone(), Tissue::uniform(FAT_HU)));
        parts.push(Part::plain(self.wall.clone(), Tissue::uniform(MUSCLE_HU)));
        parts.push(Part::plain(self.skin.clone(), Tissue::layered(30.0, 2.5, FAT_HU)));
        parts
    }

    fn vertebrae(&self) -> Vec<Part> {
        const PITCH_MM: f32 = 34.0;
        let mut parts = Vec::new();
        let canal = Shape::tube(&[canal(-240.0), canal(0.0), canal(240.0)]);
        parts.push(Part::plain(canal.clone(), Tissue::uniform(25.0)));
        let heights = || (-6..=6i8).map(|i| f32::from(i) * PITCH_MM);
        for z in heights() {
            let [x, y, ..] = spine(z, 0.0);
            let disc = Shape::ellipsoid([x, y, z], [21.5, 21.5, 5.0], [0.0; 3]);
            parts.push(Part::plain(disc, Tissue::uniform(85.0)));
        }
        parts.push(Part::plain(self.spine.clone(), Tissue::layered(420.0, 3.5, 210.0)));
        for z in heights().map(|z| z + PITCH_MM / 2.0) {
            let y = spine(z, 0.0)[1];
            let process =
                |to: [f32; 4]| Part::plain(Shape::tube(&[[to[0] * 0.25, y - 24.0, z, to[3]], to]), Tissue::layered(480.0, 2.0, 300.0));
            parts.push(process([0.0, y - 48.0, z - 12.0, 5.0]));
            parts.push(process([38.0, y - 26.0, z, 4.5]));
            parts.push(process([-38.0, y - 26.0, z, 4.5]));
        }
        parts
    }

    /// Ribs run in the wall, from the spine round to the front and downwards; the lowest are short.
    fn ribs(&self) -> Vec<Part> {
        let [rx, ry] = CAVITY_MM.map(|r| r + WALL_MM / 2.0);
        let rib = |side: f32, level: u8| {
            let top = 215.0 - 27.0 * f32::from(level);
            let end_deg = if level >= 7 { 30.0 - 35.0 * f32::from(level - 6) } else { 62.0 };
            let controls: Vec<[f32; 4]> = (0..=8u8)
                .map(|i| {
                    let t = f32::from(i) / 8.0;
                    let (sin, cos) = (-78.0 + (end_deg + 78.0) * t).to_radians().sin_cos();
                    // Points on the superellipse of the trunk, so that ribs stay within the wall.
                    let radius = (cos.abs().powf(SECTION_EXPONENT) + sin.abs().powf(SECTION_EXPONENT)).powf(-SECTION_EXPONENT.recip());
                    [side * rx * radius * cos, ry * radius * sin, top - 62.0 * t * (end_deg + 78.0) / 140.0, 5.0]
                })
                .collect();
            Part::plain(Shape::tube(&controls), Tissue::layered(560.0, 1.8, 260.0))
        };
        (0..9u8).flat_map(|level| [rib(1.0, level), rib(-1.0, level)]).collect()
    }

    fn heart(&self) -> Part {
        let shape = Shape::ellipsoid([-22.0, 26.0, 136.0], [54.0, 44.0, 52.0], [0.0, 0.0, 20.0]);
        Part::plain(Shape::Common { shapes: vec![shape, inset(&self.cavity, 4.0)] }, Tissue::layered(105.0, 10.0, 190.0))
    }

    fn muscles(&self) -> Vec<Part> {
        let both = |controls: &[[f32; 4]]| {
            [1.0, -1.0].map(|side| {
                let sided: Vec<[f32; 4]> = controls.iter().map(|c| [side * c[0], c[1], c[2], c[3]]).collect();
                Part::plain(Shape::tube(&sided), Tissue::uniform(MUSCLE_HU))
            })
        };
        let psoas = both(&[[26.0, -52.0, 10.0, 7.0], [34.0, -48.0, -60.0, 15.0], [48.0, -38.0, -160.0, 21.0], [54.0, -30.0, -240.0, 21.0]]);
        let erector = both(&[[30.0, -86.0, 240.0, 15.0], [34.0, -86.0, 0.0, 20.0], [34.0, -86.0, -240.0, 22.0]]);
        let quadratus = both(&[[62.0, -68.0, -20.0, 7.0], [74.0, -66.0, -160.0, 12.0]]);
        let crura = both(&[[9.0, -32.0, -30.0, 4.0], [17.0, -30.0, 40.0, 5.0], [22.0, -30.0, 70.0, 4.0]]);
        psoas.into_iter().chain(erector).chain(quadratus).chain(crura).collect()
    }

    /// The chest above the diaphragm, less the mediastinum.
    fn lungs(&self) -> Part {
        let mediastinum = Shape::tube(&[[-4.0, -30.0, 30.0, 30.0], [-6.0, -20.0, 100.0, 34.0], [-6.0, -6.0, 240.0, 36.0]]);
        let not_lung = Shape::Union { shapes: self.domes.iter().cloned().chain([mediastinum]).collect(), blend_mm: 6.0 };
        let mut tissue = Tissue::uniform(-820.0);
        tissue.texture_hu = 35.0;
        Part::plain(Shape::Without { kept: inset(&self.cavity, 2.0).into(), removed: not_lung.into() }, tissue)
    }

    /// Colon along the flanks and loops of small bowel in front and below; some hold gas.
    fn bowel(&self, draw: &mut Draw) -> Vec<Part> {
        let mut loops: Vec<Shape> = [1.0, -1.0]
            .into_iter()
            .map(|side| {
                let at = |z: f32, draw: &mut Draw| {
                    [side * draw.between([100.0, 110.0]), draw.between([0.0, 20.0]), z, draw.between([17.0, 21.0])]
                };
                Shape::tube(&[at(-220.0, draw), at(-130.0, draw), at(-90.0, draw), at(-62.0, draw)])
            })
            .collect();
        loops.push(Shape::tube(&[
            [95.0, 30.0, -62.0, 17.0],
            [40.0, draw.between([58.0, 64.0]), -70.0, 15.0],
            [-40.0, draw.between([58.0, 64.0]), -62.0, 15.0],
            [-98.0, 20.0, -30.0, 15.0],
        ]));
        for _ in 0..16 {
            let from = [draw.between([-80.0, 80.0]), draw.between([5.0, 60.0]), draw.between([-210.0, -88.0])];
            let radius = draw.between([10.0, 14.0]);
            let step = |from: [f32; 4], draw: &mut Draw| {
                let [dx, dy, dz] = draw.normal_point(26.0);
                [(from[0] + dx).clamp(-85.0, 85.0), (from[1] + dy).clamp(0.0, 62.0), (from[2] + dz).min(-88.0), radius]
            };
            let first = [from[0], from[1], from[2], radius];
            let second = step(first, draw);
            let third = step(second, draw);
            loops.push(Shape::tube(&[first, second, third]));
        }
        loops
            .into_iter()
            .map(|shape| {
                let mut tissue = Tissue::layered(70.0, 2.5, draw.between([5.0, 25.0]));
                tissue.gas_above_y_mm = draw.chance(0.4).then(|| draw.between([15.0, 60.0]));
                Part::plain(Shape::Common { shapes: vec![shape, inset(&self.cavity, 3.0)] }, tissue)
            })
            .collect()
    }
}

/// A point on the line of the vertebral bodies at height `z`, which bends forwards at the waist.
fn spine(z: f32, radius: f32) -> [f32; 4] {
    [0.0, -56.0 - 10.0 * (z / 150.0).powi(2).min(1.5), z, radius]
}

fn canal(z: f32) -> [f32; 4] {
    let [x, y, ..] = spine(z, 0.0);
    [x, y - 26.0, z, 8.0]
}
