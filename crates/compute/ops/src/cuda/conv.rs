//! Convolution and its gradients by cuDNN.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr, gemm_reduced_precision_f32};
use candle_core::{CudaStorage, Layout, Result, Shape, bail};

use super::cudnn::{Algorithm, Direction, Plan, Problem};
use super::{Operand, by_element_type, sums};
use crate::cpu::ConvShape;

/// Plans kept by a thread for a device; beyond, it starts anew. A network needs three for each of its layers and sizes.
const PLANS: usize = 4096;
/// Devices that a thread keeps anything for; beyond, it starts anew. Every `Device::new_cuda` makes one, of the same GPU too.
const DEVICES: usize = 4;

/// x and w to y. `axes` is 2 for images and 3 for volumes, here and below.
pub(crate) fn forward(shape: &ConvShape, axes: usize, x: Operand<'_>, w: Operand<'_>, bias: Option<Operand<'_>>) -> Result<CudaStorage> {
    let mut y = solve(Direction::Forward, shape, axes, x, w)?;
    if let Some(bias) = bias {
        sums::add_bias(&mut y, bias, shape.out_channels, shape.output().iter().product())?;
    }
    Ok(y)
}

/// dy and w to dx. As a transposed convolution it has a bias for each channel of x.
pub(crate) fn backward_data(
    shape: &ConvShape,
    axes: usize,
    dy: Operand<'_>,
    w: Operand<'_>,
    bias: Option<Operand<'_>>,
) -> Result<CudaStorage> {
    let mut dx = solve(Direction::Data, shape, axes, dy, w)?;
    if let Some(bias) = bias {
        sums::add_bias(&mut dx, bias, shape.in_channels, shape.input.iter().product())?;
    }
    Ok(dx)
}

/// x and dy to dw.
pub(crate) fn backward_filter(shape: &ConvShape, axes: usize, x: Operand<'_>, dy: Operand<'_>) -> Result<CudaStorage> {
    solve(Direction::Filter, shape, axes, x, dy)
}

/// What a thread keeps for a device. cuDNN's handles belong to one thread, as do the streams on which candle computes, so
/// that the workspace is never in use twice at a time.
struct Session {
    handle: Handle,
    plans: HashMap<Problem, Plan>,
    /// As large as the greatest need so far.
    workspace: Option<CudaSlice<u8>>,
}

struct Handle(sys::cudnnHandle_t);

impl Drop for Handle {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: it was made by `create_handle` and is destroyed once. At the end of a thread nobody hears of a failure.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

thread_local! {
    static SESSIONS: RefCell<HashMap<DeviceId, Session>> = RefCell::default();
}

impl Session {
    #[allow(unsafe_code)]
    fn new(stream: &CudaStream) -> Result<Self> {
        let handle = Handle(result::create_handle()?);
        // SAFETY: the handle was just made, and the device that owns the stream outlives what is done on it.
        unsafe { result::set_stream(handle.0, stream.cu_stream().cast()) }?;
        Ok(Self { handle, plans: HashMap::new(), workspace: None })
    }
}

/// The convolution of two arguments, in the order of the direction.
#[allow(unsafe_code)]
fn solve(direction: Direction, shape: &ConvShape, axes: usize, a: Operand<'_>, b: Operand<'_>) -> Result<CudaStorage> {
    let (device, dtype) = (a.0.device(), a.0.dtype());
    let problem = Problem { direction, shape: *shape, axes, dtype, tf32: gemm_reduced_precision_f32() };
    let (x, w, y) = (
        shape.batch * shape.in_channels * shape.input.iter().product::<usize>(),
        shape.out_channels * (shape.in_channels / shape.groups) * shape.taps(),
        shape.batch * shape.out_channels * shape.output().iter().product::<usize>(),
    );
    let [expected_a, expected_b, len] = match direction {
        Direction::Forward => [x, w, y],
        Direction::Data => [y, w, x],
        Direction::Filter => [x, y, w],
    };
    if b.0.dtype() != dtype || a.1.shape().elem_count() != expected_a || b.1.shape().elem_count() != expected_b {
        bail!("convolution on CUDA: arguments {:?} and {:?} of one element type expected to fit {problem:?}", a.1, b.1);
    }
    if shape.batch == 0 {
        return device.zeros_impl(&Shape::from(len), dtype);
    }
    // SAFETY: cuDNN writes every element.
    let mut out = unsafe { device.alloc_uninit(&Shape::from(len), dtype)? };
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    SESSIONS.with_borrow_mut(|sessions| {
        if sessions.len() >= DEVICES && !sessions.contains_key(&device.id()) {
            sessions.clear();
        }
        let session = match sessions.entry(device.id()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Session::new(&stream)?),
        };
        session.solve(device, &stream, &problem, a, b, &mut out)
    })?;
    Ok(out)
}

impl Session {
    #[allow(unsafe_code)]
    fn solve(
        &mut self,
        device: &CudaDevice,
        stream: &CudaStream,
        problem: &Problem,
        a: Operand<'_>,
        b: Operand<'_>,
        out: &mut CudaStorage,
    ) -> Result<()> {
        let handle = self.handle.0;
        if !self.plans.contains_key(problem) {
            if self.plans.len() >= PLANS {
                self.plans.clear();
            }
            self.plans.insert(*problem, Plan::new(handle, problem)?);
        }
        let Plan { descriptors: d, algorithm, workspace: needed } = &self.plans[problem];
        if self.workspace.as_ref().is_none_or(|held| held.len() < *needed) {
            // What was held goes first, so that the two are never there together.
            self.workspace = None;
            // SAFETY: nobody takes the content for anything.
            self.workspace = Some(unsafe { device.alloc::<u8>((*needed).max(1))? });
        }
        let Some(workspace) = &mut self.workspace else {
            bail!("convolution on CUDA: no workspace");
        };
        let size = workspace.len();
        let (workspace, _used) = workspace.device_ptr_mut(stream);
        let (workspace, one, zero) = (workspace as *mut c_void, &1f32, &0f32);
        let (one, zero) = (std::ptr::from_ref(one).cast(), std::ptr::from_ref(zero).cast());
        let ((a, _read_a), (b, _read_b), (out, _written)) = (read(a, stream)?, read(b, stream)?, written(out, stream)?);
        let (a, b, out) = (a as *const c_void, b as *const c_void, out as *mut c_void);
        // SAFETY: the descriptors are the plan's, and the buffers have the shapes and the element type that they describe,
        // which `solve` has checked; the workspace is at least as large as the plan's algorithm needs.
        unsafe {
            match *algorithm {
                Algorithm::Forward(by) => {
                    result::convolution_forward(handle, one, d.x, a, d.w, b, d.conv, by, workspace, size, zero, d.y, out)
                }
                Algorithm::Data(by) => {
                    result::convolution_backward_data(handle, one, d.w, b, d.y, a, d.conv, by, workspace, size, zero, d.x, out)
                }
                Algorithm::Filter(by) => {
                    result::convolution_backward_filter(handle, one, d.x, a, d.y, b, d.conv, by, workspace, size, zero, d.w, out)
                }
            }?;
        }
        Ok(())
    }
}

/// Where a contiguous tensor's elements start; what comes with it tells other streams until when it is read.
fn read<'a>((storage, layout): (&'a CudaStorage, &Layout), stream: &'a CudaStream) -> Result<(CUdeviceptr, SyncOnDrop<'a>)> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("convolution on CUDA: a contiguous tensor expected, found {layout:?}");
    };
    let offset = (start * storage.dtype().size_in_bytes()) as CUdeviceptr;
    by_element_type!(&storage.slice, slice, _suffix => {
        let (pointer, reading) = slice.device_ptr(stream);
        Ok((pointer + offset, reading))
    })
}

/// Where a result's elements start, likewise.
fn written<'a>(storage: &'a mut CudaStorage, stream: &'a CudaStream) -> Result<(CUdeviceptr, SyncOnDrop<'a>)> {
    by_element_type!(&mut storage.slice, slice, _suffix => Ok(slice.device_ptr_mut(stream)))
}
