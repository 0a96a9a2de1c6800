//! Decays: 1 at the origin, falling with the distance from it, and `decay` at the distance `scale` beyond `offset`.
//!
//! ```text
//! d = max(0, |x − origin| − offset)
//! linear  max(0, 1 − (1 − decay) · d / scale)
//! exp     decay ^ (d / scale)
//! gauss   decay ^ ((d / scale)²)
//! ```

use keevo_core::Result;
use serde_json::Value;

use super::invalid;
use crate::json::json_object;

const DAY_S: f64 = 86_400.0;

/// The form of a decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Linear,
    Exp,
    Gauss,
}

/// On which side of the origin it decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Both,
    Left,
    Right,
}

/// A decay function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Decay {
    base: Base,
    scale: f64,
    offset: f64,
    at_scale: f64,
    /// `None` = now.
    origin: Option<f64>,
    direction: Direction,
}

impl Decay {
    /// With the defaults: half after five days from now.
    pub(super) fn of(base: Base) -> Self {
        Self { base, scale: 5.0 * DAY_S, offset: 0.0, at_scale: 0.5, origin: None, direction: Direction::Both }
    }

    /// From `base`, `scale`, `offset`, `decay`, `origin`, `direction`, as texts or numbers. Lengths of time have a
    /// unit: `5d`, `12h`, `30m`, `10s`. The origin is now, or 0 where the scale is a plain number.
    pub(super) fn from_json(name: &str, value: &Value) -> Result<Self> {
        let parameters =
            json_object(value.clone(), &format!("the function {name}")).map_err(|error| invalid(error.message()))?;
        let base = match parameters.get("base").and_then(Value::as_str) {
            Some("decay_linear") => Base::Linear,
            Some("decay_exp") => Base::Exp,
            Some("decay_gauss") => Base::Gauss,
            _ => {
                return Err(invalid(format!("the base of {name} is decay_linear, decay_exp or decay_gauss")));
            }
        };
        let mut decay = Self::of(base);
        for (key, value) in &parameters {
            let amount = || amount(value).ok_or_else(|| bad(name, key, value));
            match key.as_str() {
                "base" => {}
                "scale" => {
                    let (scale, is_time) = amount()?;
                    decay.scale = scale;
                    if !is_time && !parameters.contains_key("origin") {
                        decay.origin = Some(0.0);
                    }
                }
                "offset" => decay.offset = amount()?.0,
                "decay" => decay.at_scale = amount()?.0,
                "origin" if value.as_str() == Some("now") => decay.origin = None,
                "origin" => decay.origin = Some(amount()?.0),
                "direction" => {
                    decay.direction = match value.as_str() {
                        Some("both") => Direction::Both,
                        Some("left") => Direction::Left,
                        Some("right") => Direction::Right,
                        _ => return Err(bad(name, key, value)),
                    }
                }
                _ => return Err(invalid(format!("the function {name} has no parameter {key:?}"))),
            }
        }
        if !(decay.scale > 0.0 && decay.offset >= 0.0 && decay.at_scale > 0.0 && decay.at_scale < 1.0) {
            let wanted = "a scale above 0, an offset of at least 0 and a decay between 0 and 1";
            return Err(invalid(format!("the function {name} needs {wanted}")));
        }
        Ok(decay)
    }

    /// Its value at `x`.
    pub(super) fn at(self, x: f64, now_s: f64) -> f64 {
        let from_origin = x - self.origin.unwrap_or(now_s);
        let distance = match self.direction {
            Direction::Both => from_origin.abs(),
            Direction::Left => -from_origin,
            Direction::Right => from_origin,
        };
        let steps = (distance - self.offset).max(0.0) / self.scale;
        match self.base {
            Base::Linear => (1.0 - (1.0 - self.at_scale) * steps).max(0.0),
            Base::Exp => self.at_scale.powf(steps),
            Base::Gauss => self.at_scale.powf(steps * steps),
        }
    }
}

/// A number, or a length of time in seconds; and which of them it is.
fn amount(value: &Value) -> Option<(f64, bool)> {
    let finite = |number: f64| number.is_finite().then_some(number);
    let Value::String(text) = value else { return Some((finite(value.as_f64()?)?, false)) };
    if let Ok(number) = text.parse() {
        return Some((finite(number)?, false));
    }
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "d" => DAY_S,
        "h" => 3_600.0,
        "m" => 60.0,
        "s" => 1.0,
        _ => return None,
    };
    Some((finite(number.parse::<f64>().ok()? * seconds)?, true))
}

fn bad(name: &str, key: &str, value: &Value) -> keevo_core::Error {
    invalid(format!("the {key} of the function {name} cannot be {value}"))
}
