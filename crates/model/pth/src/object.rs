//! What a pickle builds. Objects refer to each other by number: nothing is copied, and dropping them needs no stack.

/// The number of an object.
pub(crate) type Id = u32;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(String),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or class, such as `torch.FloatStorage`.
    Global(String),
    /// What a class or function other than those below would make.
    Instance {
        class: String,
    },
    /// The numbers behind tensors.
    Storage {
        class: String,
        key: String,
        /// Where this storage begins within the one of that key.
        offset: u64,
    },
    Tensor {
        storage: Id,
        offset: u64,
        shape: Vec<u64>,
        stride: Vec<u64>,
    },
}

impl Object {
    /// In words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float => "a float",
            Self::Text(_) => "a text",
            Self::Bytes => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a function or class",
            Self::Instance { .. } => "an object of some class",
            Self::Storage { .. } => "a storage",
            Self::Tensor { .. } => "a tensor",
        }
    }
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(crate) struct Objects(Vec<Object>);

impl Objects {
    pub(crate) fn add(&mut self, object: Object) -> Id {
        self.0.push(object);
        // A pickle of 4 GiB cannot be: see `machine::MOST_BYTES`.
        (self.0.len() - 1) as Id
    }

    pub(crate) fn all(&self) -> &[Object] {
        &self.0
    }

    pub(crate) fn get(&self, id: Id) -> &Object {
        &self.0[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> &mut Object {
        &mut self.0[id as usize]
    }

    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        if let Object::Text(text) = self.get(id) { Some(text) } else { None }
    }

    pub(crate) fn size(&self, id: Id) -> Option<u64> {
        if let Object::Int(int) = self.get(id) { u64::try_from(*int).ok() } else { None }
    }

    pub(crate) fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Object::Tuple(items) = self.get(id) { Some(items) } else { None }
    }

    /// A tuple of sizes.
    pub(crate) fn sizes(&self, id: Id) -> Option<Vec<u64>> {
        self.tuple(id)?.iter().map(|item| self.size(*item)).collect()
    }
}
