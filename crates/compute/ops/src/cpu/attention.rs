//! Self-attention of one sequence per batch entry and head, without ever holding all scores.
//!
//! A task holds the keys and values of one head and goes over its queries in blocks. The backward pass computes the
//! scores again, from the logarithms of the sums of their exponentials that the forward pass keeps.

use rayon::prelude::*;

use super::functions::exp;
use super::isa::{Isa, per_isa};
use super::multiply::{COLUMNS, Product, multiply};
use super::sums::{lane_sum_of, lane_sum2, maximum};
use super::{Shared, Unwritten, assume_written, filled, filled_in_tasks, with_scratch};

/// Queries at a time: their scores stay in a second-level cache beside keys and values of some hundred tokens.
const BLOCK: usize = 32;
/// Tasks wanted when batch entries are put together to sum their gradients by the bias.
const TASKS: usize = 16;

/// Queries, keys and values `(batch, tokens, 3, heads, depth)`, and what is added to the scores: a bias
/// `(heads, tokens, tokens)` and a mask `(windows, tokens, tokens)`, of which batch entry b takes window b modulo windows.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) depth: usize,
    pub(crate) qkv: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) mask: Option<&'a [f32]>,
}

/// Which part of `qkv`.
#[derive(Clone, Copy)]
enum Part {
    Queries,
    Keys,
    Values,
}

#[allow(unsafe_code)]
impl<'a> Attention<'a> {
    fn width(&self) -> usize {
        self.heads * self.depth
    }

    /// Columns of the scores, and of rows of queries, keys and values, in whole vectors.
    fn columns(&self) -> (usize, usize) {
        (self.tokens.next_multiple_of(COLUMNS), self.depth.next_multiple_of(COLUMNS))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.depth as f32).sqrt()
    }

    fn start(&self, entry: usize, head: usize, part: Part, token: usize) -> usize {
        (entry * self.tokens + token) * 3 * self.width() + part as usize * self.width() + head * self.depth
    }

    fn row(&self, entry: usize, head: usize, part: Part, token: usize) -> &'a [f32] {
        &self.qkv[self.start(entry, head, part, token)..][..self.depth]
    }

    /// `depth` rows of all tokens, padded with zeros.
    fn transpose(&self, entry: usize, head: usize, part: Part, to: &mut [f32]) {
        let columns = self.columns().0;
        to.fill(0.0);
        for token in 0..self.tokens {
            for (row, value) in to.chunks_exact_mut(columns).zip(self.row(entry, head, part, token)) {
                row[token] = *value;
            }
        }
    }

    /// The rows of `tokens` times `factor`, padded with zeros.
    fn pack(&self, entry: usize, head: usize, part: Part, tokens: std::ops::Range<usize>, factor: f32, to: &mut [f32]) {
        for (token, to) in tokens.zip(to.chunks_exact_mut(self.columns().1)) {
            pack_row(self.row(entry, head, part, token), factor, to);
        }
    }

    /// Scores of the queries from `first` on, of which `queries` are given, against the transposed keys, with bias and mask.
    fn scores(&self, isa: Isa, entry: usize, head: usize, first: usize, queries: &[f32], keys: &[f32], scores: &mut [f32]) {
        let (columns, width) = self.columns();
        let rows = BLOCK.min(self.tokens - first);
        let product = Product { rows, columns, inner: self.depth, a_row: width, a_inner: 1, b_row: columns, c_row: columns };
        // SAFETY: safe code but for the instruction set.
        unsafe { multiply(isa, product, queries, keys, scores, false) };
        let (tokens, square) = (self.tokens, self.tokens * self.tokens);
        let rows_of = |matrices: &'a [f32], matrix: usize| &matrices[matrix * square + first * tokens..][..rows * tokens];
        let bias = self.bias.map(|bias| rows_of(bias, head));
        let mask = self.mask.map(|mask| rows_of(mask, entry % (mask.len() / square)));
        for added in bias.into_iter().chain(mask) {
            // SAFETY: safe code but for the instruction set.
            unsafe { add_rows(isa, scores, columns, added, tokens) };
        }
    }
}

per_isa! {
    /// Adds rows of so many tokens to those of the scores.
    unsafe fn add_rows<S>(scores: &mut [f32], columns: usize, added: &[f32], tokens: usize) {
        for (scores, added) in scores.chunks_exact_mut(columns).zip(added.chunks_exact(tokens)) {
            scores.iter_mut().zip(added).for_each(|(score, value)| *score += value);
        }
    }
}

fn pack_row(row: &[f32], factor: f32, to: &mut [f32]) {
    let (values, padding) = to.split_at_mut(row.len());
    for (to, value) in values.iter_mut().zip(row) {
        *to = value * factor;
    }
    padding.fill(0.0);
}

/// y `(batch, tokens, heads, depth)`, and per batch entry, head and query the logarithm of the sum of the exponentials of its
/// scores.
#[allow(unsafe_code)]
pub(crate) fn forward<'y>(isa: Isa, attention: &Attention<'_>, y: &'y mut Unwritten) -> (Vec<f32>, &'y mut [f32]) {
    assert_eq!(y.len(), attention.batch * attention.tokens * attention.width(), "a row for each query");
    let target = Shared(y.as_mut_ptr().cast());
    let heads = attention.heads;
    let logarithms: Vec<Vec<f32>> =
        (0..attention.batch * heads).into_par_iter().map(|task| forward_head(isa, attention, task / heads, task % heads, target)).collect();
    // SAFETY: the heads of all batch entries have written the rows of all their queries.
    (logarithms.concat(), unsafe { assume_written(y) })
}

#[allow(unsafe_code)]
fn forward_head(isa: Isa, attention: &Attention<'_>, entry: usize, head: usize, y: Shared) -> Vec<f32> {
    let &Attention { tokens, depth, .. } = attention;
    let (columns, width) = attention.columns();
    let mut logarithms = vec![0.0; tokens];
    let lengths = [depth * columns, tokens * width, BLOCK * width, BLOCK * columns];
    with_scratch(lengths.iter().sum(), |scratch| {
        let [keys, values, queries, scores] = split(scratch, lengths);
        attention.transpose(entry, head, Part::Keys, keys);
        attention.pack(entry, head, Part::Values, 0..tokens, 1.0, values);
        for first in (0..tokens).step_by(BLOCK) {
            let rows = BLOCK.min(tokens - first);
            attention.pack(entry, head, Part::Queries, first..first + rows, attention.scale(), queries);
            attention.scores(isa, entry, head, first, queries, keys, scores);
            let logarithms = &mut logarithms[first..first + rows];
            let product = Product { rows, columns: width, inner: tokens, a_row: columns, a_inner: 1, b_row: width, c_row: width };
            // The queries have been used; the result takes their place.
            // SAFETY: safe code but for the instruction set.
            unsafe {
                normalise(isa, scores, columns, tokens, logarithms);
                multiply(isa, product, scores, values, queries, false);
            }
            for (row, result) in queries.chunks_exact(width).take(rows).enumerate() {
                let at = (entry * tokens + first + row) * attention.width() + head * depth;
                // SAFETY: these elements of y are of this entry, head and query, which no other task has.
                unsafe { y.get().add(at).copy_from_nonoverlapping(result[..depth].as_ptr(), depth) };
            }
        }
    });
    logarithms
}

per_isa! {
    /// The softmax of every row's first `tokens` scores, and the logarithms of the sums of their exponentials. (To scale the results in
    /// place of the probabilities would save a pass, and made the gradients of a Swin UNETR six times less accurate.)
    unsafe fn normalise<S>(scores: &mut [f32], columns: usize, tokens: usize, logarithms: &mut [f32]) {
        for (row, logarithm) in scores.chunks_exact_mut(columns).zip(logarithms) {
            let row = &mut row[..tokens];
            let greatest = maximum(row);
            let sum = lane_sum_of(row, |score| {
                *score = exp::<S>(*score - greatest);
                *score
            });
            let reciprocal = (1.0 / sum) as f32;
            row.iter_mut().for_each(|p| *p *= reciprocal);
            *logarithm = greatest + sum.ln() as f32;
        }
    }
}

/// Takes a buffer apart.
fn split<const N: usize>(mut buffer: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|len| {
        let (part, rest) = std::mem::take(&mut buffer).split_at_mut(len);
        buffer = rest;
        part
    })
}

/// What the backward pass gets beside the inputs: y and its gradient `(batch, tokens, heads, depth)`, and what the
/// forward pass returned.
#[derive(Clone, Copy)]
pub(crate) struct Backward<'a> {
    pub(crate) attention: Attention<'a>,
    pub(crate) y: &'a [f32],
    pub(crate) dy: &'a [f32],
    pub(crate) logarithms: &'a [f32],
}

/// The gradients by queries, keys and values, and behind them those by the bias if there is room for them. The parts of the batch
/// entries are added in their order.
#[allow(unsafe_code)]
pub(crate) fn backward<'y>(isa: Isa, pass: &Backward<'_>, gradients: &'y mut Unwritten) -> &'y mut [f32] {
    let Attention { batch, heads, tokens, qkv, .. } = pass.attention;
    let (dqkv, dbias) = gradients.split_at_mut(qkv.len());
    let runs = if dbias.is_empty() { batch } else { TASKS.div_ceil(heads).min(batch) };
    let square = if dbias.is_empty() { 0 } else { tokens * tokens };
    let target = Shared(dqkv.as_mut_ptr().cast());
    let partial: Vec<Vec<f32>> = (0..heads * runs)
        .into_par_iter()
        .map(|task| {
            let (head, run) = (task / runs, task % runs);
            let mut sums = vec![0.0; square];
            for entry in batch * run / runs..batch * (run + 1) / runs {
                pass.head(isa, entry, head, target, &mut sums);
            }
            sums
        })
        .collect();
    if square > 0 {
        filled_in_tasks(dbias, square, |head, dbias| {
            let dbias = filled(dbias, 0.0);
            for sums in &partial[head * runs..][..runs] {
                dbias.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
            dbias
        });
    }
    // SAFETY: the heads of all batch entries have written their queries, keys and values, which are all of `qkv`, and if there is
    // room behind them, it is filled.
    unsafe { assume_written(gradients) }
}

#[allow(unsafe_code)]
impl Backward<'_> {
    /// With P the probabilities and dP = dY V': `dV = P' dY`, `dS = P (dP - rowsum(P dP))`, `dQ = dS K`, `dK = dS' Q`.
    fn head(&self, isa: Isa, entry: usize, head: usize, dqkv: Shared, dbias: &mut [f32]) {
        let attention = &self.attention;
        let &Attention { tokens, depth, .. } = attention;
        let (columns, width) = attention.columns();
        let lengths = [
            depth * columns,
            depth * columns,
            tokens * width,
            tokens * width,
            tokens * width,
            BLOCK * width,
            BLOCK * width,
            BLOCK * columns,
            BLOCK * columns,
        ];
        with_scratch(lengths.iter().sum(), |scratch| {
            let [keys_t, values_t, keys, dkeys, dvalues, queries, dy, p, dp] = split(scratch, lengths);
            attention.transpose(entry, head, Part::Keys, keys_t);
            attention.transpose(entry, head, Part::Values, values_t);
            attention.pack(entry, head, Part::Keys, 0..tokens, attention.scale(), keys);
            dkeys.fill(0.0);
            dvalues.fill(0.0);
            for first in (0..tokens).step_by(BLOCK) {
                let rows = BLOCK.min(tokens - first);
                attention.pack(entry, head, Part::Queries, first..first + rows, attention.scale(), queries);
                attention.scores(isa, entry, head, first, queries, keys_t, p);
                let means = self.pack_gradient(entry, head, first, rows, dy);
                let logarithms = &self.logarithms[(entry * attention.heads + head) * tokens + first..][..rows];
                let by_row = Product { rows, columns, inner: depth, a_row: width, a_inner: 1, b_row: columns, c_row: columns };
                let by_key = Product { rows: tokens, columns: width, inner: rows, a_row: 1, a_inner: columns, b_row: width, c_row: width };
                let by_query = Product { rows, columns: width, inner: tokens, a_row: columns, a_inner: 1, b_row: width, c_row: width };
                // SAFETY: safe code but for the instruction set.
                unsafe {
                    multiply(isa, by_row, dy, values_t, dp, false);
                    score_gradient(isa, p, dp, columns, tokens, logarithms, &means[..rows]);
                    multiply(isa, by_key, p, dy, dvalues, true);
                    multiply(isa, by_key, dp, queries, dkeys, true);
                    // The gradient by y has been used; that by the queries takes its place.
                    multiply(isa, by_query, dp, keys, dy, false);
                }
                if !dbias.is_empty() {
                    for (row, ds) in dp.chunks_exact(columns).take(rows).enumerate() {
                        let sums = &mut dbias[(first + row) * tokens..][..tokens];
                        sums.iter_mut().zip(ds).for_each(|(sum, ds)| *sum += ds);
                    }
                }
                // SAFETY: this entry and head are this task's alone.
                unsafe { self.write(dqkv, entry, head, Part::Queries, first, rows, dy) };
            }
            // SAFETY: as above.
            unsafe {
                self.write(dqkv, entry, head, Part::Keys, 0, tokens, dkeys);
                self.write(dqkv, entry, head, Part::Values, 0, tokens, dvalues);
            }
        });
    }

    /// Packs the gradients of `rows` results, and returns the inner product of each with its result, which is
    /// rowsum(P dP).
    fn pack_gradient(&self, entry: usize, head: usize, first: usize, rows: usize, to: &mut [f32]) -> [f32; BLOCK] {
        let Attention { tokens, depth, .. } = self.attention;
        let mut means = [0.0; BLOCK];
        for (row, to) in to.chunks_exact_mut(self.attention.columns().1).take(rows).enumerate() {
            let at = (entry * tokens + first + row) * self.attention.width() + head * depth;
            pack_row(&self.dy[at..][..depth], 1.0, to);
            means[row] = lane_sum2(&self.dy[at..][..depth], &self.y[at..][..depth], |dy, y| dy * y) as f32;
        }
        means
    }

    /// # Safety
    /// `to` has the shape of `qkv`, and nobody else has hold of this part of this entry and head.
    unsafe fn write(&self, to: Shared, entry: usize, head: usize, part: Part, first: usize, rows: usize, from: &[f32]) {
        let depth = self.attention.depth;
        for (row, from) in from.chunks_exact(self.attention.columns().1).take(rows).enumerate() {
            let at = self.attention.start(entry, head, part, first + row);
            // SAFETY: the condition of this function.
            unsafe { to.get().add(at).copy_from_nonoverlapping(from[..depth].as_ptr(), depth) };
        }
    }
}

per_isa! {
    /// From scores to probabilities, and from the gradients of probabilities to those of scores.
    unsafe fn score_gradient<S>(
        p: &mut [f32],
        dp: &mut [f32],
        columns: usize,
        tokens: usize,
        logarithms: &[f32],
        means: &[f32],
    ) {
        for (((p, dp), logarithm), mean) in p.chunks_exact_mut(columns).zip(dp.chunks_exact_mut(columns)).zip(logarithms).zip(means) {
            for (p, dp) in p[..tokens].iter_mut().zip(&mut dp[..tokens]) {
                *p = exp::<S>(*p - logarithm);
                *dp = *p * (*dp - mean);
            }
        }
    }
}
