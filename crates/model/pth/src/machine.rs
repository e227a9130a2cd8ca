//! The pickle machine, as far as `torch.save` needs it (Python's `pickletools` describes its opcodes).

use std::collections::HashMap;

use crate::error::Problem;
use crate::object::{Id, Object, Objects};

/// Pickles of more bytes are none of a state dict.
pub(crate) const MOST_BYTES: usize = 1 << 28;

/// Runs the pickle at the beginning of `bytes`. Returns its object and what follows the pickle.
pub(crate) fn run<'b>(bytes: &'b [u8], objects: &mut Objects) -> Result<(Id, &'b [u8]), Problem> {
    let bytes_of_pickle = &bytes[..bytes.len().min(MOST_BYTES)];
    let mut machine = Machine { bytes: bytes_of_pickle, at: 0, objects, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let root = machine.run()?;
    let end = machine.at;
    Ok((root, &bytes[end..]))
}

struct Machine<'b, 'o> {
    bytes: &'b [u8],
    at: usize,
    objects: &'o mut Objects,
    stack: Vec<Id>,
    /// Where the stack stood at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

fn damaged(what: &str) -> Problem {
    Problem::Damaged(format!("the pickle is damaged: {what}"))
}

impl<'b> Machine<'b, '_> {
    fn run(&mut self) -> Result<Id, Problem> {
        loop {
            let op = self.byte()?;
            match op {
                b'.' => return self.pop(),
                // PROTO, FRAME: nothing to do.
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.marked()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(op)?,
                b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | 0x8a | 0x8b | b'G' => self.scalar(op)?,
                b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e => self.text(op)?,
                b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x90 | 0x91 | b'a' | b'e' | b's' | b'u' => {
                    self.collection(op)?;
                }
                b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.class(op)?,
                other => return Err(damaged(&format!("it has the opcode {other:#04x}, which torch.save does not write"))),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, n: usize) -> Result<&'b [u8], Problem> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or_else(|| damaged("it ends too soon"))?];
        self.at += n;
        Ok(taken)
    }

    fn skip(&mut self, n: usize) -> Result<(), Problem> {
        self.take(n).map(drop)
    }

    /// A number of `n` bytes, the lowest first.
    fn number(&mut self, n: usize) -> Result<u64, Problem> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, n: usize) -> Result<usize, Problem> {
        usize::try_from(self.number(n)?).map_err(|_| damaged("a length is too large"))
    }

    fn push(&mut self, object: Object) {
        let id = self.objects.add(object);
        self.stack.push(id);
    }

    fn pop(&mut self) -> Result<Id, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(damaged("it takes something from an empty stack"));
        }
        self.stack.pop().ok_or_else(|| damaged("it takes something from an empty stack"))
    }

    fn top(&self) -> Result<Id, Problem> {
        self.stack.last().copied().ok_or_else(|| damaged("it looks at an empty stack"))
    }

    /// What was pushed since the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, Problem> {
        let mark = self.marks.pop().ok_or_else(|| damaged("a mark is missing"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn memo(&mut self, op: u8) -> Result<(), Problem> {
        let place = match op {
            b'q' | b'h' => u32::from(self.byte()?),
            b'r' | b'j' => self.number(4)? as u32,
            _ => self.memo.len() as u32,
        };
        if matches!(op, b'h' | b'j') {
            let id = *self.memo.get(&place).ok_or_else(|| damaged("it asks for an object that it has not kept"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(place, top);
        }
        Ok(())
    }

    fn scalar(&mut self, op: u8) -> Result<(), Problem> {
        let object = match op {
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'K' => Object::Int(i64::from(self.byte()?)),
            b'M' => Object::Int(self.number(2)? as i64),
            b'J' => Object::Int(i64::from(self.number(4)? as u32 as i32)),
            b'G' => {
                self.skip(8)?;
                Object::Float
            }
            // Numbers of any length: the magic of the old format is one of 10 bytes.
            _ => {
                let n = self.length(if op == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(n)?;
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let filler = if negative { 0xff } else { 0 };
                let mut eight = [filler; 8];
                eight[..n.min(8)].copy_from_slice(&bytes[..n.min(8)]);
                Object::Int(i64::from_le_bytes(eight))
            }
        };
        self.push(object);
        Ok(())
    }

    fn text(&mut self, op: u8) -> Result<(), Problem> {
        let n = self.length(match op {
            0x8c | b'U' | b'C' => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        })?;
        let bytes = self.take(n)?;
        let is_text = !matches!(op, b'B' | b'C' | 0x8e);
        let object = if is_text { Object::Text(String::from_utf8_lossy(bytes).into_owned()) } else { Object::Bytes };
        self.push(object);
        Ok(())
    }

    fn collection(&mut self, op: u8) -> Result<(), Problem> {
        let object = match op {
            b')' => Object::Tuple(Vec::new()),
            b']' | 0x8f => Object::List(Vec::new()),
            b'}' => Object::Dict(Vec::new()),
            b't' => Object::Tuple(self.marked()?),
            b'l' | 0x91 => Object::List(self.marked()?),
            b'd' => Object::Dict(pairs(&self.marked()?)),
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..op - 0x84 {
                    items.insert(0, self.pop()?);
                }
                Object::Tuple(items)
            }
            _ => return self.fill(op),
        };
        self.push(object);
        Ok(())
    }

    /// Puts items into the list or dict below them.
    fn fill(&mut self, op: u8) -> Result<(), Problem> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.marked()?,
        };
        let top = self.top()?;
        match self.objects.get_mut(top) {
            Object::List(list) if matches!(op, b'a' | b'e' | 0x90) => list.extend(items),
            Object::Dict(dict) if matches!(op, b's' | b'u') => dict.extend(pairs(&items)),
            // What goes into an object of another class is of no use here.
            Object::Instance { .. } => {}
            other => return Err(damaged(&format!("it puts items into {}", other.kind()))),
        }
        Ok(())
    }

    fn class(&mut self, op: u8) -> Result<(), Problem> {
        match op {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Global(format!("{module}.{name}")));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let both = self.objects.text(module).zip(self.objects.text(name));
                let global = both.map(|(module, name)| format!("{module}.{name}")).ok_or_else(|| damaged("a class has no name"))?;
                self.push(Object::Global(global));
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = storage(self.objects, id).ok_or_else(|| damaged("a storage is not described as torch.save does"))?;
                self.push(storage);
            }
            b'b' => {
                self.pop()?;
                self.top()?;
            }
            _ => {
                if op == 0x92 {
                    self.pop()?;
                }
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = made(self.objects, function, arguments)?;
                match made {
                    Made::New(object) => self.push(object),
                    Made::Known(id) => self.stack.push(id),
                }
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String, Problem> {
        let rest = &self.bytes[self.at..];
        let length =
            rest.iter().take(1 << 10).position(|byte| *byte == b'\n').ok_or_else(|| damaged("the name of a class does not end"))?;
        let line = self.take(length + 1)?;
        Ok(String::from_utf8_lossy(&line[..length]).into_owned())
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)).collect()
}

/// `("storage", class, key, location, elements[, view])`; a view is `(key, offset, elements)`, or nothing.
fn storage(objects: &Objects, id: Id) -> Option<Object> {
    let parts = objects.tuple(id)?;
    if objects.text(*parts.first()?)? != "storage" {
        return None;
    }
    let Object::Global(class) = objects.get(*parts.get(1)?) else { return None };
    let key = objects.text(*parts.get(2)?)?;
    let offset = match parts.get(5).map(|view| objects.get(*view)) {
        Some(Object::Tuple(view)) => objects.size(*view.get(1)?)?,
        _ => 0,
    };
    Some(Object::Storage { class: class.clone(), key: key.to_owned(), offset })
}

enum Made {
    New(Object),
    Known(Id),
}

/// What a function or class makes of its arguments.
fn made(objects: &Objects, function: Id, arguments: Id) -> Result<Made, Problem> {
    let Object::Global(class) = objects.get(function) else {
        return Err(damaged(&format!("it calls {}", objects.get(function).kind())));
    };
    let arguments = objects.tuple(arguments).ok_or_else(|| damaged("a call has no arguments"))?;
    Ok(match (class.as_str(), arguments) {
        ("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", [storage, offset, shape, stride, ..]) => {
            let tensor = || -> Option<Object> {
                matches!(objects.get(*storage), Object::Storage { .. }).then_some(())?;
                let (shape, stride) = (objects.sizes(*shape)?, objects.sizes(*stride)?);
                let same = shape.len() == stride.len() && shape.len() <= 16;
                same.then_some(Object::Tensor { storage: *storage, offset: objects.size(*offset)?, shape, stride })
            };
            Made::New(tensor().ok_or_else(|| damaged("a tensor is not described as torch.save does"))?)
        }
        ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [tensor, ..]) => Made::Known(*tensor),
        ("collections.OrderedDict", _) => Made::New(Object::Dict(Vec::new())),
        _ => Made::New(Object::Instance { class: class.clone() }),
    })
}
