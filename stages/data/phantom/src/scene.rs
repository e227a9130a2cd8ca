//! A patient as parts in order of precedence, and what a scanner sees at one place of it.

use labels::BACKGROUND;
use labels::flare23::TUMOR;

use crate::anatomy;
use crate::body::Trunk;
use crate::deform::{Field, displacement, texture};
use crate::draw::Draw;
use crate::geometry::{Matrix, Point, add, multiply, rotation, transposed};
use crate::shape::{Bounds, Shape};
use crate::tumor::{self, Tumors};

/// How a part attenuates X-rays, in HU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tissue {
    rim_hu: f32,
    rim_mm: f32,
    core_hu: f32,
    /// Deviation of a coarse texture.
    pub(crate) texture_hu: f32,
    /// Gas collects in the core in front of this y: patients lie on their backs.
    pub(crate) gas_above_y_mm: Option<f32>,
}

const GAS_HU: f32 = -900.0;
/// The HU of air around the patient.
pub(crate) const AIR_HU: f32 = -1000.0;

impl Tissue {
    pub(crate) fn uniform(hu: f32) -> Self {
        Self::layered(hu, 0.0, hu)
    }

    /// A rim of `rim_mm` around a core.
    pub(crate) fn layered(rim_hu: f32, rim_mm: f32, core_hu: f32) -> Self {
        Self { rim_hu, rim_mm, core_hu, texture_hu: 0.0, gas_above_y_mm: None }
    }

    fn hu(&self, p: Point, depth_mm: f32, texture: &Field<1>) -> f32 {
        if depth_mm < self.rim_mm {
            return self.rim_hu;
        }
        if self.gas_above_y_mm.is_some_and(|level| p[1] > level) {
            return GAS_HU;
        }
        let mottle = if self.texture_hu > 0.0 { self.texture_hu * texture.at(p)[0] } else { 0.0 };
        self.core_hu + mottle
    }
}

/// A solid of one tissue.
pub(crate) struct Part {
    /// The label in the truth; 0 for what FLARE does not label.
    pub(crate) label: u8,
    pub(crate) shape: Shape,
    pub(crate) bounds: Bounds,
    tissue: Tissue,
}

impl Part {
    /// A part with a label.
    pub(crate) fn organ(label: u8, shape: Shape, tissue: Tissue) -> Self {
        Self { label, bounds: shape.bounds(), shape, tissue }
    }

    /// A part without a label.
    pub(crate) fn plain(shape: Shape, tissue: Tissue) -> Self {
        Self::organ(BACKGROUND, shape, tissue)
    }
}

/// The patient's size and position on the table: `scanner = turn · (size ∘ standard) + shift`, in mm.
pub(crate) struct Pose {
    pub(crate) size: Point,
    turn: Matrix,
    turn_back: Matrix,
    shift: Point,
}

impl Pose {
    fn draw(draw: &mut Draw, half_width_mm: f32, body_width_mm: [f32; 2], variation: f32) -> Self {
        let scale = draw.between(body_width_mm) / (2.0 * half_width_mm);
        // Wide bodies are less than proportionally tall.
        let size = [scale, scale * draw.factor(0.04 * variation), scale.sqrt() * draw.factor(0.04 * variation)];
        let turn = rotation(draw.normal_point(3.0 * variation));
        Self { size, turn_back: transposed(&turn), turn, shift: draw.normal_point(5.0 * variation) }
    }

    /// From the standard trunk to the scanner.
    pub(crate) fn place(&self, p: Point) -> Point {
        add(multiply(&self.turn, [0, 1, 2].map(|i| p[i] * self.size[i])), self.shift)
    }

    fn standard(&self, p: Point) -> Point {
        let turned = multiply(&self.turn_back, [0, 1, 2].map(|i| p[i] - self.shift[i]));
        [0, 1, 2].map(|i| turned[i] / self.size[i])
    }

    /// The cube root of the change of volume.
    pub(crate) fn mean_scale(&self) -> f32 {
        self.size.iter().product::<f32>().cbrt()
    }
}

/// What chance and purpose decide about a patient.
pub(crate) struct Patient {
    pub(crate) body_width_mm: [f32; 2],
    pub(crate) variation: f32,
    pub(crate) tumors: Tumors,
    /// The heights of the standard trunk that will be scanned.
    pub(crate) z_mm: [f32; 2],
}

/// What a scanner sees at a place.
pub(crate) struct Seen {
    pub(crate) label: u8,
    /// The label without tumors.
    pub(crate) organ: u8,
    pub(crate) hu: f32,
}

/// One patient.
pub(crate) struct Scene {
    parts: Vec<Part>,
    pub(crate) pose: Pose,
    pub(crate) half_size_mm: [f32; 2],
    pub(crate) tumors: Vec<tumor::Description>,
    displacement: Field<3>,
    texture: Field<1>,
}

impl Scene {
    /// Draws a patient. `anatomy` and `tumor_draw` are apart, so that a patient has the same body with and without tumors.
    pub(crate) fn draw(anatomy: &mut Draw, tumor_draw: &mut Draw, patient: &Patient) -> Self {
        let variation = patient.variation;
        let trunk = Trunk::draw(anatomy, variation);
        let pose = Pose::draw(anatomy, trunk.half_size_mm[0], patient.body_width_mm, variation);
        let organs = anatomy::organs(anatomy, &trunk, variation);
        let (mut parts, tumors) = tumor::tumors(tumor_draw, patient.tumors, &trunk, &organs, patient.z_mm, pose.mean_scale());
        parts.extend(organs);
        parts.extend(trunk.parts(anatomy));
        let displacement = displacement(anatomy, 6.0 * variation);
        Self { parts, pose, half_size_mm: trunk.half_size_mm, tumors, displacement, texture: texture(anatomy) }
    }

    /// What is at a place of the scanner, in mm; nothing outside the body.
    pub(crate) fn at(&self, scanner: Point) -> Option<Seen> {
        let standard = self.pose.standard(scanner);
        let p = add(standard, self.displacement.at(standard));
        let depth = |part: &Part| {
            let distance = if part.bounds.contains(p) { part.shape.distance(p) } else { f32::INFINITY };
            (distance < 0.0).then_some(-distance)
        };
        let mut parts = self.parts.iter().filter_map(|part| Some((part, depth(part)?)));
        let (part, depth_mm) = parts.next()?;
        let organ = match part.label {
            TUMOR => parts.map(|(part, _)| part.label).find(|&label| label != TUMOR).unwrap_or(BACKGROUND),
            label => label,
        };
        Some(Seen { label: part.label, organ, hu: part.tissue.hu(p, depth_mm, &self.texture) })
    }
}
