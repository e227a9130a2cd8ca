//! Where boxes and arrows go: a layered drawing in the manner of Sugiyama, Tagawa and Toda (1981).
//!
//! Every box stands in the layer below the boxes that it hangs from. An arrow over several layers gets a place in each,
//! so that it passes between boxes and not behind them; the arrows of one box share these places. The order in a layer follows the means of the neighbours, and
//! so do the places, as near as the order and the gaps allow. Equal input gives an equal drawing.

use std::collections::BTreeMap;

/// What is drawn: box widths, and arrows from one box to another. Arrows must not go in circles.
pub(super) struct Graph<'a> {
    pub(super) widths: &'a [f64],
    pub(super) edges: &'a [(usize, usize)],
}

/// The drawing: x runs right from 0 to `width`, layers run down from 0.
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) n_layers: usize,
    /// The centre and the layer of each box.
    pub(super) boxes: Vec<(f64, usize)>,
    /// For each arrow its x in every layer from its first box to its last.
    pub(super) paths: Vec<Vec<f64>>,
}

/// Space between neighbours of a layer.
const GAP: f64 = 18.0;
/// The room that an arrow takes in a layer that it crosses.
const LANE: f64 = 4.0;
/// Rounds of ordering and of placing; more change nothing that could be seen.
const ROUNDS: usize = 24;

/// A box, or the point where an arrow crosses a layer.
struct Spot {
    width: f64,
    layer: usize,
    above: Vec<usize>,
    below: Vec<usize>,
}

pub(super) fn layout(graph: &Graph<'_>) -> Layout {
    let layers = layers(graph);
    let mut spots: Vec<Spot> =
        graph.widths.iter().zip(&layers).map(|(&width, &layer)| Spot { width, layer, above: Vec::new(), below: Vec::new() }).collect();
    let mut trunks = BTreeMap::new();
    let chains: Vec<Vec<usize>> = graph.edges.iter().map(|&(from, to)| chain(&mut spots, &mut trunks, from, to)).collect();
    let n_layers = spots.iter().map(|spot| spot.layer + 1).max().unwrap_or(0);
    let mut rows = vec![Vec::new(); n_layers];
    for (index, spot) in spots.iter().enumerate() {
        rows[spot.layer].push(index);
    }
    sort(&spots, &mut rows);
    let centres = place(&spots, &rows);
    let edge = |of: fn(f64, f64) -> f64, begin: f64, sign: f64| {
        centres.iter().zip(&spots).map(|(x, spot)| x + sign * spot.width / 2.0).fold(begin, of)
    };
    let (left, right) = (edge(f64::min, f64::INFINITY, -1.0), edge(f64::max, f64::NEG_INFINITY, 1.0));
    let left = if left.is_finite() { left } else { 0.0 };
    Layout {
        width: (right - left).max(0.0),
        n_layers,
        boxes: (0..graph.widths.len()).map(|index| (centres[index] - left, spots[index].layer)).collect(),
        paths: chains.iter().map(|chain| chain.iter().map(|&spot| centres[spot] - left).collect()).collect(),
    }
}

/// The layer of each box: one below the lowest that it hangs from; what hangs from nothing stands right above the first
/// that needs it.
fn layers(graph: &Graph<'_>) -> Vec<usize> {
    let mut layers = vec![0; graph.widths.len()];
    // Without circles the longest path has fewer arrows than there are boxes.
    for _ in 0..graph.widths.len() {
        let before = layers.clone();
        for &(from, to) in graph.edges {
            layers[to] = layers[to].max(layers[from] + 1);
        }
        if layers == before {
            break;
        }
    }
    for index in 0..layers.len() {
        let hangs = graph.edges.iter().any(|&(_, to)| to == index);
        let first = graph.edges.iter().filter(|&&(from, _)| from == index).map(|&(_, to)| layers[to]).min();
        if let (false, Some(first)) = (hangs, first) {
            layers[index] = first - 1;
        }
    }
    layers
}

/// Joins two boxes by the first one's `trunks`, its spots by layer, in every layer between them; returns all spots of the
/// arrow.
fn chain(spots: &mut Vec<Spot>, trunks: &mut BTreeMap<(usize, usize), usize>, from: usize, to: usize) -> Vec<usize> {
    let mut chain = vec![from];
    let mut last = from;
    for layer in spots[from].layer + 1..spots[to].layer {
        let spot = *trunks.entry((from, layer)).or_insert_with(|| {
            spots.push(Spot { width: LANE, layer, above: vec![last], below: Vec::new() });
            let new = spots.len() - 1;
            spots[last].below.push(new);
            new
        });
        chain.push(spot);
        last = spot;
    }
    spots[last].below.push(to);
    spots[to].above.push(last);
    chain.push(to);
    chain
}

/// Orders each row by the mean places of the neighbours above and below in turn, and keeps the order with the fewest
/// crossings.
fn sort(spots: &[Spot], rows: &mut Vec<Vec<usize>>) {
    let mut place = vec![0.0; spots.len()];
    let note = |place: &mut Vec<f64>, row: &[usize]| {
        for (at, &spot) in row.iter().enumerate() {
            // Rows are compared by the share of their length, because they differ in length.
            place[spot] = (at as f64 + 0.5) / row.len() as f64;
        }
    };
    rows.iter().for_each(|row| note(&mut place, row));
    let mut best = (crossings(spots, rows), rows.clone());
    for round in 0..ROUNDS {
        let down = round % 2 == 0;
        for step in 0..rows.len() {
            let row = &mut rows[if down { step } else { best.1.len() - 1 - step }];
            let wish = |spot: usize| mean(if down { &spots[spot].above } else { &spots[spot].below }, &place).unwrap_or(place[spot]);
            row.sort_by(|&a, &b| wish(a).total_cmp(&wish(b)));
            note(&mut place, row);
        }
        let found = crossings(spots, rows);
        if found < best.0 {
            best = (found, rows.clone());
        }
    }
    *rows = best.1;
}

fn mean(of: &[usize], values: &[f64]) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().map(|&index| values[index]).sum::<f64>() / of.len() as f64)
}

/// How many pairs of lines between neighbouring rows cross.
fn crossings(spots: &[Spot], rows: &[Vec<usize>]) -> usize {
    let mut at = vec![0; spots.len()];
    for row in rows {
        for (place, &spot) in row.iter().enumerate() {
            at[spot] = place;
        }
    }
    rows.iter()
        .map(|row| {
            let lines: Vec<(usize, usize)> = row
                .iter()
                .flat_map(|&spot| spots[spot].below.iter().map(move |&below| (spot, below)))
                .map(|(a, b)| (at[a], at[b]))
                .collect();
            let cross = |a: &(usize, usize), b: &(usize, usize)| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1);
            lines.iter().enumerate().map(|(index, a)| lines[..index].iter().filter(|b| cross(a, b)).count()).sum::<usize>()
        })
        .sum()
}

/// The centre of each spot.
fn place(spots: &[Spot], rows: &[Vec<usize>]) -> Vec<f64> {
    let mut centres = vec![0.0; spots.len()];
    for round in 0..ROUNDS {
        let down = round % 2 == 0;
        for step in 0..rows.len() {
            let row = &rows[if down { step } else { rows.len() - 1 - step }];
            let wishes: Vec<f64> = row
                .iter()
                .map(|&spot| {
                    let (first, second) = (&spots[spot].above, &spots[spot].below);
                    let (first, second) = if down { (first, second) } else { (second, first) };
                    mean(first, &centres).or_else(|| mean(second, &centres)).unwrap_or(centres[spot])
                })
                .collect();
            let widths: Vec<f64> = row.iter().map(|&spot| spots[spot].width).collect();
            for (&spot, x) in row.iter().zip(spread(&wishes, &widths)) {
                centres[spot] = x;
            }
        }
    }
    centres
}

/// The places nearest to the wishes (in the sense of least squares) that keep the order and the gaps. Less the room that
/// all before it take, each place must be at least the one before: that is isotonic regression, by pooling neighbours
/// that are in each other's way.
fn spread(wishes: &[f64], widths: &[f64]) -> Vec<f64> {
    let mut room = 0.0;
    let mut rooms = Vec::with_capacity(wishes.len());
    for (index, width) in widths.iter().enumerate() {
        if index > 0 {
            room += (widths[index - 1] + width) / 2.0 + GAP;
        }
        rooms.push(room);
    }
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (wish, room) in wishes.iter().zip(&rooms) {
        let mut pool = (wish - room, 1);
        while let Some(&(mean, count)) = pools.last().filter(|last| last.0 > pool.0) {
            let total = count + pool.1;
            pool = ((mean * count as f64 + pool.0 * pool.1 as f64) / total as f64, total);
            pools.pop();
        }
        pools.push(pool);
    }
    let places = pools.iter().flat_map(|&(mean, count)| std::iter::repeat_n(mean, count));
    places.zip(&rooms).map(|(place, room)| place + room).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Up to a dozen boxes with arrows from lower to higher indices.
    fn graphs() -> impl Strategy<Value = (Vec<f64>, Vec<(usize, usize)>)> {
        (2..12_usize).prop_flat_map(|n| {
            let edges = proptest::collection::btree_set((0..n - 1, 1..n).prop_map(|(a, b)| (a.min(b - 1), b)), 0..20);
            (proptest::collection::vec(30.0..150.0_f64, n), edges.prop_map(|edges| edges.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn arrows_lead_down_and_boxes_of_a_layer_keep_their_distance((widths, edges) in graphs()) {
            let drawn = layout(&Graph { widths: &widths, edges: &edges });
            for (path, &(from, to)) in drawn.paths.iter().zip(&edges) {
                prop_assert!(drawn.boxes[from].1 < drawn.boxes[to].1);
                prop_assert_eq!(path.len(), drawn.boxes[to].1 - drawn.boxes[from].1 + 1);
                prop_assert_eq!((path[0], path[path.len() - 1]), (drawn.boxes[from].0, drawn.boxes[to].0));
            }
            for (a, &(x, layer)) in drawn.boxes.iter().enumerate() {
                prop_assert!(x - widths[a] / 2.0 > -1e-6 && x + widths[a] / 2.0 < drawn.width + 1e-6);
                for (b, &(other, _)) in drawn.boxes.iter().enumerate().filter(|(b, other)| *b != a && other.1 == layer) {
                    prop_assert!((x - other).abs() > (widths[a] + widths[b]) / 2.0 + GAP - 1e-6, "{} over {}", a, b);
                }
            }
        }

        #[test]
        fn places_are_the_wishes_where_nothing_is_in_the_way(wish in -100.0..100.0_f64, apart in 200.0..300.0_f64) {
            prop_assert_eq!(spread(&[wish, wish + apart], &[50.0, 80.0]), vec![wish, wish + apart]);
        }
    }

    #[test]
    fn two_chains_side_by_side_are_drawn_straight_and_without_crossings() {
        // 0 → 2 → 4 and 1 → 3 → 5, written so that the first guess crosses.
        let drawn = layout(&Graph { widths: &[40.0; 6], edges: &[(0, 3), (1, 2), (2, 4), (3, 5)] });
        let x: Vec<f64> = drawn.boxes.iter().map(|spot| spot.0).collect();
        assert_eq!((x[0], x[1]), (x[3], x[2]));
        assert_eq!((x[3], x[2]), (x[5], x[4]));
        assert_eq!((drawn.width, drawn.n_layers), (2.0 * 40.0 + GAP, 3));
    }

    #[test]
    fn a_source_stands_right_above_what_needs_it_and_nothing_is_a_drawing_too() {
        let drawn = layout(&Graph { widths: &[40.0; 4], edges: &[(0, 1), (1, 2), (3, 2)] });
        assert_eq!(drawn.boxes[3].1, 1);
        assert_eq!(layout(&Graph { widths: &[], edges: &[] }).width, 0.0);
    }
}
