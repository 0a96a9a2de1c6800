//! The layers on the GPU: matrix products by cuBLAS and cuBLASLt in f16, everything between them by our own kernels.

use candle_core::{Device, Result as CandleResult, Tensor};
use half::f16;
use keevo_core::Result;

use super::failed;
use super::kernels::{Kernels, Linear, Norm, Tables};
use super::packed::Packed;
use crate::model::config::Config;
use crate::model::weights::Weights;

impl Linear {
    /// The product without its bias, which the kernel that comes next adds.
    fn product(&self, x: &Tensor) -> CandleResult<Tensor> {
        x.matmul(&self.weights.t()?)
    }

    fn apply(&self, x: &Tensor) -> CandleResult<Tensor> {
        self.product(x)?.broadcast_add(&self.bias)
    }
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    output: Linear,
    output_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

/// A model on a GPU.
#[derive(Debug)]
pub(super) struct Network {
    tables: Tables,
    layers: Vec<Layer>,
    pooler: Linear,
    classifier: Linear,
    heads: usize,
    kernels: Kernels,
}

/// Puts tensors onto a device, rounded to f16.
struct Loader<'a, 'b> {
    weights: &'a Weights<'b>,
    config: &'a Config,
    device: &'a Device,
}

impl Loader<'_, '_> {
    fn put(&self, numbers: &[f32], shape: &[usize]) -> Result<Tensor> {
        let numbers: Vec<f16> = numbers.iter().map(|number| f16::from_f32(*number)).collect();
        Tensor::from_vec(numbers, shape, self.device).map_err(|error| failed("cannot put weights onto the GPU", error))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.put(&self.weights.of_bert(name, shape)?, shape)
    }

    fn linear(&self, name: &str, width: usize, depth: usize) -> Result<Linear> {
        Ok(Linear {
            weights: self.tensor(&format!("{name}.weight"), &[width, depth])?,
            bias: self.tensor(&format!("{name}.bias"), &[width])?,
        })
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let width = [self.config.hidden_size];
        Ok(Norm {
            gain: self.tensor(&format!("{name}.weight"), &width)?,
            bias: self.tensor(&format!("{name}.bias"), &width)?,
            eps: self.config.layer_norm_eps,
        })
    }

    fn layer(&self, number: usize) -> Result<Layer> {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let at = |part: &str| format!("encoder.layer.{number}.{part}");
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for part in ["query", "key", "value"] {
            let name = at(&format!("attention.self.{part}"));
            weights.extend(self.weights.of_bert(&format!("{name}.weight"), &[hidden, hidden])?);
            bias.extend(self.weights.of_bert(&format!("{name}.bias"), &[hidden])?);
        }
        Ok(Layer {
            qkv: Linear { weights: self.put(&weights, &[3 * hidden, hidden])?, bias: self.put(&bias, &[3 * hidden])? },
            output: self.linear(&at("attention.output.dense"), hidden, hidden)?,
            output_norm: self.norm(&at("attention.output.LayerNorm"))?,
            up: self.linear(&at("intermediate.dense"), inner, hidden)?,
            down: self.linear(&at("output.dense"), hidden, inner)?,
            down_norm: self.norm(&at("output.LayerNorm"))?,
        })
    }
}

impl Network {
    /// Puts a model onto `device`; its shape is one that the kernels support.
    pub(super) fn load(
        config: &Config,
        weights: &Weights<'_>,
        labels: usize,
        device: &Device,
        kernels: Kernels,
    ) -> Result<Self> {
        let hidden = config.hidden_size;
        let loader = Loader { weights, config, device };
        let table = |name: &str, rows| loader.tensor(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        let classifier = Linear {
            weights: loader.put(&weights.get("classifier.weight", &[labels, hidden])?, &[labels, hidden])?,
            bias: loader.put(&weights.get("classifier.bias", &[labels])?, &[labels])?,
        };
        Ok(Self {
            tables: Tables {
                words: table("word_embeddings", config.vocab_size)?,
                positions: table("position_embeddings", config.max_position_embeddings)?,
                types: table("token_type_embeddings", config.type_vocab_size)?,
                norm: loader.norm("embeddings.LayerNorm")?,
            },
            layers: (0..config.num_hidden_layers).map(|number| loader.layer(number)).collect::<Result<_>>()?,
            pooler: loader.linear("pooler.dense", hidden, hidden)?,
            classifier,
            heads: config.num_attention_heads,
            kernels,
        })
    }

    /// Raw scores of each text, `[texts, labels]`. The last layer computes the first row of each text alone.
    pub(super) fn forward(&self, batch: &Packed) -> CandleResult<Tensor> {
        let kernels = &self.kernels;
        let mut x = kernels.embed(&self.tables, &batch.ids, &batch.types, &batch.positions)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let qkv = kernels.product(&x, &layer.qkv, false)?;
            let mut attended = kernels.attend(&qkv, &batch.bounds, batch.size.longest, self.heads)?;
            if number + 1 == self.layers.len() {
                attended = attended.index_select(&batch.firsts, 0)?;
                x = x.index_select(&batch.firsts, 0)?;
            }
            let output = layer.output.product(&attended)?;
            x = kernels.bias_residual_norm(&output, &layer.output.bias, &x, &layer.output_norm)?;
            let inner = kernels.product(&x, &layer.up, true)?;
            x = kernels.bias_residual_norm(&layer.down.product(&inner)?, &layer.down.bias, &x, &layer.down_norm)?;
        }
        self.classifier.apply(&self.pooler.apply(&x)?.tanh()?)
    }
}
