//! The model on an NVIDIA GPU, in f16: packed batches, our own kernels between the matrix products, recorded graphs
//! for small batches.
//!
//! Everything on the GPU belongs to one thread; batches come to it through a channel. Before a device is opened the
//! libraries are looked for, so that the same program starts on a machine without a GPU. Invariant: a batch that
//! needs more memory than is free is halved until it fits; one text that does not fit is an error of its own.

mod graphs;
mod kernels;
mod network;
mod packed;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use candle_core::{DType, Device};
use keevo_core::{Error, ErrorKind, Result};

use self::graphs::Graphs;
use self::kernels::Kernels;
use self::network::Network;
use self::packed::{Packed, Size};
use super::config::Config;
use super::weights::{File, Weights};
use crate::classify::Tokens;

/// The most tokens of one forward pass: about 1 GiB of activations for BERT-base.
const ROWS_MAX: usize = 65_536;
/// The most texts of one forward pass, within a launch's third dimension.
const TEXTS_MAX: usize = 32_768;

type Scores = Result<Vec<Vec<f32>>>;

/// A batch and where its scores go.
struct Job {
    batch: Vec<Tokens>,
    answer: SyncSender<Scores>,
}

/// A model on a GPU, asked through a channel.
#[derive(Debug)]
pub(crate) struct GpuModel {
    jobs: Mutex<SyncSender<Job>>,
}

impl GpuModel {
    /// Puts a model onto the first GPU and runs it once. `Unavailable` where there is none that can.
    pub(crate) fn load(config: &Config, file: &Arc<File>, labels: usize) -> Result<Self> {
        let (hidden, heads, inner) = (config.hidden_size, config.num_attention_heads, config.intermediate_size);
        if let Some(reason) = kernels::supported(hidden, heads, inner) {
            return Err(unavailable(format!("the GPU kernels do not fit the model: {reason}")));
        }
        let missing = kernels::missing_libraries();
        if !missing.is_empty() {
            return Err(unavailable(format!("no GPU can be used: {} not found", missing.join(", "))));
        }
        let (jobs, todo) = sync_channel::<Job>(1);
        let (ready_tx, ready) = sync_channel(1);
        let (config, file) = (config.clone(), Arc::clone(file));
        let run = move || {
            let loaded = file.tensors().and_then(|weights| Worker::load(&config, &weights, labels));
            drop((file, config));
            match loaded {
                Ok(mut worker) => {
                    if ready_tx.send(Ok(())).is_ok() {
                        worker.run(&todo);
                    }
                }
                Err(error) => drop(ready_tx.send(Err(error))),
            }
        };
        let spawned = thread::Builder::new().name("classify-gpu".to_owned()).spawn(run);
        spawned.map_err(|error| unavailable(format!("cannot start the GPU's thread: {error}")))?;
        ready.recv().map_err(|error| failed("the GPU's thread ended", error))??;
        let model = Self { jobs: Mutex::new(jobs) };
        model.forward(vec![Tokens { ids: vec![0; 3], types: vec![0; 3] }])?;
        Ok(model)
    }

    /// Raw scores of each text: their tokens were checked before.
    pub(crate) fn forward(&self, batch: Vec<Tokens>) -> Scores {
        let (answer, scores) = sync_channel(1);
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        jobs.send(Job { batch, answer }).map_err(|error| failed("the GPU's thread ended", error))?;
        scores.recv().map_err(|error| failed("the GPU's thread ended", error))?
    }
}

/// What the GPU's thread owns.
#[derive(Debug)]
struct Worker {
    device: Device,
    network: Network,
    graphs: Graphs,
}

impl Worker {
    fn load(config: &Config, weights: &Weights<'_>, labels: usize) -> Result<Self> {
        let opened = |error| failed("no GPU can be used", error);
        let device = Device::new_cuda_with_stream(0).map_err(opened)?;
        let cuda = device.as_cuda_device().map_err(opened)?.clone();
        kernels::use_one_stream(&cuda);
        let graphs = Graphs::new(cuda.cuda_stream());
        let kernels = Kernels::new(cuda).map_err(opened)?;
        let network = Network::load(config, weights, labels, &device, kernels)?;
        Ok(Self { device, network, graphs })
    }

    fn run(&mut self, todo: &Receiver<Job>) {
        while let Ok(job) = todo.recv() {
            let scores = self.classify(&job.batch);
            // Whoever asked may have gone away; then nobody waits for the scores.
            drop(job.answer.send(scores));
        }
    }

    fn classify(&mut self, batch: &[Tokens]) -> Scores {
        let mut scores = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (part, left) = rest.split_at(fitting(rest));
            halving(part, &mut scores, &mut |part| self.forward(part))?;
            rest = left;
        }
        Ok(scores)
    }

    fn forward(&mut self, batch: &[Tokens]) -> candle_core::Result<Vec<Vec<f32>>> {
        let scores = match self.graphs.forward(&self.network, batch, &self.device)? {
            Some(scores) => scores,
            None => self.network.forward(&Packed::upload(batch, Size::of(batch), &self.device)?)?,
        };
        let mut rows = scores.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        rows.truncate(batch.len());
        Ok(rows)
    }
}

/// How many texts from the front go through the layers together.
fn fitting(batch: &[Tokens]) -> usize {
    let mut rows = 0;
    let fits = |text: &&Tokens| {
        rows += text.ids.len();
        rows <= ROWS_MAX
    };
    batch.iter().take(TEXTS_MAX).take_while(fits).count().max(1)
}

/// Runs a batch; where the memory does not suffice, the two halves of it.
fn halving(
    batch: &[Tokens],
    scores: &mut Vec<Vec<f32>>,
    run: &mut impl FnMut(&[Tokens]) -> candle_core::Result<Vec<Vec<f32>>>,
) -> Result<()> {
    match run(batch) {
        Ok(found) => {
            scores.extend(found);
            Ok(())
        }
        Err(error) if is_out_of_memory(&error) && batch.len() > 1 => {
            tracing::warn!(texts = batch.len(), "the GPU's memory does not suffice for a batch: running it in halves");
            let (first, second) = batch.split_at(batch.len() / 2);
            halving(first, scores, run)?;
            halving(second, scores, run)
        }
        Err(error) if is_out_of_memory(&error) => {
            let message = "the GPU's memory does not suffice for one text: free some of it, or use the processor";
            Err(Error::new(ErrorKind::ResourceExhausted, message).with_source(error))
        }
        Err(error) => Err(failed("the GPU failed", error)),
    }
}

/// Both the driver and cuBLAS name this in words only, through several layers of errors.
fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let words = format!("{error:?} {error}").to_lowercase();
    ["out_of_memory", "out of memory", "alloc_failed"].iter().any(|mark| words.contains(mark))
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

fn failed(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    unavailable(format!("{what}: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_does_not_fit_is_halved_in_order() {
        let batch: Vec<Tokens> = (0..11).map(|id| Tokens { ids: vec![id; 4], types: vec![0; 4] }).collect();
        let mut run = |part: &[Tokens]| {
            if part.len() > 3 {
                candle_core::bail!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
            }
            Ok(part.iter().map(|text| text.ids.iter().map(|_| 1.0).collect()).collect())
        };
        let mut scores = Vec::new();
        halving(&batch, &mut scores, &mut run).unwrap();
        assert_eq!(scores.len(), 11);
        let mut never = |_: &[Tokens]| -> candle_core::Result<Vec<Vec<f32>>> { candle_core::bail!("out of memory") };
        let error = halving(&batch, &mut Vec::new(), &mut never).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        let mut broken =
            |_: &[Tokens]| -> candle_core::Result<Vec<Vec<f32>>> { candle_core::bail!("misaligned address") };
        assert_eq!(halving(&batch, &mut Vec::new(), &mut broken).unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn passes_are_bounded() {
        let text = Tokens { ids: vec![1; 512], types: vec![0; 512] };
        assert_eq!(fitting(&vec![text.clone(); 300]), 128);
        assert_eq!(fitting(&[text]), 1);
    }
}
