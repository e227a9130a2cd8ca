//! Areas of surface elements.
//!
//! A surfel sits where eight voxels meet. Which of the eight are inside the mask is a code of eight bits:
//! bit `4 dx + 2 dy + dz` is the voxel on the far (1) or near (0) side along each axis. The surface in the
//! cube between the eight voxel centres is the marching-cubes one, with vertices halfway along the edges.
//!
//! Its area needs no table of triangles. Inside and outside have the same surface, so take the smaller side,
//! at most four corners, and cut it into pieces connected along cube edges. Only six shapes of pieces exist,
//! and each is closed by a few triangles whose area vectors are known up to sign.

/// Area in mm² of the surfel of each of the 256 codes.
pub fn surfel_areas_mm2(spacing_mm: [f64; 3]) -> [f64; 256] {
    let [x, y, z] = spacing_mm;
    let face_mm2 = [y * z, x * z, x * y];
    std::array::from_fn(|code| {
        // The array has 256 entries, so the index fits.
        let code = code as u8;
        let smaller = if code.count_ones() <= 4 { code } else { !code };
        pieces(smaller).map(|piece| piece_area(piece, face_mm2)).sum()
    })
}

/// The parts of `corners` that are connected along cube edges.
fn pieces(mut corners: u8) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let mut piece = corners & corners.wrapping_neg();
        loop {
            let grown = piece | (0..3).fold(0, |near, axis| near | across(piece, axis)) & corners;
            if grown == piece {
                break;
            }
            piece = grown;
        }
        corners &= !piece;
        (piece != 0).then_some(piece)
    })
}

/// The corners that lie across the cube from `corners` along `axis`.
fn across(corners: u8, axis: usize) -> u8 {
    let stride = 4 >> axis;
    (0..8).filter(|corner| corners >> corner & 1 == 1).fold(0, |mirrored, corner| mirrored | 1 << (corner ^ stride))
}

/// Area of the surface that closes off one connected piece of one to four corners.
///
/// Triangles are given by their area vectors for a unit cube, in eighths, up to the signs of components;
/// stretching the cube scales each component by the area of the cube's face normal to it.
fn piece_area(piece: u8, face_mm2: [f64; 3]) -> f64 {
    let triangle = |eighths: [f64; 3]| {
        let components = [0, 1, 2].map(|axis| eighths[axis] / 8.0 * face_mm2[axis]);
        components.map(|c| c * c).iter().sum::<f64>().sqrt()
    };
    let along = |axis: usize| [0, 1, 2].map(|a| if a == axis { 4.0 } else { 0.0 });
    let beside = |axis: usize| [0, 1, 2].map(|a| if a == axis { 0.0 } else { 2.0 });
    // Two corners per edge: halve the count of corners whose neighbour along the axis is in the piece.
    let edges = [0, 1, 2].map(|axis| (piece & across(piece, axis)).count_ones() / 2);
    let flat = edges.iter().position(|&count| count == 0).unwrap_or(0);
    match (piece.count_ones(), edges.iter().sum::<u32>()) {
        // A single corner is cut off by one triangle.
        (1, _) => triangle([1.0; 3]),
        // An edge is closed by a rectangle that contains the edge's direction.
        (2, _) => {
            let axis = edges.iter().position(|&count| count == 1).unwrap_or(0);
            2.0 * triangle(beside(axis))
        }
        // Three corners of a face leave a pentagon.
        (3, _) => triangle(along(flat)) + triangle([2.0; 3]) + triangle([1.0; 3]),
        // A full face is closed by the rectangle halfway to the opposite face.
        (4, 4) => 2.0 * triangle(along(flat)),
        // Four corners: a corner with its three neighbours (a plane hexagon) or a path through three axes.
        (4, _) => match middle_axis(piece) {
            None => triangle([6.0; 3]),
            Some(middle) => {
                let ends = (0..3).filter(|&axis| axis != middle);
                let closing: f64 = ends.map(|axis| triangle(beside(axis))).sum();
                triangle([1.0; 3]) + triangle([3.0; 3]) + closing
            }
        },
        _ => 0.0,
    }
}

/// The axis of the middle edge of a path of four corners; none if the piece is no path.
fn middle_axis(piece: u8) -> Option<usize> {
    let degree_two = (0..8u32)
        .filter(|corner| {
            let neighbours = (0..3).fold(0, |all, axis| all | across(1 << corner, axis));
            piece >> corner & 1 == 1 && (piece & neighbours).count_ones() == 2
        })
        .fold(0u8, |corners, corner| corners | 1 << corner);
    (0..3).find(|&axis| (degree_two & across(degree_two, axis)).count_ones() == 2)
}
