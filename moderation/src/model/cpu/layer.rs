//! One layer of the encoder, and the parts that it is made of.

use keevo_core::Result;

use super::attention::{Keys, attend};
use super::gemm::{self, COLS, Line, Panels, Tiles};
use super::int8::{self, Int8Panels, Int8Tiles};
use super::math;
use crate::model::config::Config;
use crate::model::weights::Weights;

/// Weights in one of their two forms.
#[derive(Debug)]
enum Matrix {
    F32(Panels),
    Int8(Int8Panels),
}

/// The left side of a product, in the form that its weights ask for.
enum Left {
    F32(Tiles),
    Int8(Int8Tiles),
}

/// Weights and biases.
#[derive(Debug)]
pub(super) struct Linear {
    weights: Matrix,
    bias: Vec<Line>,
    depth: usize,
}

impl Linear {
    /// Loads `name.weight` and `name.bias`, which turn `depth` numbers into `width`.
    pub(super) fn load(weights: &Weights<'_>, name: &str, width: usize, depth: usize, int8: bool) -> Result<Self> {
        let name = name.strip_prefix("bert.").map_or_else(|| Err(name), Ok);
        let get = |part: &str, shape: &[usize]| match name {
            Ok(of_bert) => weights.of_bert(&format!("{of_bert}.{part}"), shape),
            Err(whole) => weights.get(&format!("{whole}.{part}"), shape),
        };
        Ok(Self::new(&get("weight", &[width, depth])?, &get("bias", &[width])?, depth, int8))
    }

    fn new(weights: &[f32], bias: &[f32], depth: usize, int8: bool) -> Self {
        let weights = if int8 {
            Matrix::Int8(Int8Panels::pack(weights, depth))
        } else {
            Matrix::F32(Panels::pack(weights, depth))
        };
        Self { weights, bias: lines(bias), depth }
    }

    /// Puts another one of the same depth beside this: their products are taken in one go.
    fn append(&mut self, other: Self) {
        match (&mut self.weights, other.weights) {
            (Matrix::F32(own), Matrix::F32(other)) => own.append(other),
            (Matrix::Int8(own), Matrix::Int8(other)) => own.append(other),
            (own, other) => *own = other,
        }
        self.bias.extend(other.bias);
    }

    fn panels(&self) -> usize {
        match &self.weights {
            Matrix::F32(panels) => panels.count(),
            Matrix::Int8(panels) => panels.count(),
        }
    }

    fn left(&self, x: &[Line], rows: usize) -> Left {
        match &self.weights {
            Matrix::F32(_) => Left::F32(Tiles::pack(x, rows, self.depth)),
            Matrix::Int8(_) => Left::Int8(Int8Tiles::pack(x, rows, self.depth)),
        }
    }

    /// The product with the panels from `from` up to `to`; `then` gets each panel with its lines of biases.
    fn between(
        &self,
        left: &Left,
        rows: usize,
        (from, to): (usize, usize),
        then: impl Fn(usize, &mut [Line], &Line) + Sync,
    ) -> Vec<Line> {
        let mut out = vec![[0.0; COLS]; rows * (to - from)];
        let then = |number: usize, lines: &mut [Line]| {
            if let Some(bias) = self.bias.get(from + number) {
                then(number, lines, bias);
            }
        };
        match (&self.weights, left) {
            (Matrix::F32(panels), Left::F32(left)) => {
                gemm::multiply(left, panels.between(from, to), &mut out, then);
            }
            (Matrix::Int8(panels), Left::Int8(left)) => int8::multiply(left, panels, from, &mut out, then),
            _ => {}
        }
        out
    }

    fn with(&self, x: &[Line], rows: usize, then: impl Fn(usize, &mut [Line], &Line) + Sync) -> Vec<Line> {
        self.between(&self.left(x, rows), rows, (0, self.panels()), then)
    }

    /// `x · Wᵀ + b`.
    pub(super) fn apply(&self, x: &[Line], rows: usize) -> Vec<Line> {
        self.with(x, rows, |_, lines, bias| math::add_bias(lines, bias))
    }

    /// The same, with what goes around the layer added.
    fn apply_around(&self, x: &[Line], rows: usize, around: &[Line]) -> Vec<Line> {
        self.with(x, rows, |number, lines, bias| {
            let around = around.get(number * rows..(number + 1) * rows).unwrap_or_default();
            math::bias_residual(lines, bias, around);
        })
    }
}

/// A row of numbers as lines; zero beyond its end.
fn lines(row: &[f32]) -> Vec<Line> {
    let line = |part: &[f32]| {
        let mut line = [0.0; COLS];
        for (slot, number) in line.iter_mut().zip(part) {
            *slot = *number;
        }
        line
    };
    row.chunks(COLS).map(line).collect()
}

/// A layer normalisation.
#[derive(Debug)]
pub(super) struct Norm {
    gain: Vec<Line>,
    bias: Vec<Line>,
    width: usize,
    eps: f32,
}

impl Norm {
    /// Loads `name.weight` and `name.bias`.
    pub(super) fn load(weights: &Weights<'_>, name: &str, config: &Config) -> Result<Self> {
        let width = config.hidden_size;
        let get = |part: &str| weights.of_bert(&format!("{name}.{part}"), &[width]);
        Ok(Self { gain: lines(&get("weight")?), bias: lines(&get("bias")?), width, eps: config.layer_norm_eps })
    }

    /// Normalises each of `rows` rows.
    pub(super) fn apply(&self, x: &mut [Line], rows: usize) {
        math::layer_norm(x, rows, self.width, &self.gain, &self.bias, self.eps);
    }
}

/// A layer of the encoder.
#[derive(Debug)]
pub(super) struct Layer {
    /// Queries (already scaled), keys and values, each filled up to whole panels.
    qkv: Linear,
    output: Linear,
    output_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
    heads: usize,
    head_size: usize,
}

impl Layer {
    /// Loads layer `number`.
    pub(super) fn load(config: &Config, weights: &Weights<'_>, number: usize, int8: bool) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let at = |part: &str| format!("encoder.layer.{number}.{part}");
        let linear =
            |part: &str, width, depth| Linear::load(weights, &format!("bert.{}", at(part)), width, depth, int8);
        #[allow(clippy::cast_precision_loss, reason = "sizes are below 2^24")]
        let scale = 1.0 / (config.head_size() as f32).sqrt();
        let scaled = |part: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let mut numbers = weights.of_bert(&at(&format!("attention.self.query.{part}")), shape)?;
            for x in &mut numbers {
                *x *= scale;
            }
            Ok(numbers)
        };
        let mut qkv = Linear::new(&scaled("weight", &[hidden, hidden])?, &scaled("bias", &[hidden])?, hidden, int8);
        qkv.append(linear("attention.self.key", hidden, hidden)?);
        qkv.append(linear("attention.self.value", hidden, hidden)?);
        Ok(Self {
            qkv,
            output: linear("attention.output.dense", hidden, hidden)?,
            output_norm: Norm::load(weights, &at("attention.output.LayerNorm"), config)?,
            up: linear("intermediate.dense", inner, hidden)?,
            down: linear("output.dense", hidden, inner)?,
            down_norm: Norm::load(weights, &at("output.LayerNorm"), config)?,
            heads: config.num_attention_heads,
            head_size: config.head_size(),
        })
    }

    /// All rows of all texts; text `t` has the rows from `bounds[t]` up to `bounds[t + 1]`.
    pub(super) fn forward(&self, x: &[Line], bounds: &[usize]) -> Vec<Line> {
        let rows = bounds.last().copied().unwrap_or_default();
        let qkv = self.qkv.apply(x, rows);
        let (queries, keys) = qkv.split_at(rows * self.qkv.panels() / 3);
        let keys = Keys { lines: keys, bounds, heads: self.heads, head_size: self.head_size };
        let attended = attend(queries, bounds, &keys);
        self.rest(&attended, x, rows)
    }

    /// What becomes of the first row of each text: the last layer needs no other.
    pub(super) fn forward_first_rows(&self, x: &[Line], bounds: &[usize]) -> Vec<Line> {
        let rows = bounds.last().copied().unwrap_or_default();
        let texts = bounds.len().saturating_sub(1);
        let third = self.qkv.panels() / 3;
        let firsts: Vec<Line> = x
            .chunks_exact(rows.max(1))
            .flat_map(|panel| bounds.iter().take(texts).filter_map(|row| panel.get(*row)))
            .copied()
            .collect();
        let biased = |_: usize, lines: &mut [Line], bias: &Line| math::add_bias(lines, bias);
        let queries = self.qkv.between(&self.qkv.left(&firsts, texts), texts, (0, third), biased);
        let keys = self.qkv.between(&self.qkv.left(x, rows), rows, (third, 3 * third), biased);
        let keys = Keys { lines: &keys, bounds, heads: self.heads, head_size: self.head_size };
        let each: Vec<usize> = (0..=texts).collect();
        let attended = attend(&queries, &each, &keys);
        self.rest(&attended, &firsts, texts)
    }

    fn rest(&self, attended: &[Line], x: &[Line], rows: usize) -> Vec<Line> {
        let mut x = self.output.apply_around(attended, rows, x);
        self.output_norm.apply(&mut x, rows);
        let inner = self.up.with(&x, rows, |_, lines, bias| math::bias_gelu(lines, bias));
        let mut out = self.down.apply_around(&inner, rows, &x);
        self.down_norm.apply(&mut out, rows);
        out
    }
}
