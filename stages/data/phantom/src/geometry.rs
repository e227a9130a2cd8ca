//! Points and rotations in millimetres. Axes point to the patient's right, front and head (RAS).

/// A place or a direction in mm.
pub(crate) type Point = [f32; 3];

/// Three rows of a linear map.
pub(crate) type Matrix = [[f32; 3]; 3];

pub(crate) fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(crate) fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(crate) fn scaled(a: Point, factor: f32) -> Point {
    a.map(|v| v * factor)
}

pub(crate) fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn length(a: Point) -> f32 {
    dot(a, a).sqrt()
}

pub(crate) fn lerp(a: Point, b: Point, t: f32) -> Point {
    add(a, scaled(sub(b, a), t))
}

pub(crate) fn multiply(m: &Matrix, p: Point) -> Point {
    [dot(m[0], p), dot(m[1], p), dot(m[2], p)]
}

pub(crate) fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let columns = transposed(b);
    a.map(|row| columns.map(|column| dot(row, column)))
}

/// The inverse of a rotation.
pub(crate) fn transposed(m: &Matrix) -> Matrix {
    [0, 1, 2].map(|i| [m[0][i], m[1][i], m[2][i]])
}

/// The rotation about x, then y, then z, by angles in degrees.
pub(crate) fn rotation(angles_deg: Point) -> Matrix {
    let [(sx, cx), (sy, cy), (sz, cz)] = angles_deg.map(|a| a.to_radians().sin_cos());
    let x = [[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]];
    let y = [[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]];
    let z = [[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]];
    product(&z, &product(&y, &x))
}
