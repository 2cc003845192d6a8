//! Numbers with a fraction, for INCRBYFLOAT.
//!
//! Redis adds in 80-bit floating point and prints 17 decimals without trailing zeros, which for
//! numbers of ordinary size is the decimal sum: 0.1 and 0.2 make 0.3. A sum in 64 bits would show
//! 0.30000000000000004 instead, so the sum is made in decimals.

/// Decimals that are kept, as many as Redis prints.
const PLACES: u32 = 17;
/// One.
const UNIT: i128 = 10_i128.pow(PLACES);

/// A number in units of 10^-17, or one too large for that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decimal {
    Exact(i128),
    /// Beyond 10^21: no decimal is left of the precision anyway.
    Float(f64),
}

impl Decimal {
    pub(super) const ZERO: Self = Self::Exact(0);

    /// Reads digits with an optional point and exponent, or an infinity.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        // The longest number that Redis reads.
        if text.len() > 5 * 1024 {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let float: f64 = text.parse().ok().filter(|float: &f64| !float.is_nan())?;
        // A number too large is none; an infinity is, until something is added to it.
        if float.is_infinite() && text.contains(|char: char| char.is_ascii_digit()) {
            return None;
        }
        Some(exact(text).map_or(Self::Float(float), Self::Exact))
    }

    /// The sum, unless it is none or infinite.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        if let (Self::Exact(one), Self::Exact(other)) = (self, other)
            && let Some(sum) = one.checked_add(other)
        {
            return Some(Self::Exact(sum));
        }
        let sum = self.to_f64() + other.to_f64();
        sum.is_finite().then_some(Self::Float(sum))
    }

    fn to_f64(self) -> f64 {
        match self {
            Self::Exact(units) => units as f64 / UNIT as f64,
            Self::Float(float) => float,
        }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float(float) => write!(f, "{float}"),
            Self::Exact(units) => {
                let sign = if *units < 0 { "-" } else { "" };
                let one = UNIT.unsigned_abs();
                let (whole, rest) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
                if rest == 0 {
                    return write!(f, "{sign}{whole}");
                }
                let rest = format!("{rest:017}");
                write!(f, "{sign}{whole}.{}", rest.trim_end_matches('0'))
            }
        }
    }
}

/// The number in units, rounded; `None` if it does not fit. The text is known to be a number.
fn exact(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches(['-', '+']);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));

    let mut units: i128 = 0;
    // The power of ten, in units, that the next digit counts.
    let mut power = whole.len() as i64 + i64::from(exponent) + i64::from(PLACES) - 1;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit.checked_sub(b'0').filter(|&digit| digit <= 9)?);
        if power >= 0 && digit != 0 {
            let place = 10_i128.checked_pow(u32::try_from(power).ok()?)?;
            units = units.checked_add(digit.checked_mul(place)?)?;
        } else if power == -1 && digit >= 5 {
            units = units.checked_add(1)?;
        }
        power -= 1;
    }
    Some(if negative { -units } else { units })
}
