//! Activations of one image, channels last.

use std::mem::{ManuallyDrop, MaybeUninit};

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::levels::Levels;
use crate::cpu::isa::Isa;
use crate::cpu::lanes::arithmetic::{Element, Number, narrow_row};
use crate::cpu::lanes::rows::BEYOND;
use crate::cpu::transpose::{transpose_row, transpose_row_back};
use crate::cpu::{Shared, Size3, assume_written, filled, written};
use crate::tensor::{per_axis, volumes};

/// Channels that are kept together.
const TOGETHER: usize = 16;
/// Elements that a group may read beyond the last channel.
const SLACK: usize = 64;
/// The longest step of a convolution from one position to the next.
pub(super) const STRIDE: usize = 2;

/// Bytes of a cache line. Vectors that lie across two of them cost twice as much.
pub(super) const LINE: usize = 64;

/// The first element that lies at the beginning of a cache line.
pub(super) fn to_line<T>(values: &[T]) -> usize {
    values.as_ptr().align_offset(LINE).min(LINE)
}

/// The channels of a map, and how they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    pub(super) count: usize,
    /// Elements from one position to the next; those beyond the channels are zero.
    pub(super) step: usize,
}

impl Channels {
    /// In whole vectors, as kernels write them.
    pub(crate) fn whole(count: usize) -> Self {
        Self { count, step: count.next_multiple_of(TOGETHER) }
    }

    /// A single one without neighbours, as that of a scan, which would be a waste in a vector of its own.
    fn single() -> Self {
        Self { count: 1, step: 1 }
    }

    /// Whether positions are whole vectors.
    pub(super) fn are_whole(self) -> bool {
        self.step.is_multiple_of(TOGETHER)
    }
}

/// Activations of one image or volume: `[depth][height][width][channel]` with a border of zeros around, one element wide
/// along every axis that the image has.
pub struct Map<E> {
    channels: Channels,
    size: Size3,
    border: Size3,
    levels: Levels,
    /// The first of the values that counts, where a cache line begins.
    origin: usize,
    values: Vec<E>,
}

/// A map that is yet to be written, but for its border.
pub(super) type Blank<E> = Map<MaybeUninit<E>>;

#[allow(unsafe_code)]
impl<E: Number> Blank<E> {
    /// A map whose border is zero.
    pub(super) fn new(channels: Channels, size: Size3, border: Size3) -> Self {
        Self::bordered(channels, size, border, (E::default(), Levels::default()))
    }

    /// A map of some levels, whose border is what stands for zero.
    pub(super) fn with_levels(channels: Channels, size: Size3, border: Size3, levels: Levels) -> Self
    where
        E: Element,
    {
        Self::bordered(channels, size, border, (E::zero(levels), levels))
    }

    fn bordered(channels: Channels, size: Size3, border: Size3, (zero, levels): (E, Levels)) -> Self {
        let padded: Size3 = std::array::from_fn(|a| size[a] + 2 * border[a]);
        let len = padded.iter().product::<usize>() * channels.step;
        let tail = BEYOND * STRIDE * channels.step + SLACK;
        let mut values = Vec::with_capacity(len + tail + LINE);
        // SAFETY: the capacity is there, and these elements need not be written.
        unsafe { values.set_len(len + tail + LINE) };
        let origin = to_line(&values);
        filled(&mut values[..origin], E::default());
        filled(&mut values[origin + len..], E::default());
        let mut map = Self { channels, size, border, levels, origin, values };
        map.clear_border(zero);
        map
    }

    fn clear_border(&mut self, zero: E) {
        let padded = self.padded();
        let row = padded[2] * self.step();
        let edge = self.border[2] * self.step();
        for d in 0..padded[0] {
            for h in 0..padded[1] {
                let values = &mut self.values[self.origin + (d * padded[1] + h) * row..][..row];
                let outside = |at: usize, a: usize| at < self.border[a] || at >= self.border[a] + self.size[a];
                if outside(d, 0) || outside(h, 1) {
                    filled(values, zero);
                } else {
                    filled(&mut values[..edge], zero);
                    filled(&mut values[row - edge..], zero);
                }
            }
        }
    }

    /// Where the elements are.
    pub(super) fn as_mut_ptr(&mut self) -> *mut E {
        self.values.as_mut_ptr().cast()
    }

    /// The map, once it is written.
    ///
    /// # Safety
    /// Every element of the inside has been written.
    pub(super) unsafe fn assume_written(self) -> Map<E> {
        let Self { channels, size, border, levels, origin, values } = self;
        let mut values = ManuallyDrop::new(values);
        // SAFETY: the memory is that of a vector of as many elements of the same layout. Those of the inside are valid by the
        // condition of this function, and those of border and tail have been so from the beginning.
        let values = unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast::<E>(), values.len(), values.capacity()) };
        Map { channels, size, border, levels, origin, values }
    }
}

#[allow(unsafe_code)]
impl<E: Element> Map<E> {
    /// One of a batch `(b, c, h, w)` or `(b, c, d, h, w)` of `f32` on the CPU.
    ///
    /// # Errors
    /// When the batch has another shape or type, or no such element.
    pub fn of_tensor(batch: &Tensor, index: usize) -> Result<Self> {
        let (_, channels, size) = volumes("frozen map", batch.dims())?;
        let planes = batch.get(index)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self::of_planes(&planes, channels, size, per_axis(batch.rank(), 1, 0)))
    }

    /// An image `(c, size)`.
    pub(crate) fn of_planes(planes: &[f32], channels: usize, size: Size3, border: Size3) -> Self {
        let layout = if channels == 1 { Channels::single() } else { Channels::whole(channels) };
        let levels = match E::LEVELS {
            true => planes.iter().fold([0f32; 2], |[low, high], &value| [low.min(value), high.max(value)]),
            false => [0.0; 2],
        };
        let levels = Levels::between(levels[0], levels[1]);
        let mut map = Blank::<E>::with_levels(layout, size, border, levels);
        let (isa, path, volume, step) = (Isa::current(), E::path(), size.iter().product(), layout.step);
        map.par_rows_mut().enumerate().for_each_init(Vec::new, |row, (at, to)| {
            let from = &planes[at * size[2]..];
            row.resize(to.len(), 0.0);
            if step == 1 {
                row.copy_from_slice(&from[..size[2]]);
            } else {
                // SAFETY: safe code but for the instruction set.
                unsafe { transpose_row(isa, from, volume, channels, row, step) };
            }
            if E::LEVELS {
                row.iter_mut().for_each(|value| *value = levels.level(*value));
            }
            narrow_row(path, row, filled(to, E::default()));
        });
        // SAFETY: every row is filled.
        unsafe { map.assume_written() }
    }
}

#[allow(unsafe_code)]
impl<E: Number> Map<E> {
    /// The activations of images of one kind as a tensor `(images, c, h, w)` or `(images, c, d, h, w)` of `f32`.
    ///
    /// # Errors
    /// When there is no image, or they differ in channels or size.
    pub fn to_batch(images: &[&Self]) -> Result<Tensor> {
        let Some(&first) = images.first() else { bail!("frozen map: a batch of no images") };
        if let Some(other) =
            images.iter().find(|image| (image.channels, image.size, image.border) != (first.channels, first.size, first.border))
        {
            bail!(
                "frozen map: images of one kind expected, found {:?} of {:?} and {:?} of {:?}",
                first.channels,
                first.size,
                other.channels,
                other.size
            );
        }
        let ([depth, height, width], channels, step) = (first.size, first.channels.count, first.step());
        let (rows, volume, isa) = (depth * height, depth * height * width, Isa::current());
        let planes = written(images.len() * channels * volume, |planes| {
            let out = Shared(planes.as_mut_ptr().cast::<f32>());
            (0..images.len() * rows).into_par_iter().for_each_init(Vec::new, |line: &mut Vec<f32>, at| {
                let (image, row) = (&images[at / rows], at % rows);
                let from = &image.values[image.row([row / height, row % height])..][..width * step];
                line.clear();
                line.extend(from.iter().map(|value| image.levels.number(value.widen())));
                // SAFETY: tasks write rows of their own, which lie in the planes of their image.
                unsafe {
                    let to = out.get().add(at / rows * channels * volume + row * width);
                    match step {
                        1 => to.copy_from_nonoverlapping(line.as_ptr(), width),
                        _ => transpose_row_back(isa, line, step, to, volume, channels),
                    }
                }
            });
            // SAFETY: the tasks have written all rows of all channels.
            unsafe { assume_written(planes) }
        });
        let mut dims = first.dims(channels);
        dims[0] = images.len();
        Tensor::from_vec(planes, dims, &Device::Cpu)
    }

    /// The activations as a batch of one.
    ///
    /// # Errors
    /// As [`Map::to_batch`].
    pub fn to_tensor(&self) -> Result<Tensor> {
        Self::to_batch(&[self])
    }

    pub(super) fn values(&self) -> &[E] {
        &self.values
    }
}

#[allow(unsafe_code)]
impl<T: Copy + Send + Sync> Map<T> {
    /// `(1, channels, size..)`, without a depth for an image.
    pub(super) fn dims(&self, channels: usize) -> Vec<usize> {
        let mut dims = vec![1, channels];
        dims.extend((0..3).filter(|&a| self.border[a] > 0).map(|a| self.size[a]));
        dims
    }

    /// Channels.
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Voxels along depth, height and width; the depth of an image is 1.
    #[must_use]
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    pub(super) fn levels(&self) -> Levels {
        self.levels
    }

    pub(super) fn border(&self) -> Size3 {
        self.border
    }

    pub(super) fn step(&self) -> usize {
        self.channels.step
    }

    pub(super) fn padded(&self) -> Size3 {
        std::array::from_fn(|a| self.size[a] + 2 * self.border[a])
    }

    /// Where the first position of a row of the inside is.
    pub(super) fn row(&self, [d, h]: [usize; 2]) -> usize {
        let padded = self.padded();
        self.origin + (((d + self.border[0]) * padded[1] + h + self.border[1]) * padded[2] + self.border[2]) * self.step()
    }

    /// Where a position of the map with its border is.
    pub(super) fn place(&self, [d, h, w]: Size3) -> usize {
        let padded = self.padded();
        self.origin + ((d * padded[1] + h) * padded[2] + w) * self.step()
    }

    /// The rows of the inside, each up to the end of its last position.
    pub(super) fn par_rows_mut(&mut self) -> impl IndexedParallelIterator<Item = &mut [T]> {
        let [depth, height, width] = self.size;
        let (padded, first) = (self.padded(), self.row([0, 0]));
        let line = padded[2] * self.step();
        let slice = padded[1] * line;
        let (len, step) = (self.values.len(), self.step());
        let values = Shared(self.values.as_mut_ptr());
        (0..depth * height).into_par_iter().map(move |at| {
            let start = first + at / height * slice + at % height * line;
            debug_assert!(start + width * step <= len);
            // SAFETY: rows of the inside lie within the values and do not overlap, and the borrow of self outlives them.
            unsafe { std::slice::from_raw_parts_mut(values.get().add(start), width * step) }
        })
    }
}
