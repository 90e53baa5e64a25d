//! Values that several lease commands take (facts: command line 4).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jmp_types::{Selector, TimeSpan, Timestamp};

use crate::error::CliError;

/// How long a lease lasts when nothing is said.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(30 * 60);

/// Reads a date and time: ISO 8601 with `T`, blank or `_` between date and time, a date alone, or seconds
/// since 1970. Without an offset it is local time.
///
/// # Errors
///
/// A text for the person.
pub fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text.trim(), &TimeZone::system()).ok_or_else(|| {
        "write a date and time such as 2030-01-31T18:00, 2030-01-31 18:00:00+01:00, a date, or seconds since 1970"
            .to_owned()
    })
}

/// Numbers this long count milliseconds.
const MILLISECOND_DIGITS: usize = 12;

fn parse_time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        return if text.len() >= MILLISECOND_DIGITS {
            Timestamp::from_millisecond(number).ok()
        } else {
            Timestamp::from_second(number).ok()
        };
    }
    // Basic format and bare hours could be meant in more than one way.
    let (date, rest) = text.split_at_checked(10)?;
    if date.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    if rest.is_empty() {
        let date: Date = date.parse().ok()?;
        return date.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    }
    let clock = rest.strip_prefix(['T', 't', ' ', '_'])?;
    if !clock.contains(':') {
        return None;
    }
    let text = format!("{date}T{clock}");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let time: DateTime = text.parse().ok()?;
    time.to_zoned(zone.clone()).ok().map(|at| at.timestamp())
}

/// Splits `key=value` at the first `=`.
///
/// # Errors
///
/// A text for the person.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Later pairs win.
#[must_use]
pub fn map(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

/// A positive duration of a lease.
///
/// # Errors
///
/// A usage error for zero and negative ones.
pub fn lease_duration(span: TimeSpan) -> Result<Duration, CliError> {
    match span.to_duration() {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(CliError::usage("--duration must be longer than nothing")
            .with_hint("write for example 30m, 1h30m or 1d")),
    }
}

/// Joins the values of `-l`.
///
/// # Errors
///
/// A usage error that names the part that cannot be read.
pub fn selector(values: &[String]) -> Result<Selector, CliError> {
    Selector::join(values).map_err(|error| CliError::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_documented_forms() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let read = |text: &str| parse_time(text, &zone).map(|time| time.to_string());
        let expected = Some("2030-01-31T17:00:00Z".to_owned());
        for text in [
            "2030-01-31T18:00",
            "2030-01-31 18:00",
            "2030-01-31_18:00:00",
            "2030-01-31T17:00:00Z",
            "2030-01-31T19:00:00+02:00",
            "1896109200",
            "1896109200000",
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(read("2030-01-31"), Some("2030-01-30T23:00:00Z".into()));
        for text in [
            "",
            "tomorrow",
            "2030-01-31T18",
            "20300131T180000",
            "2030-13-01",
            "2030-01-31T",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn pairs_are_split_once() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }

    #[test]
    fn a_lease_lasts() {
        assert!(lease_duration(TimeSpan::from_seconds(0)).is_err());
        assert!(lease_duration(TimeSpan::from_seconds(-5)).is_err());
        assert!(lease_duration(TimeSpan::from_seconds(5)).is_ok());
    }
}
