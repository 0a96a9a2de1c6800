//! The launches of our own kernels (`kernels/bert.cu`), the products that end with their bias, and the few other calls
//! that the compiler cannot check.
//!
//! This is the only module of the crate where `unsafe` is allowed. Invariants that make it sound:
//!
//! * Every pointer that a kernel gets covers as many numbers as the kernel reads or writes: [`view`] cuts a slice of
//!   exactly that length and fails where the tensor is shorter, not contiguous, of another type or not on the GPU.
//! * Indices in tensors are within bounds because the caller built them: ids below the vocabulary, types below the
//!   types, positions below the positions ([`super::super::Model`] checks every text), bounds rising to the number of
//!   rows ([`super::packed`] makes them).
//! * Shapes are those that the kernels were written for: [`supported`] is asked before a model is loaded.
//! * All work goes to one stream, from one thread, so that no kernel sees half-written memory, and all products of
//!   cuBLASLt can share one workspace.

#![allow(unsafe_code, reason = "launching a kernel cannot be checked by the compiler; the invariants stand above")]

use std::ops::Deref;

use candle_core::cuda_backend::cudarc::cublaslt::{Activation, CudaBlasLT, Matmul, MatmulConfig};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::{cublas, cublaslt, curand, driver};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{Layout, Result, Storage, Tensor, bail};
use half::f16;

/// The kernels as PTX for sm_75, which newer GPUs translate when it is loaded.
const PTX: &str = include_str!("../../../kernels/bert.ptx");

/// The rows that one block takes of the kernels that work row by row: `ROWS` of `kernels/bert.cu`.
const ROWS_A_BLOCK: usize = 4;

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
            ("libcublasLt", cublaslt::sys::is_culib_present()),
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

/// Weights of `[out, in]` and biases.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weights: Tensor,
    pub(super) bias: Tensor,
}

/// Launches kernels on one device.
#[derive(Debug)]
pub(super) struct Kernels {
    device: CudaDevice,
    /// cuBLASLt and its workspace.
    products: CudaBlasLT,
}

impl Kernels {
    pub(super) fn new(device: CudaDevice) -> Result<Self> {
        let products = CudaBlasLT::new(device.cuda_stream()).map_err(candle_core::Error::wrap)?;
        Ok(Self { device, products })
    }

    fn function(&self, name: &str) -> Result<CudaFunction> {
        Ok(self.device.get_or_load_custom_func(name, "keevo_bert", PTX)?.into_cuda_function())
    }

    /// The normalised sums of the three embeddings: `[rows, width]` for ids, types and positions of `rows` numbers.
    pub(super) fn embed(&self, tables: &Tables, ids: &Tensor, types: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (rows, width) = (ids.elem_count(), tables.words.dim(1)?);
        let function = self.function("embed_norm")?;
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
        let (count, groups) = (int(rows)?, int(width / 8)?);
        let config = grid(rows.div_ceil(ROWS_A_BLOCK), 1, 1, 128)?;
        let stream = self.device.cuda_stream();
        // SAFETY: the kernel writes every number of `out` before anyone reads it; the module's invariants hold.
        let out = unsafe { self.device.alloc::<f16>(rows * width)? };
        let mut launch = stream.launch_builder(&function);
        launch.arg(&ids).arg(&types).arg(&positions).arg(&words).arg(&places).arg(&kinds).arg(&gain).arg(&bias);
        launch.arg(&out).arg(&count).arg(&groups).arg(&tables.norm.eps);
        // SAFETY: as above; the arguments are those of `embed_norm`, in its order.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        Ok(wrap(out, &self.device, (rows, width)))
    }

    /// The normalised `x + bias + around`, each of `[rows, width]`.
    pub(super) fn bias_residual_norm(&self, x: &Tensor, bias: &Tensor, around: &Tensor, norm: &Norm) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let function = self.function("bias_residual_norm")?;
        let parts = [x, bias, around, &norm.gain, &norm.bias].map(Tensor::storage_and_layout);
        let [x, bias, around, gain, shift] = &parts;
        let (x, around) = (view::<f16>(x, rows * width)?, view::<f16>(around, rows * width)?);
        let (bias, gain, shift) = (view::<f16>(bias, width)?, view::<f16>(gain, width)?, view::<f16>(shift, width)?);
        let (count, groups) = (int(rows)?, int(width / 8)?);
        let config = grid(rows.div_ceil(ROWS_A_BLOCK), 1, 1, 128)?;
        let stream = self.device.cuda_stream();
        // SAFETY: the kernel writes every number of `out` before anyone reads it; the module's invariants hold.
        let out = unsafe { self.device.alloc::<f16>(rows * width)? };
        let mut launch = stream.launch_builder(&function);
        launch.arg(&x).arg(&bias).arg(&around).arg(&gain).arg(&shift).arg(&out);
        launch.arg(&count).arg(&groups).arg(&norm.eps);
        // SAFETY: as above; the arguments are those of `bias_residual_norm`, in its order.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        Ok(wrap(out, &self.device, (rows, width)))
    }

    /// `x · weightsᵀ + bias`, and GELU of it where `gelu` says so: `[rows, in]` to `[rows, out]`. cuBLASLt adds both
    /// while the product is in registers; its GELU is the form with tanh (README.md says what that costs).
    pub(super) fn product(&self, x: &Tensor, linear: &Linear, gelu: bool) -> Result<Tensor> {
        let ((rows, depth), width) = (x.dims2()?, linear.bias.elem_count());
        let parts = [x, &linear.weights, &linear.bias].map(Tensor::storage_and_layout);
        let [x, weights, bias] = &parts;
        let (x, weights) = (view::<f16>(x, rows * depth)?, view::<f16>(weights, width * depth)?);
        let bias = view::<f16>(bias, width)?;
        let long = |number: usize| i64::try_from(number).map_err(candle_core::Error::wrap);
        // cuBLASLt counts by columns, so it sees everything transposed: outᵀ = weights · xᵀ.
        let config = MatmulConfig {
            transa: true,
            transb: false,
            transc: false,
            m: width as u64,
            n: rows as u64,
            k: depth as u64,
            alpha: 1.0,
            lda: long(depth)?,
            ldb: long(depth)?,
            beta: 0.0,
            ldc: long(width)?,
            stride_a: None,
            stride_b: None,
            stride_c: None,
            stride_bias: None,
            batch_size: None,
        };
        let activation = gelu.then_some(Activation::Gelu);
        // SAFETY: the product writes every number of `out` before anyone reads it; beta is 0, so it reads none.
        let mut out = unsafe { self.device.alloc::<f16>(rows * width)? };
        // SAFETY: the views cover `width · depth`, `rows · depth` and `width` numbers in rows as wide as `config` says.
        unsafe { self.products.matmul(config, &weights, &x, &mut out, Some(&bias), activation.as_ref()) }
            .map_err(candle_core::Error::wrap)?;
        Ok(wrap(out, &self.device, (rows, width)))
    }

    /// Attention within each text: `qkv` is `[rows, 3 · width]`, `bounds` has `texts + 1` numbers, the longest text has
    /// `longest` tokens at most. Gives `[rows, width]`.
    pub(super) fn attend(&self, qkv: &Tensor, bounds: &Tensor, longest: usize, heads: usize) -> Result<Tensor> {
        let (rows, width) = (qkv.dim(0)?, qkv.dim(1)? / 3);
        let texts = bounds.elem_count().saturating_sub(1);
        // Where texts are long, one block takes twice the queries, and so reads keys and values half as often.
        let long = rows > 64 * texts;
        let size = width / heads;
        let function = self.function(match (size, long) {
            (64, false) => "attend64",
            (64, true) => "attend64_long",
            (_, false) => "attend32",
            (_, true) => "attend32_long",
        })?;
        let parts = [qkv, bounds].map(Tensor::storage_and_layout);
        let [qkv, bounds] = &parts;
        let (qkv, bounds) = (view::<f16>(qkv, rows * width * 3)?, view::<u32>(bounds, texts + 1)?);
        let (queries, threads) = if long { (128, 256) } else { (64, 128) };
        let config = grid(longest.div_ceil(queries), heads, texts, threads)?;
        let scale = std::f32::consts::LOG2_E / f32::from(if size == 64 { 64_u8 } else { 32 }).sqrt();
        let heads = int(heads)?;
        let stream = self.device.cuda_stream();
        // SAFETY: the texts cover all rows, so the kernel writes every number of `out` before anyone reads it.
        let out = unsafe { self.device.alloc::<f16>(rows * width)? };
        let mut launch = stream.launch_builder(&function);
        launch.arg(&qkv).arg(&bounds).arg(&out).arg(&heads).arg(&scale);
        // SAFETY: as above; the arguments are those of `attend32` and the like, in their order.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        Ok(wrap(out, &self.device, (rows, width)))
    }
}
