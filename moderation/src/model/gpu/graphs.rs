//! Small batches as recorded graphs: a batch of one text is bound by the launches of its 100 kernels, and a graph
//! launches them all at once. One graph is recorded for each bucket of sizes when it is first needed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream};
use candle_core::{DType, Device, Error, Result, Tensor};

use super::network::Network;
use super::packed::{Packed, Size};
use crate::classify::Tokens;

/// Forward passes before one is recorded: libraries choose and load their kernels then.
const WARM_UPS: usize = 3;

/// A recorded forward pass, with the memory that it reads and writes.
struct Graph {
    recording: CudaGraph,
    input: Packed,
    scores: Tensor,
}

/// The graphs recorded so far.
pub(super) struct Graphs {
    stream: Arc<CudaStream>,
    recorded: BTreeMap<Size, Graph>,
    /// Set when recording failed once: the driver cannot, and plain launches do the same work.
    given_up: bool,
}

impl fmt::Debug for Graphs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graphs").field("recorded", &self.recorded.keys()).finish_non_exhaustive()
    }
}

impl Graphs {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, recorded: BTreeMap::new(), given_up: false }
    }

    /// Raw scores by a graph, as f16 on the device; the rows beyond the batch are to be ignored. `None` where the
    /// batch is too large for one.
    pub(super) fn forward(&mut self, network: &Network, batch: &[Tokens], device: &Device) -> Result<Option<Tensor>> {
        let Some(size) = Size::bucket(batch).filter(|_| !self.given_up) else { return Ok(None) };
        if !self.recorded.contains_key(&size) {
            match self.record(network, batch, size, device) {
                Ok(graph) => {
                    self.recorded.insert(size, graph);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot record a CUDA graph: small batches are launched kernel by kernel");
                    self.given_up = true;
                    return Ok(None);
                }
            }
        }
        let Some(graph) = self.recorded.get(&size) else { return Ok(None) };
        graph.input.replace(batch, device)?;
        graph.recording.launch().map_err(Error::wrap)?;
        Ok(Some(graph.scores.clone()))
    }

    fn record(&self, network: &Network, batch: &[Tokens], size: Size, device: &Device) -> Result<Graph> {
        let Device::Cuda(cuda) = device else { candle_core::bail!("the device is no GPU") };
        let uploads = cuda.enable_cuda_graph_htod_cache();
        let input = Packed::upload(batch, size, device)?;
        let first = network.forward(&input)?;
        let scores = Tensor::zeros(first.shape(), DType::F16, device)?;
        for _ in 0..WARM_UPS {
            scores.slice_set(&network.forward(&input)?, 0, 0)?;
        }
        device.synchronize()?;
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(Error::wrap)?;
        let captured = network.forward(&input).and_then(|found| scores.slice_set(&found, 0, 0));
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = self.stream.end_capture(flags).map_err(Error::wrap)?;
        drop(uploads);
        captured?;
        match graph {
            Some(recording) => Ok(Graph { recording, input, scores }),
            None => candle_core::bail!("the driver recorded nothing"),
        }
    }
}
