//! The 13 organs of a trunk of standard size: their shapes, places and contrast.
//!
//! The origin lies in the middle of the trunk at the height of the renal hilum; x points to the patient's right,
//! y to the front, z to the head, in mm. Sizes are those of adults; small organs are drawn at the upper end of
//! the normal range, so that they survive voxels of 3 mm.

use crate::body::Trunk;
use crate::draw::Draw;
use crate::geometry::{Point, add};
use crate::scene::{Part, Tissue};
use crate::shape::{Shape, inset, moved};

const LIVER: u8 = 1;
const RIGHT_KIDNEY: u8 = 2;
const SPLEEN: u8 = 3;
const PANCREAS: u8 = 4;
const AORTA: u8 = 5;
const VENA_CAVA: u8 = 6;
const RIGHT_ADRENAL: u8 = 7;
const LEFT_ADRENAL: u8 = 8;
const GALLBLADDER: u8 = 9;
const ESOPHAGUS: u8 = 10;
const STOMACH: u8 = 11;
const DUODENUM: u8 = 12;
const LEFT_KIDNEY: u8 = 13;

/// Draws the organs of one patient, the one that wins an overlap first.
///
/// `variation` scales every deviation from the standard anatomy; 1 is a plausible population.
pub(crate) fn organs(draw: &mut Draw, trunk: &Trunk, variation: f32) -> Vec<Part> {
    let mut maker = Maker { draw, trunk, variation, phase: 0.0 };
    maker.phase = maker.draw.normal() * variation;
    vec![
        maker.aorta(),
        maker.vena_cava(),
        maker.right_adrenal(),
        maker.left_adrenal(),
        maker.kidney(RIGHT_KIDNEY, 1.0),
        maker.kidney(LEFT_KIDNEY, -1.0),
        maker.esophagus(),
        maker.gallbladder(),
        maker.pancreas(),
        maker.duodenum(),
        maker.spleen(),
        maker.stomach(),
        maker.liver(),
    ]
}

struct Maker<'a> {
    draw: &'a mut Draw,
    trunk: &'a Trunk,
    variation: f32,
    /// How late the scan is after the contrast agent, in deviations: arteries fade and veins fill.
    phase: f32,
}

impl Maker<'_> {
    fn shift(&mut self, sigma_mm: f32) -> Point {
        self.draw.normal_point(sigma_mm * self.variation)
    }

    fn size(&mut self, sigma: f32) -> f32 {
        self.draw.factor(sigma * self.variation)
    }

    fn tilt(&mut self, sigma_deg: f32) -> Point {
        self.draw.normal_point(sigma_deg * self.variation)
    }

    fn hu(&mut self, mean: f32, sigma: f32) -> f32 {
        mean + sigma * self.variation * self.draw.normal()
    }

    /// A tube whose every control point moves a little on its own.
    fn tube(&mut self, controls: &[[f32; 4]], shift_mm: f32, size: f32) -> Shape {
        let own: Vec<[f32; 4]> = controls
            .iter()
            .map(|c| {
                let [x, y, z] = add([c[0], c[1], c[2]], self.shift(shift_mm));
                [x, y, z, c[3] * size]
            })
            .collect();
        Shape::tube(&own)
    }

    fn aorta(&mut self) -> Part {
        let size = self.size(0.07);
        let shape = self.tube(
            &[
                [-7.0, -25.0, -118.0, 10.5],
                [-10.0, -23.0, -60.0, 11.0],
                [-12.0, -24.0, 0.0, 11.5],
                [-14.0, -27.0, 60.0, 12.5],
                [-18.0, -32.0, 110.0, 13.0],
                [-24.0, -38.0, 200.0, 13.5],
            ],
            1.5,
            size,
        );
        let hu = self.hu(280.0 - 20.0 * self.phase, 8.0);
        Part::organ(AORTA, shape, Tissue::uniform(hu))
    }

    fn vena_cava(&mut self) -> Part {
        let size = self.size(0.07);
        let shape = self.tube(
            &[
                [17.0, -26.0, -200.0, 11.0],
                [18.0, -25.0, -60.0, 11.5],
                [20.0, -22.0, 0.0, 12.0],
                [24.0, -16.0, 50.0, 12.5],
                [20.0, -6.0, 92.0, 13.0],
                [12.0, 8.0, 112.0, 13.0],
            ],
            1.5,
            size,
        );
        let hu = self.hu(165.0 + 12.0 * self.phase, 8.0);
        Part::organ(VENA_CAVA, shape, Tissue::uniform(hu))
    }

    /// Two limbs that meet in an apex behind the vena cava: a lambda when seen from above.
    fn right_adrenal(&mut self) -> Part {
        let (by, size) = (self.shift(1.5), self.size(0.06));
        let body = Shape::tube(&moved(&[[37.0, -32.0, 47.0, 5.6], [43.0, -38.0, 35.0, 6.2], [48.0, -42.0, 27.0, 5.0]], by, size));
        let limb = Shape::tube(&moved(&[[37.0, -33.0, 46.0, 5.2], [36.0, -42.0, 36.0, 5.2], [36.0, -49.0, 28.0, 4.6]], by, size));
        self.adrenal(RIGHT_ADRENAL, vec![body, limb])
    }

    fn left_adrenal(&mut self) -> Part {
        let (by, size) = (self.shift(1.5), self.size(0.06));
        let body = Shape::tube(&moved(&[[-37.0, -24.0, 44.0, 5.4], [-42.0, -32.0, 36.0, 6.2], [-48.0, -38.0, 30.0, 5.0]], by, size));
        let limb = Shape::tube(&moved(&[[-38.0, -25.0, 43.0, 5.2], [-34.0, -34.0, 35.0, 5.2], [-34.0, -42.0, 28.0, 4.6]], by, size));
        self.adrenal(LEFT_ADRENAL, vec![body, limb])
    }

    fn adrenal(&mut self, label: u8, shapes: Vec<Shape>) -> Part {
        let hu = self.hu(82.0, 5.0);
        Part::organ(label, Shape::Union { shapes, blend_mm: 4.0 }, Tissue::uniform(hu))
    }

    /// A bean: an ellipsoid with its upper pole leaning inwards, less the fat of the sinus. `side` is 1 for the right.
    fn kidney(&mut self, label: u8, side: f32) -> Part {
        let (shift, size, tilt) = (self.shift(3.0), self.size(0.06), self.tilt(4.0));
        let height = if side > 0.0 { -33.0 } else { -21.0 };
        let centre = add([side * 62.0, -42.0, height], shift);
        let radii = [27.0, 24.0, 51.0].map(|r| r * size);
        let body = Shape::ellipsoid(centre, radii, add([-6.0, side * -10.0, side * 15.0], tilt));
        let hilum = add(centre, [side * -22.0, 9.0, 0.0]);
        let sinus = Shape::ellipsoid(hilum, [17.0, 10.0, 19.0].map(|r| r * size), [0.0, 0.0, side * -25.0]);
        let cortex_hu = self.hu(205.0 - 8.0 * self.phase, 8.0);
        let medulla_hu = cortex_hu - 35.0 + 15.0 * self.phase.clamp(-1.0, 1.0);
        let shape = Shape::Without { kept: body.into(), removed: sinus.into() };
        Part::organ(label, shape, Tissue::layered(cortex_hu, 7.0, medulla_hu))
    }

    fn esophagus(&mut self) -> Part {
        let size = self.size(0.05);
        let shape = self.tube(
            &[
                [-5.0, -22.0, 200.0, 9.0],
                [-2.0, -12.0, 125.0, 9.5],
                [-8.0, -4.0, 92.0, 10.0],
                [-22.0, 4.0, 68.0, 10.0],
                [-36.0, 10.0, 58.0, 9.0],
            ],
            1.5,
            size,
        );
        let hu = self.hu(45.0, 4.0);
        Part::organ(ESOPHAGUS, shape, Tissue::uniform(hu))
    }

    fn gallbladder(&mut self) -> Part {
        let (shift, size, tilt) = (self.shift(4.0), self.size(0.10), self.tilt(10.0));
        let radii = [16.0, 18.0, 25.0].map(|r| r * size);
        let shape = Shape::ellipsoid(add([52.0, 46.0, -18.0], shift), radii, add([25.0, 0.0, 0.0], tilt));
        let hu = self.hu(8.0, 4.0);
        Part::organ(GALLBLADDER, shape, Tissue::uniform(hu))
    }

    fn pancreas(&mut self) -> Part {
        let size = self.size(0.07);
        let shape = self.tube(
            &[
                [32.0, 4.0, -42.0, 11.0],
                [34.0, 10.0, -20.0, 16.0],
                [14.0, 20.0, -4.0, 12.0],
                [-16.0, 19.0, 8.0, 13.0],
                [-46.0, 4.0, 18.0, 13.0],
                [-72.0, -6.0, 28.0, 11.0],
            ],
            2.5,
            size,
        );
        let hu = self.hu(98.0 - 4.0 * self.phase, 5.0);
        Part::organ(PANCREAS, shape, Tissue::uniform(hu))
    }

    /// The C around the head of the pancreas, from the pylorus to the left of the spine.
    fn duodenum(&mut self) -> Part {
        let size = self.size(0.06);
        let shape = self.tube(
            &[
                [28.0, 38.0, -6.0, 11.0],
                [48.0, 26.0, -6.0, 11.5],
                [59.0, 8.0, -28.0, 12.0],
                [48.0, 2.0, -58.0, 12.0],
                [14.0, 2.0, -68.0, 11.5],
                [-18.0, 6.0, -54.0, 11.0],
            ],
            2.5,
            size,
        );
        let hu = self.hu(65.0, 4.0);
        Part::organ(DUODENUM, shape, Tissue::uniform(hu))
    }

    fn spleen(&mut self) -> Part {
        let (shift, size, tilt) = (self.shift(4.0), self.size(0.08), self.tilt(5.0));
        let centre = add([-103.0, -26.0, 34.0], shift);
        let radii = [27.0, 46.0, 48.0].map(|r| r * size);
        let body = Shape::ellipsoid(centre, radii, add([-15.0, 0.0, -18.0], tilt));
        let hu = self.hu(135.0 - 4.0 * self.phase, 5.0);
        Part::organ(SPLEEN, self.under_diaphragm(body), Tissue::uniform(hu))
    }

    /// A J from the fundus below the left dome to the pylorus, with a wall, fluid, and often air in front.
    fn stomach(&mut self) -> Part {
        let size = self.size(0.08);
        let body = self.tube(
            &[
                [-56.0, 8.0, 58.0, 30.0],
                [-62.0, 24.0, 30.0, 31.0],
                [-46.0, 48.0, -2.0, 24.0],
                [-8.0, 56.0, -18.0, 18.0],
                [24.0, 44.0, -10.0, 13.0],
            ],
            3.0,
            size,
        );
        let fluid_hu = self.hu(30.0, 5.0);
        let mut tissue = Tissue::layered(75.0, 4.0, fluid_hu);
        if self.draw.chance(0.5) {
            tissue.gas_above_y_mm = Some(self.draw.between([48.0, 66.0]));
        }
        Part::organ(STOMACH, self.under_diaphragm(body), tissue)
    }

    fn liver(&mut self) -> Part {
        let (shift, size, tilt) = (self.shift(4.0), self.size(0.06), self.tilt(4.0));
        let right = Shape::ellipsoid(add([78.0, 4.0, 36.0], shift), [64.0, 70.0, 66.0].map(|r| r * size), add([0.0, 10.0, 0.0], tilt));
        let left_size = self.size(0.08);
        let left = Shape::ellipsoid(add([4.0, 44.0, 50.0], shift), [64.0, 32.0, 29.0].map(|r| r * left_size), add([0.0, 8.0, 8.0], tilt));
        let lobes = Shape::Union { shapes: vec![right, left], blend_mm: 20.0 };
        // The bare area: fat around the right kidney and adrenal gland, behind the vena cava.
        let retroperitoneum = Shape::ellipsoid([46.0, -50.0, 10.0], [34.0, 30.0, 58.0], [0.0, -12.0, 20.0]);
        let body = Shape::Without { kept: lobes.into(), removed: retroperitoneum.into() };
        let hu = self.hu(112.0 + 5.0 * self.phase, 5.0);
        let mut tissue = Tissue::uniform(hu);
        tissue.texture_hu = 3.0;
        Part::organ(LIVER, self.under_diaphragm(body), tissue)
    }

    /// Keeps a shape within the abdominal wall and below the domes.
    fn under_diaphragm(&self, shape: Shape) -> Shape {
        let domes = Shape::Union { shapes: self.trunk.domes.iter().map(|dome| inset(dome, 4.0)).collect(), blend_mm: 8.0 };
        Shape::Common { shapes: vec![shape, inset(&self.trunk.cavity, 1.5), domes] }
    }
}
