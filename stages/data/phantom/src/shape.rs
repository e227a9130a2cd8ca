//! Solid shapes as signed distances in mm: negative inside, positive outside.
//!
//! Distances are exact for round tubes and first-order near the surface for everything else, which is all that
//! rims and blends need.

use crate::geometry::{Matrix, Point, add, dot, length, lerp, multiply, sub, transposed};

/// An axis-parallel box in mm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) low: Point,
    pub(crate) high: Point,
}

impl Bounds {
    pub(crate) fn contains(&self, p: Point) -> bool {
        (0..3).all(|i| self.low[i] <= p[i] && p[i] <= self.high[i])
    }

    fn union(self, other: Self) -> Self {
        Self { low: [0, 1, 2].map(|i| self.low[i].min(other.low[i])), high: [0, 1, 2].map(|i| self.high[i].max(other.high[i])) }
    }

    fn grown(self, by_mm: f32) -> Self {
        Self { low: self.low.map(|v| v - by_mm), high: self.high.map(|v| v + by_mm) }
    }
}

/// One point on the centre line of a tube.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) at: Point,
    pub(crate) radius: f32,
}

/// A solid.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// An ellipsoid; `turn` maps offsets from the centre into its own axes.
    Ellipsoid { centre: Point, radii: Point, turn: Matrix },
    /// The upper half of an ellipsoid on top of an endless column: what lies under a dome of the diaphragm.
    Dome { centre: Point, radii: Point },
    /// An endless column along z with a superelliptic section, such as the trunk.
    Column { centre: [f32; 2], radii: [f32; 2], exponent: f32 },
    /// A round tube along a polyline, with rounded ends.
    Tube { nodes: Vec<Node> },
    /// The union of shapes, with seams filled over `blend_mm`.
    Union { shapes: Vec<Shape>, blend_mm: f32 },
    /// What all shapes share; the first gives the bounds.
    Common { shapes: Vec<Shape> },
    /// The first shape without the second.
    Without { kept: Box<Shape>, removed: Box<Shape> },
}

impl Shape {
    /// An ellipsoid turned by `angles_deg` about x, y and z.
    pub(crate) fn ellipsoid(centre: Point, radii: Point, angles_deg: Point) -> Self {
        Self::Ellipsoid { centre, radii, turn: transposed(&crate::geometry::rotation(angles_deg)) }
    }

    /// A tube along a smooth curve through `(x, y, z, radius)` in mm.
    pub(crate) fn tube(controls: &[[f32; 4]]) -> Self {
        Self::Tube { nodes: smooth_curve(controls) }
    }

    /// Signed distance of `p` in mm.
    pub(crate) fn distance(&self, p: Point) -> f32 {
        match self {
            Self::Ellipsoid { centre, radii, turn } => ellipsoid_distance(multiply(turn, sub(p, *centre)), *radii),
            Self::Dome { centre, radii } => {
                let offset = sub(p, *centre);
                ellipsoid_distance([offset[0], offset[1], offset[2].max(0.0)], *radii)
            }
            Self::Column { centre, radii, exponent } => {
                let [x, y] = [0, 1].map(|i| (p[i] - centre[i]) / radii[i]);
                let level = (x.abs().powf(*exponent) + y.abs().powf(*exponent)).powf(exponent.recip());
                // Scaling the point by 1/level puts it on the surface, straight towards the axis.
                (1.0 - level.max(1e-3).recip()) * (p[0] - centre[0]).hypot(p[1] - centre[1]).max(1e-3)
            }
            Self::Tube { nodes } => tube_distance(nodes, p),
            Self::Union { shapes, blend_mm } => {
                shapes.iter().map(|shape| shape.distance(p)).reduce(|a, b| smooth_min(a, b, *blend_mm)).unwrap_or(f32::INFINITY)
            }
            Self::Common { shapes } => shapes.iter().map(|shape| shape.distance(p)).fold(f32::NEG_INFINITY, f32::max),
            Self::Without { kept, removed } => kept.distance(p).max(-removed.distance(p)),
        }
    }

    /// A box around the shape. Columns and domes have no end and are bounded by the trunk alone.
    pub(crate) fn bounds(&self) -> Bounds {
        match self {
            Self::Ellipsoid { centre, radii, turn } => {
                // Half extents of a turned ellipsoid: norms of the rows of (axes in world) × radii.
                let axes = transposed(turn);
                let half = axes.map(|row| length([row[0] * radii[0], row[1] * radii[1], row[2] * radii[2]]));
                Bounds { low: sub(*centre, half), high: add(*centre, half) }
            }
            Self::Dome { centre, radii } => Bounds {
                low: [centre[0] - radii[0], centre[1] - radii[1], f32::NEG_INFINITY],
                high: [0, 1, 2].map(|i| centre[i] + radii[i]),
            },
            Self::Column { centre, radii, .. } => Bounds {
                low: [centre[0] - radii[0], centre[1] - radii[1], f32::NEG_INFINITY],
                high: [centre[0] + radii[0], centre[1] + radii[1], f32::INFINITY],
            },
            Self::Tube { nodes } => {
                joined(nodes.iter().map(|node| Bounds { low: node.at.map(|v| v - node.radius), high: node.at.map(|v| v + node.radius) }))
            }
            Self::Union { shapes, blend_mm } => joined(shapes.iter().map(Self::bounds)).grown(blend_mm / 4.0),
            Self::Common { shapes } => shapes.first().map_or(EMPTY, Self::bounds),
            Self::Without { kept, .. } => kept.bounds(),
        }
    }
}

const EMPTY: Bounds = Bounds { low: [f32::INFINITY; 3], high: [f32::NEG_INFINITY; 3] };

fn joined(boxes: impl Iterator<Item = Bounds>) -> Bounds {
    boxes.fold(EMPTY, Bounds::union)
}

/// First-order distance to an ellipsoid at the origin along the axes.
fn ellipsoid_distance(p: Point, radii: Point) -> f32 {
    let level = length([0, 1, 2].map(|i| p[i] / radii[i]));
    let slope = length([0, 1, 2].map(|i| p[i] / (radii[i] * radii[i])));
    if slope < 1e-6 {
        // At the centre the formula is 0/0; the nearest surface is one smallest radius away.
        return -radii[0].min(radii[1]).min(radii[2]);
    }
    level * (level - 1.0) / slope
}

fn tube_distance(nodes: &[Node], p: Point) -> f32 {
    let segment = |pair: &[Node]| {
        let (a, b) = (pair[0], pair[1]);
        let along = sub(b.at, a.at);
        let t = (dot(sub(p, a.at), along) / dot(along, along).max(1e-6)).clamp(0.0, 1.0);
        length(sub(p, lerp(a.at, b.at, t))) - (a.radius + (b.radius - a.radius) * t)
    };
    nodes.windows(2).map(segment).fold(f32::INFINITY, f32::min)
}

/// The minimum with a rounded seam where both are within `blend` of each other.
fn smooth_min(a: f32, b: f32, blend: f32) -> f32 {
    let overlap = (blend - (a - b).abs()).max(0.0);
    a.min(b) - if blend > 0.0 { overlap * overlap / (4.0 * blend) } else { 0.0 }
}

/// Catmull-Rom interpolation of control points, four steps to a span.
fn smooth_curve(controls: &[[f32; 4]]) -> Vec<Node> {
    const STEPS: usize = 4;
    let node = |v: [f32; 4]| Node { at: [v[0], v[1], v[2]], radius: v[3].max(0.5) };
    let last = controls.len().saturating_sub(1);
    let mut nodes = Vec::with_capacity(last * STEPS + 1);
    for i in 0..last {
        let [before, from, to, after] = [controls[i.saturating_sub(1)], controls[i], controls[i + 1], controls[(i + 2).min(last)]];
        for step in 0..STEPS {
            #[expect(clippy::cast_precision_loss, reason = "below STEPS")]
            let t = step as f32 / STEPS as f32;
            nodes.push(node([0, 1, 2, 3].map(|k| {
                let (m0, m1) = ((to[k] - before[k]) / 2.0, (after[k] - from[k]) / 2.0);
                let d = to[k] - from[k];
                from[k] + t * (m0 + t * ((3.0 * d - 2.0 * m0 - m1) + t * (m0 + m1 - 2.0 * d)))
            })));
        }
    }
    nodes.extend(controls.last().copied().map(node));
    nodes
}

/// The column shrunk by `by_mm` on every side.
pub(crate) fn inset(column: &Shape, by_mm: f32) -> Shape {
    match column {
        Shape::Column { centre, radii, exponent } => {
            Shape::Column { centre: *centre, radii: radii.map(|r| r - by_mm), exponent: *exponent }
        }
        Shape::Dome { centre, radii } => Shape::Dome { centre: *centre, radii: radii.map(|r| r - by_mm) },
        Shape::Ellipsoid { centre, radii, turn } => {
            Shape::Ellipsoid { centre: *centre, radii: radii.map(|r| (r - by_mm).max(0.5)), turn: *turn }
        }
        other => other.clone(),
    }
}

/// `points` of a curve moved by `by` and thickened by `factor`.
pub(crate) fn moved(points: &[[f32; 4]], by: Point, factor: f32) -> Vec<[f32; 4]> {
    points.iter().map(|p| [p[0] + by[0], p[1] + by[1], p[2] + by[2], p[3] * factor]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN_DEG: Point = [20.0, -35.0, 50.0];

    fn examples() -> Vec<Shape> {
        let ball = Shape::ellipsoid([5.0, -3.0, 2.0], [10.0; 3], TURN_DEG);
        let egg = Shape::ellipsoid([0.0; 3], [20.0, 8.0, 12.0], TURN_DEG);
        let tube = Shape::tube(&[[0.0, 0.0, 0.0, 4.0], [20.0, 10.0, 5.0, 6.0], [25.0, 30.0, -10.0, 3.0]]);
        let joined = Shape::Union { shapes: vec![ball.clone(), tube.clone()], blend_mm: 8.0 };
        let cut = Shape::Without { kept: egg.clone().into(), removed: ball.clone().into() };
        let shared = Shape::Common { shapes: vec![egg.clone(), ball.clone()] };
        vec![ball, egg, tube, joined, cut, shared]
    }

    fn places() -> impl Iterator<Item = Point> {
        (0..40_000u16).map(|i| [i % 40, i / 40 % 40, i / 1600].map(|k| f32::from(k) * 2.0 - 30.0))
    }

    #[test]
    fn everything_inside_a_shape_is_inside_its_box() {
        for shape in examples() {
            let bounds = shape.bounds();
            let inside: Vec<Point> = places().filter(|p| shape.distance(*p) < 0.0).collect();
            assert!(inside.len() > 10, "{shape:?} is hit by {} places only", inside.len());
            assert!(inside.iter().all(|p| bounds.contains(*p)), "{shape:?} leaves {bounds:?}");
        }
    }

    #[test]
    fn distances_to_balls_and_tubes_are_exact() {
        let ball = Shape::ellipsoid([5.0, 0.0, 0.0], [10.0; 3], TURN_DEG);
        assert!((ball.distance([5.0, 0.0, 13.0]) - 3.0).abs() < 1e-4);
        assert!((ball.distance([5.0, -6.0, 0.0]) + 4.0).abs() < 1e-4);
        assert!((ball.distance([5.0, 0.0, 0.0]) + 10.0).abs() < 1e-4);
        let tube = Shape::tube(&[[0.0, 0.0, -50.0, 4.0], [0.0, 0.0, 50.0, 4.0]]);
        assert!((tube.distance([0.0, 7.0, 11.0]) - 3.0).abs() < 1e-4);
        assert!((tube.distance([0.0, 0.0, 57.0]) - 3.0).abs() < 1e-4);
    }

    #[test]
    fn a_column_is_an_ellipse_that_never_ends() {
        let column = Shape::Column { centre: [1.0, 2.0], radii: [30.0, 20.0], exponent: 2.0 };
        for z in [-1e4, 0.0, 1e4] {
            assert!((column.distance([36.0, 2.0, z]) - 5.0).abs() < 1e-3);
            assert!((column.distance([1.0, 12.0, z]) + 10.0).abs() < 1e-3);
        }
    }

    #[test]
    fn a_blend_fills_the_seam_and_leaves_the_rest() {
        let ball = |x: f32| Shape::ellipsoid([x, 0.0, 0.0], [10.0; 3], [0.0; 3]);
        let sharp = Shape::Union { shapes: vec![ball(-9.0), ball(9.0)], blend_mm: 0.0 };
        let soft = Shape::Union { shapes: vec![ball(-9.0), ball(9.0)], blend_mm: 8.0 };
        assert!(sharp.distance([0.0, 5.0, 0.0]) > 0.0 && soft.distance([0.0, 5.0, 0.0]) < 0.0);
        assert_eq!(sharp.distance([-19.5, 0.0, 0.0]), soft.distance([-19.5, 0.0, 0.0]));
    }

    #[test]
    fn a_curve_goes_through_its_control_points() {
        let controls = [[0.0, 0.0, 0.0, 4.0], [20.0, 10.0, 5.0, 6.0], [25.0, 30.0, -10.0, 3.0]];
        let nodes = smooth_curve(&controls);
        for control in controls {
            assert!(nodes.iter().any(|n| n.at == [control[0], control[1], control[2]] && n.radius == control[3]), "{control:?} is missed");
        }
    }
}
