//! Reads structure sets: closed contours in planes of the images, which enclose regions of interest.

use std::collections::{HashMap, HashSet};

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::annotation::{Annotation, misplaced};
use crate::elements::{Place, Value, each_value_within};
use crate::error::{EXPORT, Problem, element};
use crate::planes::Planes;
use crate::series::Series;

/// A contour of more bytes than this has more points than a plane has places.
const MOST_BYTES: u64 = 1 << 24;

/// All points that a file may have.
const MOST_POINTS: usize = 1 << 24;

/// The contours of regions of interest, by the slices that they lie on.
pub(crate) struct Contours {
    /// Of each slice, the regions with their contours, in columns and rows.
    slices: Vec<Vec<(usize, Vec<Polygon>)>>,
    sides: [usize; 2],
    toggles: Vec<bool>,
}

/// The corners of a closed contour, in columns and rows.
type Polygon = Vec<[f64; 2]>;

impl Contours {
    /// Finds the slice of each contour whose region has a value.
    pub(crate) fn on(annotation: &Annotation, series: &Series, values: &[Option<u8>]) -> Result<Self, Problem> {
        let images = series.instances.iter().map(|image| image.uid.as_str()).collect();
        let mut reader = Reader { planes: Planes::of(series), images, numbers: HashMap::new(), contours: Vec::new(), points: 0 };
        let most = |tag| if tag == tags::CONTOUR_DATA { MOST_BYTES } else { 0 };
        each_value_within(annotation.path(), most, |place, tag, value| reader.take(place, tag, value))?;
        if reader.points > MOST_POINTS {
            let found = format!("{} points", reader.points);
            return Err(element("Contour Data", found, "at most 16777216 in a file", "export the regions in several files"));
        }
        let [columns, rows, count] = series.grid.shape;
        let mut slices: Vec<Vec<(usize, Vec<Polygon>)>> = (0..count).map(|_| Vec::new()).collect();
        for contour in std::mem::take(&mut reader.contours) {
            let part = reader.numbers.get(&contour.region).and_then(|number| annotation.part(*number)).ok_or_else(|| {
                let found = format!("contours of the region {:?}", reader.numbers.get(&contour.region));
                element("Referenced ROI Number", found, "one of the regions of the file", "export the structure set again")
            })?;
            if values[part].is_none() {
                continue;
            }
            let Some((slice, polygon)) = contour.placed(&annotation.parts[part].name, annotation.is_of_others_too(series))? else {
                continue;
            };
            match slices[slice].iter_mut().find(|(other, _)| *other == part) {
                Some((_, polygons)) => polygons.push(polygon),
                None => slices[slice].push((part, vec![polygon])),
            }
        }
        Ok(Self { slices, sides: [columns, rows], toggles: Vec::new() })
    }

    /// Gives each pixel whose centre is within a region the highest of its own label and the region's. Of all contours of a region
    /// in a slice, an odd number must enclose it: one within another is a hole.
    pub(crate) fn paint(&mut self, slice: usize, value: impl Fn(usize) -> Option<u8>, labels: &mut [u8]) {
        let columns = self.sides[0];
        for (part, polygons) in self.slices.get(slice).map_or(&[][..], Vec::as_slice) {
            let Some(value) = value(*part) else { continue };
            toggle(polygons, self.sides, &mut self.toggles);
            for (labels, toggles) in labels.chunks_exact_mut(columns).zip(self.toggles.chunks_exact(columns)) {
                let mut inside = false;
                for (label, toggle) in labels.iter_mut().zip(toggles) {
                    inside ^= toggle;
                    if inside {
                        *label = (*label).max(value);
                    }
                }
            }
        }
    }
}

/// Marks in each row the pixels at which a run of centres that are inside begins or has ended.
fn toggle(polygons: &[Polygon], [columns, rows]: [usize; 2], toggles: &mut Vec<bool>) {
    toggles.clear();
    toggles.resize(columns * rows, false);
    for polygon in polygons {
        let next = polygon.iter().cycle().skip(1);
        for (&[x0, y0], &[x1, y1]) in polygon.iter().zip(next) {
            // The rows whose centres are in [low, high); an end counts for one of the two edges that meet there.
            let (low, high) = (y0.min(y1), y0.max(y1));
            let bound = |y: f64| y.ceil().clamp(0.0, rows as f64) as usize;
            for row in bound(low)..bound(high) {
                let crossing = x0 + (row as f64 - y0) / (y1 - y0) * (x1 - x0);
                let column = crossing.ceil().max(0.0);
                if column < columns as f64 {
                    let toggle = &mut toggles[row * columns + column as usize];
                    *toggle = !*toggle;
                }
            }
        }
    }
}

/// What is gathered of a structure set.
struct Reader<'s> {
    planes: Planes,
    /// The UIDs of the images of the series.
    images: HashSet<&'s str>,
    /// The number of each region, by its place in the sequence of contours.
    numbers: HashMap<usize, i64>,
    contours: Vec<Contour>,
    points: usize,
}

struct Contour {
    region: usize,
    /// Which of the region's, from 0.
    index: usize,
    kind: String,
    declared: Option<i64>,
    /// Whether it refers to an image of another series.
    is_on_other: bool,
    /// The slice and the corners; or what was found instead.
    corners: Result<(usize, Polygon), Found>,
}

enum Found {
    Nothing,
    NoNumbers,
    OffPlanes(String),
}

impl Reader<'_> {
    fn take(&mut self, place: Place<'_>, tag: Tag, value: &Value) {
        match (place, tag) {
            ([(tags::ROI_CONTOUR_SEQUENCE, region)], tags::REFERENCED_ROI_NUMBER) => {
                value.integer().map(|number| self.numbers.insert(*region, number));
            }
            ([(tags::ROI_CONTOUR_SEQUENCE, region), (tags::CONTOUR_SEQUENCE, index), inside @ ..], tag) => {
                let corners = (inside.is_empty() && tag == tags::CONTOUR_DATA).then(|| self.corners(value));
                let is_on_other = tag == tags::REFERENCED_SOP_INSTANCE_UID && !self.images.contains(value.text().as_str());
                let contour = self.contour(*region, *index);
                match (inside, tag) {
                    ([], tags::CONTOUR_GEOMETRIC_TYPE) => contour.kind = value.text(),
                    ([], tags::NUMBER_OF_CONTOUR_POINTS) => contour.declared = value.integer(),
                    ([(tags::CONTOUR_IMAGE_SEQUENCE, _)], tags::REFERENCED_SOP_INSTANCE_UID) => contour.is_on_other = is_on_other,
                    _ => corners.into_iter().for_each(|corners| contour.corners = corners),
                }
            }
            _ => {}
        }
    }

    /// The contour that the walk has come to.
    fn contour(&mut self, region: usize, index: usize) -> &mut Contour {
        let new = Contour { region, index, kind: String::new(), declared: None, is_on_other: false, corners: Err(Found::Nothing) };
        let is_new = self.contours.last().is_none_or(|last| (last.region, last.index) != (region, index));
        self.contours.extend(is_new.then_some(new));
        let last = self.contours.len() - 1;
        &mut self.contours[last]
    }

    /// The points of a contour on the slice that they lie on.
    fn corners(&mut self, value: &Value) -> Result<(usize, Polygon), Found> {
        let numbers = value.list().ok_or(Found::NoNumbers)?;
        let (points, []) = numbers.as_chunks::<3>() else { return Err(Found::NoNumbers) };
        self.points = self.points.saturating_add(points.len());
        if self.points > MOST_POINTS {
            return Err(Found::Nothing);
        }
        let off = |point: &[f64; 3], off: f64| Found::OffPlanes(format!("{point:?} mm is {off:.3} mm off the plane of the nearest image"));
        let first = points.first().ok_or(Found::Nothing)?;
        let slice = self.planes.slice(*first).map_err(|mm| off(first, mm))?;
        let corner = |point: &[f64; 3]| match self.planes.slice(*point) {
            Ok(own) if own == slice => Ok(self.planes.pixel(slice, *point)),
            Ok(_) => Err(Found::OffPlanes(format!("{point:?} mm and {first:?} mm are on the planes of two images"))),
            Err(mm) => Err(off(point, mm)),
        };
        Ok((slice, points.iter().map(corner).collect::<Result<_, _>>()?))
    }
}

impl Contour {
    /// The slice and the corners; nothing if the contour is of other images, where the file is of others too.
    fn placed(self, name: &str, are_others: bool) -> Result<Option<(usize, Polygon)>, Problem> {
        const CLOSED: [&str; 2] = ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"];
        if are_others && self.is_on_other {
            return Ok(None);
        }
        let which = format!("{name}, contour {}", self.index + 1);
        if !CLOSED.contains(&self.kind.as_str()) {
            let found = format!("{which}: {}", self.kind);
            return Err(element("Contour Geometric Type", found, CLOSED[0], "draw the region as closed contours, or leave it out"));
        }
        let numbers = |found: String| element("Contour Data", found, "three numbers for each of its points", EXPORT);
        match self.corners {
            Ok((_, corners)) if self.declared.is_some_and(|declared| declared != corners.len() as i64) => {
                Err(numbers(format!("{which}: {} points, and {} declared", corners.len(), self.declared.unwrap_or(0))))
            }
            Ok(placed) => Ok(Some(placed)),
            Err(Found::OffPlanes(_)) if are_others => Ok(None),
            Err(Found::OffPlanes(found)) => Err(misplaced("Contour Data", format!("{which}: {found}"))),
            Err(Found::Nothing) => Err(numbers(format!("{which}: no points"))),
            Err(Found::NoNumbers) => Err(numbers(format!("{which}: other numbers"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(polygons: &[Polygon]) -> Vec<String> {
        let mut contours = Contours { slices: vec![vec![(0, polygons.to_vec())]], sides: [6, 4], toggles: Vec::new() };
        let mut labels = vec![0; 24];
        contours.paint(0, |_| Some(1), &mut labels);
        labels.chunks(6).map(|row| row.iter().map(|label| if *label == 1 { '#' } else { '.' }).collect()).collect()
    }

    #[test]
    fn pixels_are_inside_whose_centres_an_odd_number_of_contours_enclose() {
        let square = |from: f64, to: f64| vec![[from, from], [to, from], [to, to], [from, to]];
        assert_eq!(inside(&[square(0.5, 2.5)]), ["......", ".##...", ".##...", "......"]);
        assert_eq!(inside(&[square(-9.0, 9.0), square(0.5, 2.5)]), ["######", "#..###", "#..###", "######"]);
        // What shares a side with another covers each pixel once.
        assert_eq!(inside(&[square(0.0, 2.0), square(2.0, 3.0)]), ["##....", "##....", "..#...", "......"]);
        assert_eq!(inside(&[vec![[1.0, 1.0]], vec![[0.0, 0.0], [5.0, 3.0]]]), ["......"; 4]);
    }
}
