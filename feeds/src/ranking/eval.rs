//! The evaluator: a tree and an activity to a number.
//!
//! All numbers are 64-bit floats. Nothing here can loop: each piece of a tree is computed once.

use keevo_core::{Random, Result};
use serde_json::{Map, Value};

use super::functions::{Function, distance_km};
use super::invalid;
use super::parse::{Kind, Node, Operator};
use crate::activity::Activity;
use crate::time::ActivityTime;

/// How often a normal number between bounds is drawn before the nearest bound is taken.
const DRAWS_MAX: usize = 32;

/// What an expression is computed over.
pub(super) struct Scope<'a> {
    pub(super) activity: &'a Activity,
    pub(super) vars: &'a Map<String, Value>,
    pub(super) defaults: &'a Map<String, Value>,
    pub(super) now_s: f64,
    pub(super) random: &'a dyn Random,
}

/// A value on the way.
enum Computed {
    Number(f64),
    Text(String),
}

impl Scope<'_> {
    /// The value of a node that must be a number.
    pub(super) fn number(&self, node: &Node) -> Result<f64> {
        match self.value(node)? {
            Computed::Number(number) => Ok(number),
            Computed::Text(text) => {
                Err(invalid(format!("the text {text:?} stands where a number is needed (at {})", node.at)))
            }
        }
    }

    fn value(&self, node: &Node) -> Result<Computed> {
        Ok(Computed::Number(match &node.kind {
            Kind::Number(number) => *number,
            Kind::Text(text) => return Ok(Computed::Text(text.clone())),
            Kind::Field(path) => return self.field(path, node.at),
            Kind::Negative(inner) => -self.number(inner)?,
            Kind::Binary(operator, left, right) => {
                let (left, right) = (self.number(left)?, self.number(right)?);
                match operator {
                    Operator::Plus => left + right,
                    Operator::Minus => left - right,
                    Operator::Times => left * right,
                    Operator::Over => left / right,
                    Operator::Power => left.powf(right),
                }
            }
            Kind::Call(function, arguments) => self.call(*function, arguments)?,
        }))
    }

    fn call(&self, function: Function, arguments: &[Node]) -> Result<f64> {
        if matches!(function, Function::ToUnixTimestamp) {
            return self.timestamp(arguments);
        }
        let (numbers, unit) = match arguments.split_at_checked(4) {
            Some((numbers, [unit])) if matches!(function, Function::Dist) => (numbers, Some(unit)),
            _ => (arguments, None),
        };
        let numbers: Vec<f64> = numbers.iter().map(|one| self.number(one)).collect::<Result<_>>()?;
        Ok(match (function, numbers.as_slice()) {
            (Function::Plain(function), [x]) => function(*x),
            (Function::Decay(decay), [x]) => decay.at(*x, self.now_s),
            (Function::Min, all) => all.iter().copied().fold(f64::INFINITY, f64::min),
            (Function::Max, all) => all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            (Function::Rand, [low, high]) => low + (high - low) * self.unit(),
            (Function::Rand, _) => self.unit(),
            (Function::RandNormal, [low, high, deviation, mean]) => {
                let draw = || mean + deviation * self.normal();
                let drawn = std::iter::repeat_with(draw).take(DRAWS_MAX).find(|x| low <= x && x <= high);
                drawn.unwrap_or_else(|| mean.max(*low).min(*high))
            }
            (Function::RandNormal, _) => self.normal(),
            (Function::Dist, [lat1, lng1, lat2, lng2]) => {
                distance_km(*lat1, *lng1, *lat2, *lng2) * unit.map_or(Ok(1.0), |unit| self.per_km(unit))?
            }
            _ => return Err(invalid("a function was given another number of arguments than it takes")),
        })
    }

    /// How many of a unit a kilometre has.
    fn per_km(&self, unit: &Node) -> Result<f64> {
        match self.value(unit)? {
            Computed::Text(text) if text == "km" => Ok(1.0),
            Computed::Text(text) if text == "mi" => Ok(1.0 / 1.609_344),
            Computed::Text(text) if text == "m" => Ok(1_000.0),
            _ => Err(invalid(format!("a unit of distance is \"km\", \"mi\" or \"m\" (at {})", unit.at))),
        }
    }

    fn timestamp(&self, arguments: &[Node]) -> Result<f64> {
        let [argument] = arguments else { return Err(invalid("to_unix_timestamp takes one argument")) };
        match self.value(argument)? {
            Computed::Number(number) => Ok(number),
            Computed::Text(text) => match text.parse::<ActivityTime>() {
                Ok(time) => Ok(seconds(time)),
                Err(_) => Err(invalid(format!("{text:?} is no time (at {})", argument.at))),
            },
        }
    }

    /// Evenly in [0, 1).
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a float")]
    fn unit(&self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed with mean 0 and deviation 1, by Box and Muller.
    fn normal(&self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A field of the activity or a variable; else its default.
    fn field(&self, path: &[String], at: usize) -> Result<Computed> {
        let activity = self.activity;
        match path.split_first() {
            Some((name, [])) if name == "time" => return Ok(Computed::Number(seconds(activity.time))),
            Some((name, [])) if name == "actor" => return Ok(Computed::Text(activity.actor.clone())),
            Some((name, [])) if name == "verb" => return Ok(Computed::Text(activity.verb.clone())),
            Some((name, [])) if name == "object" => return Ok(Computed::Text(activity.object.clone())),
            Some((name, [])) if name == "target" => return Ok(Computed::Text(activity.target.clone())),
            _ => {}
        }
        let found = match path.split_first() {
            Some((first, rest)) if first == "external" => lookup(self.vars, rest),
            _ => lookup(&activity.custom, path),
        };
        let name = path.join(".");
        match found.or_else(|| lookup(self.defaults, path)) {
            Some(Value::Number(number)) => number
                .as_f64()
                .map(Computed::Number)
                .ok_or_else(|| invalid(format!("{name} is no number that fits (at {at})"))),
            Some(Value::Bool(flag)) => Ok(Computed::Number(if *flag { 1.0 } else { 0.0 })),
            Some(Value::String(text)) => Ok(Computed::Text(text.clone())),
            Some(_) => Err(invalid(format!("{name} is neither a number nor a text (at {at})"))),
            None => Err(invalid(format!("there is no {name}, and the ranking has no default for it (at {at})"))),
        }
    }

    /// What a field was, to be shown with the score.
    pub(super) fn shown(&self, path: &[String]) -> Result<Value> {
        Ok(match self.field(path, 0)? {
            Computed::Number(number) => number.into(),
            Computed::Text(text) => text.into(),
        })
    }
}

/// The value at a path of keys; null counts as none.
fn lookup<'a>(object: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let mut value = object.get(first)?;
    for key in rest {
        value = value.as_object()?.get(key)?;
    }
    (!value.is_null()).then_some(value)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "microseconds of the years 1600 to 4999 lose less than a microsecond's eighth part"
)]
fn seconds(time: ActivityTime) -> f64 {
    time.micros() as f64 / 1_000_000.0
}
