//! The layers of the encoder-decoders for partial labels.

use candle_core::{DType, Result, Tensor, bail};
use nets::{ConvNorm, DynamicHead, Layers, Params, standardized};

use crate::graph::{Is, Value};
use crate::recorder::{Recorder, Walk, unknown};

impl Layers for Recorder<'_> {
    fn conv_norm(&self, name: &str, x: &Value, how: ConvNorm) -> Result<Value> {
        let get = |leaf: &str| self.weights(&format!("{name}.{leaf}"));
        let kernel = how.padding.map(|side| 2 * side + 1);
        let walk = Walk { kernel: &kernel, stride: &how.stride, padding: &how.padding };
        let y = self.conv(&format!("{name}.conv"), x, &get("conv.weight")?, None, &walk);
        let [scale, shift] = match how.learnt {
            true => [get("norm.weight")?, get("norm.bias")?],
            false => {
                let channels = self.params.get(&format!("{name}.conv.weight"))?.dim(0)?;
                [self.constant(1.0, channels)?, self.constant(0.0, channels)?]
            }
        };
        let y = self.norm(&format!("{name}.norm"), &y, &scale, &shift);
        Ok(if how.slope == 1.0 { y } else { self.leaky(name, &y, how.slope) })
    }

    fn raise(&self, name: &str, x: &Value, stride: [usize; 3], bias: bool) -> Result<Value> {
        let bias = bias.then(|| self.weights(&format!("{name}.bias"))).transpose()?;
        Ok(self.raised(name, x, &self.weights(&format!("{name}.weight"))?, bias.as_deref(), &stride))
    }

    fn average(&self, name: &str, x: &Value, size: [usize; 3]) -> Result<Value> {
        let ints = || Is::Ints(size.iter().map(|&n| n as i64).collect());
        Ok(self.node(&format!("{name}.mean"), "AveragePool", &[&x.0], &[("kernel_shape", ints()), ("strides", ints())]))
    }

    fn standard_conv(&self, name: &str, x: &Value, stride: usize, padding: usize) -> Result<Value> {
        // In double precision, so that the graph is the same to the byte on every machine.
        let make = || standardized(&self.params.get(&format!("{name}.weight"))?.to_dtype(DType::F64)?);
        let weight = self.made(&format!("{name}.weight.standardized"), make)?;
        let walk = Walk { kernel: &[2 * padding + 1; 3], stride: &[stride; 3], padding: &[padding; 3] };
        Ok(self.conv(name, x, &weight, None, &walk))
    }

    /// As an instance norm of the groups: the operation of this name came with a later version of the operators.
    fn group_norm_relu(&self, name: &str, x: &Value, groups: usize) -> Result<Value> {
        let part = |leaf: &str| format!("{name}.{leaf}");
        let rows = self.node(&part("groups"), "Reshape", &[&x.0, &self.numbers(&[0, groups as i64, -1])], &[]);
        let rows = self.norm(&part("moments"), &rows, &self.constant(1.0, groups)?, &self.constant(0.0, groups)?);
        let normed = self.node(&part("normed"), "Reshape", &[&rows.0, &self.shape(x, 0, None).0], &[]);
        let by_channel =
            |leaf: &str| self.made(&part(&format!("{leaf}.by_channel")), || self.params.get(&part(leaf))?.reshape(((), 1, 1, 1)));
        let scaled = self.node(&part("scaled"), "Mul", &[&normed.0, &by_channel("weight")?], &[]);
        let shifted = self.node(&part("shifted"), "Add", &[&scaled.0, &by_channel("bias")?], &[]);
        Ok(self.node(&part("act"), "Relu", &[&shifted.0], &[]))
    }

    fn resize_like(&self, x: &Value, like: &Value) -> Result<Value> {
        let sizes = self.shape_of(&format!("{}.resized", x.0), &[&self.shape(x, 0, Some(2)).0, &self.shape(like, 2, None).0]);
        let how = [("mode", Is::Text("linear")), ("coordinate_transformation_mode", Is::Text("half_pixel"))];
        Ok(self.node(&format!("{}.resized", x.0), "Resize", &[&x.0, "", "", &sizes.0], &how))
    }

    fn add(&self, a: &Value, b: &Value) -> Result<Value> {
        Ok(self.node(&format!("{}.sum", a.0), "Add", &[&a.0, &b.0], &[]))
    }

    fn add_leaky_relu(&self, a: &Value, b: &Value, slope: f64) -> Result<Value> {
        let sum = self.add(a, b)?;
        Ok(self.leaky(&sum.0, &sum, slope))
    }

    fn join(&self, a: &Value, b: &Value) -> Result<Value> {
        Ok(self.concat(&a.0, &[a, b]))
    }

    fn beside(&self, map: Value, values: &[f32]) -> Result<Value> {
        if values.is_empty() {
            return Ok(map);
        }
        let number = values.len();
        let told = self.code(values, &[1, number, 1, 1, 1])?;
        let parts = [&self.shape(&map, 0, Some(1)).0, &self.numbers(&[number as i64]), &self.shape(&map, 2, None).0];
        let shape = self.shape_of(&format!("{}.told", map.0), &parts.map(String::as_str));
        let told = self.node(&format!("{}.told", map.0), "Expand", &[&told, &shape.0], &[]);
        Ok(self.concat(&map.0, &[&map, &told]))
    }

    /// The graph is of one sample, which stands for all samples of a batch.
    fn select(&self, map: &Value, samples: &[usize]) -> Result<Value> {
        if samples != [0] {
            bail!("a graph is of one sample, found {samples:?}");
        }
        Ok(map.clone())
    }

    fn mean(&self, map: &Value) -> Result<Value> {
        let mean = self.node(&format!("{}.mean", map.0), "GlobalAveragePool", &[&map.0], &[]);
        Ok(self.node(&format!("{}.mean.rows", map.0), "Reshape", &[&mean.0, &self.numbers(&[0, -1])], &[]))
    }

    /// The logits of the tasks stand behind each other as channels.
    fn dynamic_head(&self, head: &DynamicHead<'_, Value>, pairs: &[(usize, usize)]) -> Result<Value> {
        let map = head.map;
        let width = head.layers.first().map_or(0, |layer| layer.0);
        let voxels = self.node("dynamic.voxels", "Reshape", &[&map.0, &self.numbers(&[0, width as i64, -1])], &[]);
        let of_task = |&(_, task): &(usize, usize)| self.filtered(head, &voxels, &self.filters(head, task)?);
        let tasks = pairs.iter().map(of_task).collect::<Result<Vec<Value>>>()?;
        let joined = self.concat("dynamic", &tasks.iter().collect::<Vec<_>>());
        let channels = pairs.len() * head.layers.last().map_or(0, |layer| layer.1);
        let parts = [&self.shape(map, 0, Some(1)).0, &self.numbers(&[channels as i64]), &self.shape(map, 2, None).0];
        let shape = self.shape_of("dynamic.logits", &parts.map(String::as_str));
        Ok(self.node("dynamic.logits", "Reshape", &[&joined.0, &shape.0], &[]))
    }

    fn as_trained(&self, what: &str, _: &[&Value], _: impl FnOnce(&Params, &[&Tensor]) -> Result<Vec<Tensor>>) -> Result<Vec<Value>> {
        Err(unknown(what))
    }
}

impl Recorder<'_> {
    /// So many equal values.
    fn constant(&self, value: f32, count: usize) -> Result<String> {
        self.made(&format!("{value}[{count}]"), || Tensor::full(value, count, &candle_core::Device::Cpu))
    }

    /// Values that tell a task, in that shape.
    fn code(&self, values: &[f32], shape: &[usize]) -> Result<String> {
        let name = format!("code{values:?}{shape:?}");
        self.made(&name, || Tensor::from_slice(values, shape, &candle_core::Device::Cpu))
    }

    /// What the controller makes for a task, `(b, generated)`.
    fn filters(&self, head: &DynamicHead<'_, Value>, task: usize) -> Result<Value> {
        let mut seen: Vec<Value> = head.pooled.into_iter().cloned().collect();
        if head.tasks > 0 {
            let code: Vec<f32> = (0..head.tasks).map(|k| f32::from(u8::from(k == task))).collect();
            let shape = self.shape_of("controller.code", &[&self.shape(head.map, 0, Some(1)).0, &self.numbers(&[head.tasks as i64])]);
            let code = self.code(&code, &[1, head.tasks])?;
            seen.push(self.node("controller.code", "Expand", &[&code, &shape.0], &[]));
        }
        let seen = self.concat("controller", &seen.iter().collect::<Vec<_>>());
        let weight = self.made("controller.weight.rows", || self.params.get("controller.weight")?.flatten_from(1))?;
        let inputs = [&seen.0, &weight, &self.weights("controller.bias")?];
        Ok(self.node("controller", "Gemm", &inputs.map(String::as_str), &[("transB", Is::Int(1))]))
    }

    /// The layers of a task over `voxels (b, width, n)`, to `(b, outputs, n)`.
    fn filtered(&self, head: &DynamicHead<'_, Value>, voxels: &Value, filters: &Value) -> Result<Value> {
        let cut = |from: usize, length: usize, shape: [usize; 2]| {
            let [from, to] = [from, from + length].map(|at| self.numbers(&[at as i64]));
            let part = self.node("dynamic.part", "Slice", &[&filters.0, &from, &to, &self.numbers(&[1])], &[]);
            self.node("dynamic.filter", "Reshape", &[&part.0, &self.numbers(&[0, shape[0] as i64, shape[1] as i64])], &[])
        };
        let mut weight_at = 0;
        let mut bias_at = head.layers.iter().map(|(inputs, outputs)| inputs * outputs).sum();
        let mut x = voxels.clone();
        for (layer, &(inputs, outputs)) in head.layers.iter().enumerate() {
            let weight = cut(weight_at, inputs * outputs, [outputs, inputs]);
            let bias = cut(bias_at, outputs, [outputs, 1]);
            x = self.node("dynamic.product", "MatMul", &[&weight.0, &x.0], &[]);
            x = self.node("dynamic.sum", "Add", &[&x.0, &bias.0], &[]);
            if layer + 1 < head.layers.len() {
                x = self.node("dynamic.act", "Relu", &[&x.0], &[]);
            }
            weight_at += inputs * outputs;
            bias_at += outputs;
        }
        Ok(x)
    }
}
