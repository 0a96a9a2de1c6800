//! The functions that an expression may call.

use super::decay::{Base, Decay};

/// A function.
#[derive(Debug, Clone, Copy)]
pub(super) enum Function {
    /// Of one number.
    Plain(fn(f64) -> f64),
    /// The least or the greatest of two or more.
    Min,
    Max,
    /// A decay with its parameters.
    Decay(Decay),
    /// Evenly in [0, 1), or between two numbers.
    Rand,
    /// Normally distributed, or so between two numbers with a deviation and a mean.
    RandNormal,
    /// The seconds since 1970 of a time in a text.
    ToUnixTimestamp,
    /// The distance of two places on Earth.
    Dist,
}

impl Function {
    /// The function of that name; `ln` is the natural logarithm, `log` that to base 10.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ln" => Self::Plain(f64::ln),
            "log" => Self::Plain(f64::log10),
            "sin" => Self::Plain(f64::sin),
            "cos" => Self::Plain(f64::cos),
            "tan" => Self::Plain(f64::tan),
            "abs" => Self::Plain(f64::abs),
            "trunc" => Self::Plain(f64::trunc),
            "round" => Self::Plain(f64::round),
            "min" => Self::Min,
            "max" => Self::Max,
            "decay_linear" => Self::Decay(Decay::of(Base::Linear)),
            "decay_exp" => Self::Decay(Decay::of(Base::Exp)),
            "decay_gauss" => Self::Decay(Decay::of(Base::Gauss)),
            "rand" => Self::Rand,
            "rand_normal" => Self::RandNormal,
            "to_unix_timestamp" => Self::ToUnixTimestamp,
            "dist" => Self::Dist,
            _ => return None,
        })
    }

    /// Whether it may be called with so many arguments.
    pub(super) fn takes(self, count: usize) -> bool {
        match self {
            Self::Plain(_) | Self::Decay(_) | Self::ToUnixTimestamp => count == 1,
            Self::Min | Self::Max => count >= 2,
            Self::Rand => count == 0 || count == 2,
            Self::RandNormal => count == 0 || count == 4,
            Self::Dist => count == 4 || count == 5,
        }
    }

    pub(super) fn arity_text(self) -> &'static str {
        match self {
            Self::Plain(_) | Self::Decay(_) | Self::ToUnixTimestamp => "one argument",
            Self::Min | Self::Max => "two or more arguments",
            Self::Rand => "no arguments, or two",
            Self::RandNormal => "no arguments, or four",
            Self::Dist => "four arguments and, if need be, a unit",
        }
    }
}

/// The mean radius of the Earth, in kilometres.
const EARTH_KM: f64 = 6_371.008_8;

/// The distance of two places, in kilometres, on a ball as large as the Earth. Degrees.
pub(super) fn distance_km(lat1: f64, lng1: f64, lat2: f64, lng2: f64) -> f64 {
    let (phi1, phi2) = (lat1.to_radians(), lat2.to_radians());
    let (lat, lng) = ((phi2 - phi1) / 2.0, (lng2 - lng1).to_radians() / 2.0);
    let h = lat.sin().powi(2) + phi1.cos() * phi2.cos() * lng.sin().powi(2);
    2.0 * EARTH_KM * h.sqrt().min(1.0).asin()
}
