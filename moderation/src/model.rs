//! The classifier: any BERT model that classifies sequences, in the layout of Hugging Face.
//!
//! A model is a folder with `config.json`, `tokenizer.json` and `model.safetensors`. [`load`] reads and checks it
//! and puts it where it runs: on the processor, by code of its own that keeps the weights packed for its vector
//! instructions; or, in a build with the feature `cuda`, on a GPU, where each text costs its own tokens alone too.
//!
//! Invariant: a loaded model answers every batch of tokens within its limits with finite scores, or with an error.

mod config;
mod cpu;
#[cfg(feature = "cuda")]
mod gpu;
mod tokens;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keevo_core::{Error, ErrorKind, Result};

use self::config::{Config, refused};
use self::cpu::CpuModel;
use self::tokens::Reader;
pub use self::tokens::TEXT_BYTES_MAX;
use self::weights::File;
use crate::classify::{Classify, ModelInfo, Tokens};

/// The name of the bundled model.
const BUNDLED: &str = "keevo-minilm-toxicity";
/// Where to look for it first.
const BUNDLED_VARIABLE: &str = "KEEVO_MODERATION_MODEL";

/// The most threads of a model.
const THREADS_MAX: usize = 1_024;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// On a GPU where there is one that can, else on the processor.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On the first GPU, or not at all.
    Gpu,
}

/// In what numbers a model is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The one that costs no accuracy to speak of: f32 on the processor, f16 on a GPU.
    #[default]
    Auto,
    /// 32 bits; on the processor only.
    F32,
    /// 8 bits in the layers' products, on the processor only: about three times as fast, at the loss of accuracy
    /// that `moderation/README.md` states.
    Int8,
}

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Where it runs.
    pub device: Device,
    /// In what numbers.
    pub precision: Precision,
    /// Threads on the processor; 0 is one a core.
    pub threads: usize,
}

/// Loads the model in `dir`; without one, the model that comes with Keevo.
///
/// # Errors
/// `Config` where a file is missing, does not decode, or does not fit the others; `Unavailable` where a GPU is asked
/// for and cannot be had.
pub fn load(dir: Option<&Path>, how: &Load) -> Result<Box<dyn Classify>> {
    let (dir, name) = match dir {
        Some(dir) => {
            (dir.to_owned(), dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into()))
        }
        None => (bundled()?, BUNDLED.to_owned()),
    };
    Ok(Box::new(Model::load(&dir, name, how)?))
}

/// The folder of the bundled model: named by the environment, beside the program, or in the source tree.
fn bundled() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(BUNDLED_VARIABLE) {
        return Ok(dir.into());
    }
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("moderation-model")));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("model");
    let found = beside.into_iter().chain([source]).find(|dir| dir.join("config.json").is_file());
    found.ok_or_else(|| {
        refused(format!(
            "the bundled model is missing: put it into a folder moderation-model beside the program, or name its \
             folder in {BUNDLED_VARIABLE}"
        ))
    })
}

/// What computes.
#[derive(Debug)]
enum Runner {
    Cpu(Box<CpuModel>),
    #[cfg(feature = "cuda")]
    Gpu(gpu::GpuModel),
}

/// A loaded model.
#[derive(Debug)]
struct Model {
    info: ModelInfo,
    config: Config,
    reader: Reader,
    runner: Runner,
}

impl Model {
    fn load(dir: &Path, name: String, how: &Load) -> Result<Self> {
        let config = Config::read(dir)?;
        let reader = Reader::read(dir, &config)?;
        let file = Arc::new(File::read(dir)?);
        let weights = file.tensors()?;
        let (count, _) = weights.rows("classifier.weight")?;
        let labels = config.labels(count)?;
        let runner = Runner::load(&config, &file, count, how)?;
        let (device, dtype) = match (&runner, how.precision) {
            (Runner::Cpu(_), Precision::Int8) => ("cpu", "int8"),
            (Runner::Cpu(_), _) => ("cpu", "float32"),
            #[cfg(feature = "cuda")]
            (Runner::Gpu(_), _) => ("cuda:0", "float16"),
        };
        let info = ModelInfo {
            name,
            version: file.version(),
            labels,
            tokens_max: config.max_position_embeddings,
            multi_label: config.multi_label(),
            device: device.to_owned(),
            dtype: dtype.to_owned(),
        };
        tracing::info!(
            model = info.name,
            version = info.version,
            device = info.device,
            dtype = info.dtype,
            "model loaded"
        );
        Ok(Self { info, config, reader, runner })
    }

    fn check(&self, text: &Tokens) -> Result<()> {
        let (found, most) = (text.ids.len(), self.config.max_position_embeddings);
        if found == 0 || found > most || text.types.len() != found {
            return Err(Error::invalid(format!("a text has {found} tokens; the model reads 1 to {most}")));
        }
        let words = self.config.vocab_size;
        if let Some(id) = text.ids.iter().find(|id| **id as usize >= words) {
            return Err(Error::invalid(format!("a token is {id}; the model knows 0 to {}", words - 1)));
        }
        let kinds = self.config.type_vocab_size;
        if text.types.iter().any(|kind| *kind as usize >= kinds) {
            return Err(Error::invalid(format!("the model reads at most {kinds} text at once: give no pair")));
        }
        Ok(())
    }
}

impl Runner {
    fn load(config: &Config, file: &Arc<File>, labels: usize, how: &Load) -> Result<Self> {
        if how.device != Device::Cpu {
            match Self::on_gpu(config, file, labels, how) {
                Ok(runner) => return Ok(runner),
                Err(error) if how.device == Device::Gpu || error.kind() == ErrorKind::Config => return Err(error),
                Err(error) => tracing::info!(reason = error.message(), "the model runs on the processor"),
            }
        }
        let threads = match how.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads.min(THREADS_MAX),
        };
        let int8 = how.precision == Precision::Int8;
        Ok(Self::Cpu(Box::new(CpuModel::load(config, &file.tensors()?, labels, int8, threads)?)))
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(config: &Config, file: &Arc<File>, labels: usize, how: &Load) -> Result<Self> {
        if how.precision != Precision::Auto {
            let message = format!("a GPU computes in f16 alone, and {:?} is asked for", how.precision);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(Self::Gpu(gpu::GpuModel::load(config, file, labels)?))
    }

    #[cfg(not(feature = "cuda"))]
    fn on_gpu(_: &Config, _: &Arc<File>, _: usize, _: &Load) -> Result<Self> {
        let message = "this program was built without GPU support: build it with the feature cuda, or ask for cpu";
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

impl Classify for Model {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, text: &str, pair: Option<&str>) -> Result<Tokens> {
        self.reader.encode(text, pair)
    }

    fn classify(&self, batch: &[Tokens]) -> Result<Vec<Vec<f32>>> {
        batch.iter().try_for_each(|text| self.check(text))?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let scores = match &self.runner {
            Runner::Cpu(model) => model.forward(batch),
            #[cfg(feature = "cuda")]
            Runner::Gpu(model) => model.forward(batch.to_vec())?,
        };
        match scores.iter().flatten().find(|score| !score.is_finite()) {
            Some(score) => {
                Err(Error::corrupt(format!("the model answered {score}: its weights or the device are broken")))
            }
            None => Ok(scores),
        }
    }
}
