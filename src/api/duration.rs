//! Durations as Go, and so Kubernetes, writes them: `1s`, `250ms`, `1m30s`.

use std::time::Duration;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; write for example 500ms or 10s")]
pub struct InvalidDuration(String);

/// The units, in seconds; a longer name goes before one that it begins with.
const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    seconds(text)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| InvalidDuration(text.to_owned()))
}

fn seconds(text: &str) -> Option<f64> {
    let (mut rest, mut sum) = (text, 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, seconds) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        sum += number * seconds;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ms) in [
            ("1s", 1000),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("0s", 0),
            ("1.5s", 1500),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "1", "s", "-1s", "1d", "1 s", "1s ", "1.2.3s", "."] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
