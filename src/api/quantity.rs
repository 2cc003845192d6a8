//! Kubernetes quantities as bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A text that is no quantity, or one that is negative or above 2^63-1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quantity of bytes; write for example 500Mi or 20Gi")]
pub struct InvalidQuantity(String);

/// The suffixes and what they multiply by, as numerator and denominator.
const SUFFIXES: [(&str, i128, i128); 14] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
    ("", 1, 1),
];

/// The value of a quantity in bytes, rounded up.
pub fn bytes(quantity: &Quantity) -> Result<u64, InvalidQuantity> {
    parse(&quantity.0).ok_or_else(|| InvalidQuantity(quantity.0.clone()))
}

fn parse(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Digits beyond these cannot matter below 2^63 and would overflow the arithmetic.
    if whole.len() + fraction.len() > 19 || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (numerator, denominator) = scale(suffix)?;
    let divisor = denominator * 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let product = mantissa.checked_mul(numerator)?;
    let value = (product + divisor - 1) / divisor;
    u64::try_from(value)
        .ok()
        .filter(|&value| i64::try_from(value).is_ok())
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    if let Some((_, numerator, denominator)) = SUFFIXES.iter().find(|(name, ..)| *name == suffix) {
        return Some((*numerator, *denominator));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128
        .checked_pow(exponent.unsigned_abs())
        .filter(|_| exponent.abs() < 19)?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("0", 0),
            ("1024", 1024),
            ("20Gi", 20 << 30),
            ("1.5Gi", 3 << 29),
            ("4G", 4_000_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("2E", 2_000_000_000_000_000_000),
            ("100m", 1),
            ("+5k", 5000),
            (".5Ki", 512),
            ("5.", 5),
        ] {
            assert_eq!(bytes(&Quantity(text.to_owned())), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_of_bytes_is_refused() {
        for text in [
            "",
            "-1",
            "Gi",
            "20 Gi",
            "20GB",
            "1.2.3",
            "16E",
            "1e99",
            "9".repeat(40).as_str(),
        ] {
            assert!(bytes(&Quantity(text.to_owned())).is_err(), "{text}");
        }
    }
}
