//! Operations on single values, and on the whole numbers that shapes are made of.

use candle_core::{DType, Device, Tensor};
use graph::{Function, Op, broadcast};

use super::node::{Ask, floats, whole_numbers};
use super::tensor::element;
use super::translate::{Known, Translator, numbers};

/// More numbers than any range of a shape's arithmetic has.
const LONGEST_RANGE: i64 = 1 << 20;

pub(super) fn translate(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let each = |function| (Op::Each(function), ask.input(0));
    let (op, x) = match ask.op() {
        "Identity" | "Dropout" => return ask.input(0),
        "Constant" => return constant(ask),
        "ConstantOfShape" => return filled(to, ask),
        "Cast" => return cast(ask),
        "Range" => return range(ask),
        "Equal" | "Where" => return chosen(to, ask),
        "Add" => return two(to, Op::Add, i64::checked_add, ask),
        "Sub" => return two(to, Op::Subtract, i64::checked_sub, ask),
        "Mul" => return two(to, Op::Multiply, i64::checked_mul, ask),
        "Div" => return two(to, Op::Divide, i64::checked_div, ask),
        "MatMul" => return to.emit(Op::Product, &[ask.input(0)?, ask.input(1)?], ask.name()),
        "Sum" => {
            let all = ask.all();
            let first = all.first().ok_or("it has no inputs")?.clone();
            return all[1..].iter().try_fold(first, |sum, x| to.emit(Op::Add, &[sum, x.clone()], ask.name()));
        }
        "PRelu" => return sloped(to, ask),
        "Relu" => each(Function::LeakyRelu { slope: 0.0 }),
        "LeakyRelu" => each(Function::LeakyRelu { slope: ask.float("alpha", 0.01)? }),
        "Elu" => each(Function::Elu { alpha: ask.float("alpha", 1.0)? }),
        "Clip" => each(clip(ask)?),
        "Sigmoid" => each(Function::Sigmoid),
        "Tanh" => each(Function::Tanh),
        "Erf" => each(Function::Erf),
        "Exp" => each(Function::Exp),
        "Log" => each(Function::Log),
        "Sqrt" => each(Function::Sqrt),
        "Floor" => each(Function::Floor),
        "Ceil" => each(Function::Ceil),
        "Neg" => each(Function::Negative),
        "Abs" => each(Function::Absolute),
        _ => return Err("it is not supported".into()),
    };
    to.emit(op, &[x?], ask.name())
}

fn constant(ask: &Ask<'_>) -> Result<Known, String> {
    let named = |tensor| Known::Constant { tensor, name: ask.name().to_owned() };
    for name in ["value", "value_float", "value_floats", "value_int", "value_ints"] {
        if let Some(tensor) = ask.tensor(name)? {
            return Ok(named(tensor));
        }
    }
    Err("it has no value".into())
}

fn filled(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let asked = ask.numbers(0)?.ok_or("its shape is missing")?;
    let shape: Option<Vec<usize>> = asked.iter().map(|side| usize::try_from(*side).ok()).collect();
    let shape = shape.ok_or_else(|| format!("the shape {asked:?}"))?;
    to.count(&shape)?;
    let value = ask.tensor("value")?;
    let value =
        value.map_or_else(|| Tensor::zeros(1, DType::F32, &Device::Cpu), |value| value.flatten_all()).map_err(|error| error.to_string())?;
    if value.elem_count() != 1 {
        return Err(format!("a value of shape {:?}", value.dims()));
    }
    // Shapes without places and without axes have no value to be spread.
    let rank = shape.len();
    let spread = value.reshape(vec![1; rank]).and_then(|one| one.broadcast_as(shape)?.contiguous()).map_err(|error| error.to_string())?;
    Ok(Known::Constant { tensor: spread, name: ask.name().to_owned() })
}

/// Values stay what they are, whatever their precision there.
fn cast(ask: &Ask<'_>) -> Result<Known, String> {
    let kind = ask.int("to", 1)?;
    let element = element(kind).ok_or_else(|| format!("to values of type {kind}"))?;
    match ask.input(0)? {
        Known::Constant { tensor, name } if element.is_float() => {
            let tensor = tensor.to_dtype(DType::F32).map_err(|error| error.to_string())?;
            Ok(Known::Constant { tensor, name })
        }
        Known::Constant { tensor, .. } if tensor.dtype() == DType::F32 => {
            #[expect(clippy::cast_possible_truncation, reason = "what is too large becomes the largest number")]
            let whole: Vec<i64> = floats(&tensor)?.iter().map(|value| *value as i64).collect();
            numbers(ask.name(), &whole, tensor.dims())
        }
        value @ Known::Value(_) if !element.is_float() => Err(format!("{value:?} becomes whole numbers (type {kind}); expected values")),
        known => Ok(known),
    }
}

fn range(ask: &Ask<'_>) -> Result<Known, String> {
    let one = |k: usize| match ask.numbers(k)?.as_deref() {
        Some([number]) => Ok(*number),
        _ => Err(format!("its input {k} is no number")),
    };
    let (start, end, step) = (one(0)?, one(1)?, one(2)?);
    let count = end.checked_sub(start).zip(step.checked_neg()).and_then(|(way, _)| way.checked_div(step).map(|_| way));
    let way = count.ok_or_else(|| format!("from {start} to {end} by {step}"))?;
    let places = (way / step + i64::from(way % step != 0)).clamp(0, LONGEST_RANGE + 1);
    if places > LONGEST_RANGE || (way > 0) != (step > 0) && way != 0 {
        return Err(format!("from {start} to {end} by {step}"));
    }
    let found: Vec<i64> = (0..places).map(|k| start + k * step).collect();
    numbers(ask.name(), &found, &[found.len()])
}

/// A shape, and the whole numbers of two constants that go together in it.
type Pair = (Vec<usize>, Vec<i64>, Vec<i64>);

/// Whole numbers of two constants that go together.
fn together(to: &mut Translator, a: &Tensor, b: &Tensor) -> Result<Pair, String> {
    let shape = broadcast(a.dims(), b.dims())?;
    to.count(&shape)?;
    let spread = |x: &Tensor| x.broadcast_as(&shape[..]).and_then(|x| x.contiguous()).map_err(|error| error.to_string());
    let (a, b) = (whole_numbers(&spread(a)?)?, whole_numbers(&spread(b)?)?);
    Ok((shape, a, b))
}

/// An operation on two values, or on whole numbers of shapes.
fn two(to: &mut Translator, op: Op, whole: fn(i64, i64) -> Option<i64>, ask: &Ask<'_>) -> Result<Known, String> {
    let (a, b) = (ask.input(0)?, ask.input(1)?);
    if let (Known::Constant { tensor: a, .. }, Known::Constant { tensor: b, .. }) = (&a, &b)
        && a.dtype() == DType::I64
    {
        let (shape, a, b) = together(to, a, b)?;
        let found = a.iter().zip(&b).map(|(a, b)| whole(*a, *b)).collect::<Option<Vec<_>>>();
        return numbers(ask.name(), &found.ok_or("its numbers are beyond all bounds")?, &shape);
    }
    to.emit(op, &[a, b], ask.name())
}

/// Comparison of, and choice among, whole numbers.
fn chosen(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let constant = |k: usize| ask.constant(k)?.ok_or_else(|| format!("its input {k} is missing"));
    let (shape, a, b) =
        if ask.op() == "Equal" { together(to, &constant(0)?, &constant(1)?)? } else { together(to, &constant(1)?, &constant(2)?)? };
    if ask.op() == "Equal" {
        let same: Vec<i64> = a.iter().zip(&b).map(|(a, b)| i64::from(a == b)).collect();
        return numbers(ask.name(), &same, &shape);
    }
    let spread = numbers("", &a, &shape)?;
    let Known::Constant { tensor, .. } = &spread else { return Ok(spread) };
    let (whole, condition, _) = together(to, &constant(0)?, tensor)?;
    if whole != shape {
        return Err(format!("a condition of another shape than {shape:?}"));
    }
    let found: Vec<i64> = (0..a.len()).map(|k| if condition[k] != 0 { a[k] } else { b[k] }).collect();
    numbers(ask.name(), &found, &shape)
}

fn clip(ask: &Ask<'_>) -> Result<Function, String> {
    let bound = |k: usize, name: &str, none: f32| match ask.floats(k)? {
        Some(values) => Ok::<f32, String>(values[0]),
        None => Ok(ask.float(name, none)? as f32),
    };
    let (low, high) = (bound(1, "min", f32::MIN)?, bound(2, "max", f32::MAX)?);
    if low <= high { Ok(Function::Clip { low, high }) } else { Err(format!("from {low} to {high}")) }
}

fn sloped(to: &mut Translator, ask: &Ask<'_>) -> Result<Known, String> {
    let (x, slopes) = (ask.input(0)?, ask.input(1)?);
    if let Some([slope]) = ask.floats(1)?.as_deref() {
        return to.emit(Op::Each(Function::LeakyRelu { slope: (*slope).into() }), &[x], ask.name());
    }
    to.emit(Op::Sloped, &[x, slopes], ask.name())
}
