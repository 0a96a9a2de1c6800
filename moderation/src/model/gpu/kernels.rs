//! The launches of our own kernels (`kernels/bert.cu`), and the few other calls that the compiler cannot check.
//!
//! This is the only module of the crate where `unsafe` is allowed. Invariants that make it sound:
//!
//! * Every pointer that a kernel gets covers as many numbers as the kernel reads or writes: [`view`] cuts a slice of
//!   exactly that length and fails where the tensor is shorter, not contiguous, of another type or not on the GPU.
//! * Indices in tensors are within bounds because the caller built them: ids below the vocabulary, types below the
//!   types, positions below the positions ([`super::super::Model`] checks every text), bounds rising to the number of
//!   rows ([`super::packed`] makes them).
//! * Shapes are those that the kernels were written for: [`supported`] is asked before a model is loaded.
//! * All work goes to one stream, from one thread, so that no kernel sees half-written memory.

#![allow(unsafe_code, reason = "launching a kernel cannot be checked by the compiler; the invariants stand above")]

use std::ops::Deref;

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::{cublas, curand, driver};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{Layout, Result, Storage, Tensor, bail};
use half::f16;

/// The kernels as PTX for sm_75, which newer GPUs translate when it is loaded.
const PTX: &str = include_str!("../../../kernels/bert.ptx");

/// Why the kernels cannot run a model of this shape; `None` where they can.
pub(super) fn supported(hidden: usize, heads: usize, inner: usize) -> Option<String> {
    if hidden > 1_024 || !hidden.is_multiple_of(8) {
        return Some(format!("hidden_size {hidden} is beyond 1,024 or no multiple of 8"));
    }
    if !matches!(hidden / heads, 32 | 64) {
        return Some(format!("heads of {} numbers are neither 32 nor 64 wide", hidden / heads));
    }
    (!inner.is_multiple_of(8)).then(|| format!("intermediate_size {inner} is no multiple of 8"))
}

/// The libraries that a GPU needs and this machine lacks: opening a device without them would end the program.
pub(super) fn missing_libraries() -> Vec<&'static str> {
    // SAFETY: these only try to open a library by its name.
    let present = unsafe {
        [
            ("libcuda", driver::sys::is_culib_present()),
            ("libcublas", cublas::sys::is_culib_present()),
            ("libcurand", curand::sys::is_culib_present()),
        ]
    };
    present.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
}

/// Stops the bookkeeping of events between streams.
pub(super) fn use_one_stream(device: &CudaDevice) {
    // SAFETY: all work of this device goes to one stream, from one thread.
    unsafe { device.disable_event_tracking() }
}

/// The first `count` numbers of a tensor on the GPU.
fn view<'a, T: CudaDType + DeviceRepr>(
    guarded: &'a (impl Deref<Target = Storage>, &Layout),
    count: usize,
) -> Result<CudaView<'a, T>> {
    let (storage, layout) = guarded;
    let Storage::Cuda(storage) = &**storage else { bail!("a tensor is not on the GPU") };
    if !layout.is_contiguous() || layout.shape().elem_count() < count {
        bail!("a tensor has {:?} numbers in a row, a kernel needs {count}", layout.shape());
    }
    let from = layout.start_offset();
    match storage.as_cuda_slice::<T>()?.try_slice(from..from + count) {
        Some(view) => Ok(view),
        None => bail!("a tensor ends before the {count} numbers that a kernel needs"),
    }
}

fn wrap(numbers: CudaSlice<f16>, device: &CudaDevice, shape: (usize, usize)) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(numbers, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

fn grid(x: usize, y: usize, z: usize, threads: u32) -> Result<LaunchConfig> {
    let (Ok(x), Ok(y @ ..=65_535), Ok(z @ ..=65_535)) = (u32::try_from(x), u32::try_from(y), u32::try_from(z)) else {
        bail!("a batch of {x} × {y} × {z} blocks is too large for one launch");
    };
    Ok(LaunchConfig { grid_dim: (x, y, z), block_dim: (threads, 1, 1), shared_mem_bytes: 0 })
}

fn int(number: usize) -> Result<i32> {
    i32::try_from(number).map_err(candle_core::Error::wrap)
}

/// A layer normalisation on the GPU.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) gain: Tensor,
    pub(super) bias: Tensor,
    pub(super) eps: f32,
}

/// The tables of the embeddings, each of rows as wide as the model.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) words: Tensor,
    pub(super) positions: Tensor,
    pub(super) types: Tensor,
    pub(super) norm: Norm,
}

/// Launches kernels on one device.
#[derive(Debug, Clone)]
pub(super) struct Kernels {
    device: CudaDevice,
}

impl Kernels {
    pub(super) fn new(device: CudaDevice) -> Self {
        Self { device }
    }

    fn function(&self, name: &str) -> Result<CudaFunction> {
        Ok(self.device.get_or_load_custom_func(name, "keevo_bert", PTX)?.into_cuda_function())
    }

    /// The normalised sums of the three embeddings: `[rows, width]` for ids, types and positions of `rows` numbers.
    pub(super) fn embed(&self, tables: &Tables, ids: &Tensor, types: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (rows, width) = (ids.elem_count(), tables.words.dim(1)?);
        let function = self.function("embed_ln")?;
        let parts = [&tables.words, &tables.positions, &tables.types, &tables.norm.gain, &tables.norm.bias];
        let parts = parts.map(|part| (part, part.storage_and_layout()));
        let [words, places, kinds, gain, bias] = &parts;
        let (words, places) =
            (view::<f16>(&words.1, words.0.elem_count())?, view::<f16>(&places.1, places.0.elem_count())?);
        let kinds = view::<f16>(&kinds.1, kinds.0.elem_count())?;
        let (gain, bias) = (view::<f16>(&gain.1, width)?, view::<f16>(&bias.1, width)?);
        let (ids, types, positions) =
            (ids.storage_and_layout(), types.storage_and_layout(), positions.storage_and_layout());
        let (ids, types) = (view::<u32>(&ids, rows)?, view::<u32>(&types, rows)?);
        let positions = view::<u32>(&positions, rows)?;
        let (half, config) = (int(width / 2)?, grid(rows, 1, 1, 128)?);
        let stream = self.device.cuda_stream();
        // SAFETY: the kernel writes every number of `out` before anyone reads it; the module's invariants hold.
        let out = unsafe { self.device.alloc::<f16>(rows * width)? };
        let mut launch = stream.launch_builder(&function);
        launch.arg(&ids).arg(&types).arg(&positions).arg(&words).arg(&places).arg(&kinds).arg(&gain).arg(&bias);
        launch.arg(&out).arg(&half).arg(&tables.norm.eps);
        // SAFETY: as above; the arguments are those of `embed_ln`, in its order.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        Ok(wrap(out, &self.device, (rows, width)))
    }

    /// The normalised `x + bias + around`, each of `[rows, width]`.
    pub(super) fn bias_residual_norm(&self, x: &Tensor, bias: &Tensor, around: &Tensor, norm: &Norm) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let function = self.function("bias_res_ln")?;
        let parts = [x, bias, around, &norm.gain, &norm.bias].map(Tensor::storage_and_layout);
        let [x, bias, around, gain, shift] = &parts;
        let (x, around) = (view::<f16>(x, rows * width)?, view::<f16>(around, rows * width)?);
        let (bias, gain, shift) = (view::<f16>(bias, width)?, view::<f16>(gain, width)?, view::<f16>(shift, width)?);
        let (half, config) = (int(width / 2)?, grid(rows, 1, 1, 128)?);
        let stream = self.device.cuda_stream();
        // SAFETY: the kernel writes every number of `out` before anyone reads it; the module's invariants hold.
        let out = unsafe { self.device.alloc::<f16>(rows * width)? };
        let mut launch = stream.launch_builder(&function);
        launch.arg(&x).arg(&bias).arg(&around).arg(&gain).arg(&shift).arg(&out).arg(&half).arg(&norm.eps);
        // SAFETY: as above; the arguments are those of `bias_res_ln`, in its order.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        Ok(wrap(out, &self.device, (rows, width)))
    }

    /// GELU of `x + bias`, in the place of `x`: takes it by value, so that nobody else sees it change.
    pub(super) fn bias_gelu(&self, x: Tensor, bias: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let function = self.function("bias_gelu")?;
        {
            let (numbers, bias) = (x.storage_and_layout(), bias.storage_and_layout());
            let (numbers, bias) = (view::<f16>(&numbers, rows * width)?, view::<f16>(&bias, width)?);
            let (all, in_a_row) = (rows * width / 8, width / 8);
            let (config, all, in_a_row) = (grid(all.div_ceil(256), 1, 1, 256)?, int(all)?, int(in_a_row)?);
            let stream = self.device.cuda_stream();
            let mut launch = stream.launch_builder(&function);
            launch.arg(&numbers).arg(&bias).arg(&all).arg(&in_a_row);
            // SAFETY: the arguments are those of `bias_gelu`, in its order; each thread changes its own 8 numbers of
            // a tensor that only this function holds. The module's invariants hold.
            unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        }
        Ok(x)
    }

    /// Attention within each text: `qkv` is `[rows, 3 · width]` without its bias, `bounds` has `texts + 1` numbers,
    /// the longest text has `longest` tokens at most. Gives `[rows, width]`.
    pub(super) fn attend(
        &self,
        qkv: &Tensor,
        bias: &Tensor,
        bounds: &Tensor,
        longest: usize,
        heads: usize,
    ) -> Result<Tensor> {
        let (rows, width) = (qkv.dim(0)?, qkv.dim(1)? / 3);
        let texts = bounds.elem_count().saturating_sub(1);
        let size = width / heads;
        let function = self.function(if size == 64 { "attn64" } else { "attn32" })?;
        let parts = [qkv, bias, bounds].map(Tensor::storage_and_layout);
        let [qkv, bias, bounds] = &parts;
        let (qkv, bias) = (view::<f16>(qkv, rows * width * 3)?, view::<f16>(bias, width * 3)?);
        let bounds = view::<u32>(bounds, texts + 1)?;
        let config = grid(longest.div_ceil(64), heads, texts, 128)?;
        let (heads, scale) = (int(heads)?, 1.0 / f32::from(if size == 64 { 64_u8 } else { 32 }).sqrt());
        let stream = self.device.cuda_stream();
        // SAFETY: the texts cover all rows, so the kernel writes every number of `out` before anyone reads it.
        let out = unsafe { self.device.alloc::<f16>(rows * width)? };
        let mut launch = stream.launch_builder(&function);
        launch.arg(&qkv).arg(&bias).arg(&bounds).arg(&out).arg(&heads).arg(&scale);
        // SAFETY: as above; the arguments are those of `attn32` and `attn64`, in their order.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        Ok(wrap(out, &self.device, (rows, width)))
    }
}
