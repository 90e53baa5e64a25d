//! Durations as Go writes them, which is how custom resources carry them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration that reads and writes Go's syntax (`1h30m0s`, `1.5s`, `300ms`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct GoDuration(pub Duration);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read `{0}` as a duration: write numbers with units h, m, s, ms, us or ns, such as 1h30m"
)]
pub struct GoDurationError(pub String);

// === impl GoDuration ===

impl fmt::Display for GoDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.as_secs();
        let nanoseconds = self.0.subsec_nanos();
        let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
        if hours > 0 {
            write!(formatter, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(formatter, "{minutes}m")?;
        }
        if nanoseconds == 0 {
            return write!(formatter, "{seconds}s");
        }
        let fraction = format!("{nanoseconds:09}");
        write!(formatter, "{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

impl FromStr for GoDuration {
    type Err = GoDurationError;

    fn from_str(text: &str) -> Result<Self, GoDurationError> {
        let error = || GoDurationError(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(error());
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest
                .find(|character: char| !(character.is_ascii_digit() || character == '.'))
                .ok_or_else(error)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail
                .find(|character: char| character.is_ascii_digit() || character == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let part = part(number, unit).ok_or_else(error)?;
            total = total.checked_add(part).ok_or_else(error)?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

/// One number with its unit, exactly.
fn part(number: &str, unit: &str) -> Option<Duration> {
    let nanoseconds: u128 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(nanoseconds)?;
    if !fraction.is_empty() {
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        total = total.checked_add(fraction.parse::<u128>().ok()? * nanoseconds / scale)?;
    }
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    let rest = u32::try_from(total % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

impl TryFrom<String> for GoDuration {
    type Error = GoDurationError;

    fn try_from(text: String) -> Result<Self, GoDurationError> {
        text.parse()
    }
}

impl From<GoDuration> for String {
    fn from(duration: GoDuration) -> Self {
        duration.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (seconds, text) in [
            (0, "0s"),
            (1800, "30m0s"),
            (5400, "1h30m0s"),
            (86_400, "24h0m0s"),
            (7, "7s"),
        ] {
            let duration = GoDuration(Duration::from_secs(seconds));
            assert_eq!(duration.to_string(), text);
            assert_eq!(text.parse(), Ok(duration));
        }
        assert_eq!(GoDuration(Duration::from_millis(1500)).to_string(), "1.5s");
        assert_eq!("1.5h".parse(), Ok(GoDuration(Duration::from_secs(5400))));
        assert_eq!(
            "43800h".parse(),
            Ok(GoDuration(Duration::from_secs(157_680_000)))
        );
        assert_eq!("300ms".parse(), Ok(GoDuration(Duration::from_millis(300))));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "1",
            "h",
            "-1s",
            "1x",
            "1.s.",
            "99999999999999999999h",
            "1s2",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }
}
