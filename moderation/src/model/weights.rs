//! `model.safetensors`: tensors by name, each checked against the shape that the configuration asks for.
//!
//! Invariant: numbers leave here as f32, whatever they were stored as, and none of them is NaN or infinite.

use std::path::Path;

use half::{bf16, f16};
use keevo_core::{Error, ErrorKind, Result};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::config::refused;

/// The largest file that is read: beyond any BERT, within any server.
const BYTES_MAX: u64 = 8 << 30;

/// The bytes of a weights file.
#[derive(Debug)]
pub(crate) struct File {
    bytes: Vec<u8>,
}

impl File {
    /// Reads `model.safetensors` of the folder `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("model.safetensors");
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Config, format!("cannot read {}: {error}; name the model's folder", path.display()))
        };
        let size = std::fs::metadata(&path).map_err(failed)?.len();
        if size > BYTES_MAX {
            return Err(refused(format!("{} has {size} bytes; at most {BYTES_MAX} are read", path.display())));
        }
        Ok(Self { bytes: std::fs::read(&path).map_err(failed)? })
    }

    /// A short name for exactly these weights: a checksum of the checksums of the file's mebibytes.
    pub(crate) fn version(&self) -> String {
        let sum = self.bytes.chunks(1 << 20).fold(0xcbf2_9ce4_8422_2325_u64, |sum, chunk| {
            let hash = u64::from(crc32fast::hash(chunk));
            (sum ^ hash).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{sum:016x}")
    }

    /// The tensors in it.
    pub(crate) fn tensors(&self) -> Result<Weights<'_>> {
        let tensors = SafeTensors::deserialize(&self.bytes)
            .map_err(|error| refused(format!("model.safetensors does not decode: {error}")))?;
        // Some checkpoints are stored without the prefix.
        let prefix = if tensors.names().iter().any(|name| name.starts_with("bert.")) { "bert." } else { "" };
        Ok(Weights { tensors, prefix })
    }
}

/// The tensors of a file.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl Weights<'_> {
    /// A tensor of the encoder, as `encoder.layer.0.output.dense.weight`, in f32, row by row.
    pub(crate) fn of_bert(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.get(&format!("{}{name}", self.prefix), shape)
    }

    /// A tensor by its whole name.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.tensors.tensor(name).map_err(|error| self.missing(name, error))?;
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(refused(format!("tensor {name} has the shape {found:?}; config.json asks for {shape:?}")));
        }
        let data = tensor.data();
        let numbers: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
            other => return Err(refused(format!("tensor {name} is of type {other:?}; F32, F16 and BF16 are read"))),
        };
        match numbers.iter().find(|number| !number.is_finite()) {
            Some(number) => Err(refused(format!("tensor {name} holds {number}: the file is damaged"))),
            None => Ok(numbers),
        }
    }

    /// How many rows the tensor `name` has, and the type of its numbers.
    pub(crate) fn rows(&self, name: &str) -> Result<(usize, Dtype)> {
        let tensor = self.tensors.tensor(name).map_err(|error| self.missing(name, error))?;
        match tensor.shape().first() {
            Some(rows) if *rows > 0 => Ok((*rows, tensor.dtype())),
            _ => Err(refused(format!("tensor {name} is empty"))),
        }
    }

    fn missing(&self, name: &str, error: SafeTensorError) -> Error {
        let count = self.tensors.len();
        refused(format!("tensor {name} is missing among the {count} of model.safetensors: is it a BERT classifier?"))
            .with_source(error)
    }
}
