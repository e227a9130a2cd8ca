//! The part of ONNX's messages that a network is read from (`onnx.proto`), where they lie in the file.

use super::wire::{Budget, Damage, Fields, Held};

/// A file.
#[derive(Default)]
pub(super) struct Model<'a> {
    /// The program that wrote it, and its version.
    pub(super) producer: [&'a str; 2],
    /// The versions of the operators, by domain; ONNX's own has no name.
    pub(super) operators: Vec<(&'a str, i64)>,
    pub(super) graph: Graph<'a>,
}

#[derive(Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) weights: Vec<Stored<'a>>,
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) outputs: Vec<Input<'a>>,
}

/// An operation.
#[derive(Default)]
pub(super) struct Node<'a> {
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) domain: &'a str,
    pub(super) attributes: Vec<(&'a str, Attribute<'a>)>,
}

/// What an attribute says.
pub(super) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a str),
    Tensor(Box<Stored<'a>>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// A graph, say.
    Other,
}

/// A tensor as it is stored.
#[derive(Default)]
pub(super) struct Stored<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<i64>,
    /// The number of its type.
    pub(super) kind: i64,
    pub(super) raw: Option<&'a [u8]>,
    pub(super) floats: Vec<f32>,
    pub(super) ints: Vec<i64>,
    /// Where its bytes lie in another file.
    pub(super) elsewhere: Vec<(&'a str, &'a str)>,
}

/// An input or output of the graph.
#[derive(Default)]
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    /// The number of its type; 0 if it is no tensor.
    pub(super) kind: i64,
    /// Sides; none where they are left open. None at all if nothing is said.
    pub(super) shape: Option<Vec<Option<i64>>>,
}

impl<'a> Model<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, Damage> {
        let (mut model, mut budget) = (Self::default(), Budget::default());
        for field in Fields::of(bytes) {
            let (tag, held) = field?;
            match tag {
                2 => model.producer[0] = held.text()?,
                3 => model.producer[1] = held.text()?,
                7 => model.graph.add(held.bytes()?, &mut budget)?,
                8 => model.operators.push(pair(held, &mut budget, Held::int)?),
                _ => {}
            }
        }
        if model.graph.nodes.is_empty() { Err("it has no nodes") } else { Ok(model) }
    }
}

/// A message of a name and something else, as ONNX has them for versions of operators and for files beside it.
fn pair<'a, T: Default>(
    held: Held<'a>,
    budget: &mut Budget,
    second: impl Fn(Held<'a>) -> Result<T, Damage>,
) -> Result<(&'a str, T), Damage> {
    budget.take()?;
    let mut pair = ("", T::default());
    for field in Fields::of(held.bytes()?) {
        match field? {
            (1, held) => pair.0 = held.text()?,
            (2, held) => pair.1 = second(held)?,
            _ => {}
        }
    }
    Ok(pair)
}

impl<'a> Graph<'a> {
    fn add(&mut self, bytes: &'a [u8], budget: &mut Budget) -> Result<(), Damage> {
        for field in Fields::of(bytes) {
            let (tag, held) = field?;
            match tag {
                1 => self.nodes.push(Node::of(held.bytes()?, budget)?),
                5 => self.weights.push(Stored::of(held.bytes()?, budget)?),
                11 => self.inputs.push(Input::of(held.bytes()?, budget)?),
                12 => self.outputs.push(Input::of(held.bytes()?, budget)?),
                15 => return Err("it has sparse weights"),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> Node<'a> {
    fn of(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, Damage> {
        budget.take()?;
        let mut node = Self::default();
        for field in Fields::of(bytes) {
            let (tag, held) = field?;
            match tag {
                1 | 2 => {
                    budget.take()?;
                    if tag == 1 { &mut node.inputs } else { &mut node.outputs }.push(held.text()?);
                }
                3 => node.name = held.text()?,
                4 => node.op = held.text()?,
                5 => node.attributes.push(attribute(held.bytes()?, budget)?),
                7 => node.domain = held.text()?,
                _ => {}
            }
        }
        Ok(node)
    }

    /// Its name, or that of what it gives.
    pub(super) fn title(&self) -> &'a str {
        if self.name.is_empty() { self.outputs.first().copied().unwrap_or_default() } else { self.name }
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|(own, _)| *own == name).map(|(_, attribute)| attribute)
    }
}

/// An attribute and its name. What is 0 is left out of the file, so that the type decides.
fn attribute<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<(&'a str, Attribute<'a>), Damage> {
    budget.take()?;
    let (mut name, mut kind, mut float, mut int, mut text, mut tensor) = ("", 0, 0.0, 0, "", None);
    let (mut floats, mut ints, mut seen) = (Vec::new(), Vec::new(), 0);
    for field in Fields::of(bytes) {
        let (tag, held) = field?;
        match tag {
            1 => name = held.text()?,
            2 => float = held.float()?,
            3 => int = held.int()?,
            4 => text = held.text().unwrap_or_default(),
            5 => tensor = Some(Stored::of(held.bytes()?, budget)?),
            7 => held.add_floats(&mut floats)?,
            8 => held.add_ints(&mut ints)?,
            20 => kind = held.int()?,
            _ => {}
        }
        if (2..=8).contains(&tag) {
            // Files of the first versions do not say the type.
            seen = [1, 2, 3, 4, 0, 6, 7][tag as usize - 2];
        }
    }
    let is = match (if kind == 0 { seen } else { kind }, tensor) {
        (1, _) => Attribute::Float(float),
        (2, _) => Attribute::Int(int),
        (3, _) => Attribute::Text(text),
        (4, Some(tensor)) => Attribute::Tensor(Box::new(tensor)),
        (6, _) => Attribute::Floats(floats),
        (7, _) => Attribute::Ints(ints),
        _ => Attribute::Other,
    };
    Ok((name, is))
}

impl<'a> Stored<'a> {
    fn of(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, Damage> {
        budget.take()?;
        let mut tensor = Self::default();
        for field in Fields::of(bytes) {
            let (tag, held) = field?;
            match tag {
                1 => held.add_ints(&mut tensor.dims)?,
                2 => tensor.kind = held.int()?,
                4 => held.add_floats(&mut tensor.floats)?,
                5 | 7 | 11 => held.add_ints(&mut tensor.ints)?,
                8 => tensor.name = held.text()?,
                9 => tensor.raw = Some(held.bytes()?),
                10 => held.add_doubles(&mut tensor.floats)?,
                13 => tensor.elsewhere.push(pair(held, budget, Held::text)?),
                _ => {}
            }
        }
        Ok(tensor)
    }
}

impl<'a> Input<'a> {
    fn of(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, Damage> {
        budget.take()?;
        let mut input = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, held) => input.name = held.text()?,
                (2, held) => input.typed(held, budget)?,
                _ => {}
            }
        }
        Ok(input)
    }

    /// Reads a type: a tensor's has the type of its values and a shape.
    fn typed(&mut self, held: Held<'a>, budget: &mut Budget) -> Result<(), Damage> {
        for field in Fields::of(held.bytes()?) {
            let (1, tensor) = field? else { continue };
            for field in Fields::of(tensor.bytes()?) {
                match field? {
                    (1, held) => self.kind = held.int()?,
                    (2, held) => self.shape = Some(sides(held, budget)?),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn sides(held: Held<'_>, budget: &mut Budget) -> Result<Vec<Option<i64>>, Damage> {
    let mut sides = Vec::new();
    for field in Fields::of(held.bytes()?) {
        let (1, side) = field? else { continue };
        budget.take()?;
        let mut value = None;
        for field in Fields::of(side.bytes()?) {
            if let (1, held) = field? {
                value = Some(held.int()?);
            }
        }
        sides.push(value);
    }
    Ok(sides)
}
