//! A batch on its way through a network that is frozen, or frozen in part.

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor};
use ops::frozen::{Element, Map};

/// A batch between two layers.
#[derive(Clone)]
pub(crate) enum Passed<E> {
    /// What depends on no live parameter.
    Still(Still<E>),
    /// What does.
    Moving(Tensor),
}

/// Activations that depend on no live parameter: as maps for frozen kernels, as a tensor for all other layers, or as both, each made of
/// the other when it is first asked for.
#[derive(Clone)]
pub(crate) struct Still<E>(Arc<Forms<E>>);

struct Forms<E> {
    maps: OnceLock<Vec<Image<E>>>,
    tensor: OnceLock<Tensor>,
}

/// The maps of an image whose channels are joined.
pub(crate) type Image<E> = Vec<Arc<Map<E>>>;

impl<E: Element> Passed<E> {
    /// A batch `(b, c, size..)`.
    pub(crate) fn of_tensor(tensor: Tensor) -> Self {
        match tensor.track_op() {
            true => Self::Moving(tensor),
            false => Self::Still(Still(Arc::new(Forms { maps: OnceLock::new(), tensor: OnceLock::from(tensor) }))),
        }
    }

    /// A map for each image.
    pub(crate) fn of_maps(maps: Vec<Map<E>>) -> Self {
        Self::Still(Still::of_images(maps.into_iter().map(|map| vec![Arc::new(map)]).collect()))
    }

    /// For a live layer, and for one that has no frozen kernels.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Moving(tensor) => Ok(tensor.clone()),
            Self::Still(still) => still.tensor(),
        }
    }

    /// Images of the batch.
    pub(crate) fn batch(&self) -> Result<usize> {
        match self {
            Self::Moving(tensor) => tensor.dim(0),
            Self::Still(still) => match still.0.tensor.get() {
                Some(tensor) => tensor.dim(0),
                None => still.images().map(<[_]>::len),
            },
        }
    }

    pub(crate) fn still(&self) -> Option<&Still<E>> {
        match self {
            Self::Still(still) => Some(still),
            Self::Moving(_) => None,
        }
    }
}

impl<E: Element> Still<E> {
    fn of_images(images: Vec<Image<E>>) -> Self {
        Self(Arc::new(Forms { maps: OnceLock::from(images), tensor: OnceLock::new() }))
    }

    fn tensor(&self) -> Result<Tensor> {
        if let Some(tensor) = self.0.tensor.get() {
            return Ok(tensor.clone());
        }
        let images = self.images()?;
        let source = |k: usize| Map::to_batch(&images.iter().map(|maps| &*maps[k]).collect::<Vec<_>>());
        let sources = (0..images.first().map_or(0, Vec::len)).map(source).collect::<Result<Vec<_>>>()?;
        let tensor = match &sources[..] {
            [one] => one.clone(),
            several => ops::concat_channels(&several.iter().collect::<Vec<_>>())?,
        };
        Ok(self.0.tensor.get_or_init(|| tensor).clone())
    }

    /// The maps of each image.
    pub(crate) fn images(&self) -> Result<&[Image<E>]> {
        if let (None, Some(tensor)) = (self.0.maps.get(), self.0.tensor.get()) {
            let images = (0..tensor.dim(0)?).map(|i| Ok(vec![Arc::new(Map::of_tensor(tensor, i)?)])).collect::<Result<_>>()?;
            return Ok(self.0.maps.get_or_init(|| images));
        }
        Ok(self.0.maps.get().map_or(&[], Vec::as_slice))
    }

    /// The same with one map for each image, once there are maps.
    pub(crate) fn whole(&self) -> Result<Self> {
        match self.0.maps.get().is_none_or(|images| images.iter().all(|maps| maps.len() == 1)) {
            true => Ok(self.clone()),
            false => Ok(Self(Arc::new(Forms { maps: OnceLock::new(), tensor: OnceLock::from(self.tensor()?) }))),
        }
    }

    /// Whether a frozen layer has made it, or taken it.
    pub(crate) fn has_maps(&self) -> bool {
        self.0.maps.get().is_some()
    }

    /// The channels of both behind each other. Nothing is copied.
    pub(crate) fn join(&self, other: &Self) -> Result<Self> {
        let join = |(a, b): (&Image<E>, &Image<E>)| a.iter().chain(b).map(Arc::clone).collect();
        Ok(Self::of_images(self.images()?.iter().zip(other.images()?).map(join).collect()))
    }
}
