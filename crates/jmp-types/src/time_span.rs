//! Durations as people write them: `--duration`, `leases.*`, `JMP_RETRY_TIMEOUT`.
//!
//! Two grammars met users before us and both are accepted:
//!
//! * 0.6: ISO 8601 (`P1DT2H`, upper case, a year is 365 days, a month 30), `HH:MM[:SS[.f]]`,
//!   `N d|day|days[,] [HH:MM[:SS]]`;
//! * 0.9: a bare integer is seconds, unit lists (`1h30m`, `1.5h`, `2 weeks, 3 days`, `500ms`), the
//!   clock forms `HH:MM:SS` and `D:HH:MM:SS`.
//!
//! They contradict each other in one place: `01:30` is an hour and a half in 0.6 and a minute and a half
//! in 0.9. **It is read as hours and minutes here.** That is what the documentation says
//! ("time in hours, minutes, seconds", leading part first), it agrees with `01:30:00` and with
//! `1 day 01:30`, and the mistake it can cause is the harmless one: a lease that is too long ends with its
//! shell, one that is too short ends in the middle of flashing. Since a 0.9 user may have meant the other,
//! [`TimeSpan::parse_with_note`] hands back a sentence to print.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * NANOS_PER_SECOND;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;
/// What `google.protobuf.Duration` can carry: 10,000 years.
const LIMIT: i128 = 315_576_000_000 * NANOS_PER_SECOND;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeSpanError {
    /// Nothing was written.
    #[error("the duration is empty: write for example 30m, 1h30m, 01:30:00 or PT1H30M")]
    Empty,
    /// None of the accepted forms.
    #[error(
        "cannot read `{text}` as a duration ({reason}): write for example 90, 30m, 1h30m, 2 days, 01:30:00 or PT1H30M"
    )]
    Form {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than 10,000 years.
    #[error("the duration `{text}` is too long: at most 315576000000 seconds can be sent")]
    Overflow {
        /// The text as given.
        text: String,
    },
    /// A negative span where a length is needed.
    #[error("the duration {span} is negative")]
    Negative {
        /// The span.
        span: TimeSpan,
    },
}

/// A signed length of time with nanosecond resolution, at most 10,000 years either way.
///
/// Zero and negative spans exist because 0.9.0 passes them to the controller, which decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan {
    nanoseconds: i128,
}

/// A duration together with what should be said about its reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedTimeSpan {
    /// The duration.
    pub span: TimeSpan,
    /// A sentence to print when the text means something else to 0.9.
    pub note: Option<String>,
}

// === impl TimeSpan ===

impl TimeSpan {
    /// A span of whole seconds, clamped to 10,000 years.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        let nanoseconds = i128::from(seconds) * NANOS_PER_SECOND;
        Self {
            nanoseconds: nanoseconds.clamp(-LIMIT, LIMIT),
        }
    }

    /// Reads a duration, see the module documentation for the grammar.
    ///
    /// # Errors
    /// [`TimeSpanError`] with examples of what to write.
    pub fn parse(text: &str) -> Result<Self, TimeSpanError> {
        Self::parse_with_note(text).map(|parsed| parsed.span)
    }

    /// Reads a duration and says whether 0.9 would have read it differently (only `HH:MM`).
    ///
    /// # Errors
    /// As [`TimeSpan::parse`].
    pub fn parse_with_note(text: &str) -> Result<ParsedTimeSpan, TimeSpanError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(TimeSpanError::Empty);
        }
        let (negative, body) = match trimmed.as_bytes()[0] {
            b'-' => (true, &trimmed[1..]),
            b'+' => (false, &trimmed[1..]),
            _ => (false, trimmed),
        };
        let magnitude = parse_magnitude(body.trim_start()).map_err(|failure| match failure {
            Failure::Form(reason) => TimeSpanError::Form {
                text: text.to_owned(),
                reason,
            },
            Failure::Overflow => TimeSpanError::Overflow {
                text: text.to_owned(),
            },
        })?;
        let span = Self {
            nanoseconds: if negative { -magnitude } else { magnitude },
        };
        let note = is_hours_minutes(body).then(|| {
            format!(
                "`{trimmed}` is read as hours and minutes ({span}); write `{trimmed}:00` to say so, or the form `1m30s` for minutes and seconds"
            )
        });
        Ok(ParsedTimeSpan { span, note })
    }

    /// Whole seconds, rounded toward zero: the `seconds` of `google.protobuf.Duration`.
    #[must_use]
    pub fn whole_seconds(self) -> i64 {
        i64::try_from(self.nanoseconds / NANOS_PER_SECOND).unwrap_or(i64::MAX)
    }

    /// Nanoseconds beyond [`TimeSpan::whole_seconds`], with the same sign.
    #[must_use]
    pub fn subsecond_nanoseconds(self) -> i32 {
        i32::try_from(self.nanoseconds % NANOS_PER_SECOND).unwrap_or(0)
    }

    /// The length in seconds, as 0.9.0 prints it in JSON.
    #[must_use]
    pub fn as_seconds_f64(self) -> f64 {
        self.whole_seconds() as f64 + f64::from(self.subsecond_nanoseconds()) / 1e9
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nanoseconds < 0
    }

    /// The span as an unsigned duration.
    ///
    /// # Errors
    /// [`TimeSpanError::Negative`] for a negative span.
    pub fn to_duration(self) -> Result<Duration, TimeSpanError> {
        match (
            u64::try_from(self.whole_seconds()),
            u32::try_from(self.subsecond_nanoseconds()),
        ) {
            (Ok(seconds), Ok(nanoseconds)) => Ok(Duration::new(seconds, nanoseconds)),
            _ => Err(TimeSpanError::Negative { span: self }),
        }
    }
}

impl From<Duration> for TimeSpan {
    fn from(duration: Duration) -> Self {
        let nanoseconds = i128::try_from(duration.as_nanos()).unwrap_or(LIMIT);
        Self {
            nanoseconds: nanoseconds.min(LIMIT),
        }
    }
}

impl FromStr for TimeSpan {
    type Err = TimeSpanError;

    fn from_str(text: &str) -> Result<Self, TimeSpanError> {
        Self::parse(text)
    }
}

/// Writes the unit list form (`1d3h40m`, `0.5s`, `-30s`), which [`TimeSpan::parse`] reads back.
impl fmt::Display for TimeSpan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanoseconds < 0 {
            formatter.write_str("-")?;
        }
        let mut rest = self.nanoseconds.unsigned_abs();
        let mut written = false;
        for (unit, name) in [(DAY, "d"), (HOUR, "h"), (MINUTE, "m")] {
            let unit = unit.unsigned_abs();
            if rest >= unit {
                write!(formatter, "{}{name}", rest / unit)?;
                rest %= unit;
                written = true;
            }
        }
        let second = NANOS_PER_SECOND.unsigned_abs();
        match (rest / second, rest % second) {
            (0, 0) if written => Ok(()),
            (seconds, 0) => write!(formatter, "{seconds}s"),
            (seconds, nanoseconds) => {
                let fraction = format!("{nanoseconds:09}");
                write!(formatter, "{seconds}.{}s", fraction.trim_end_matches('0'))
            }
        }
    }
}

// === reading ===

enum Failure {
    Form(&'static str),
    Overflow,
}

fn parse_magnitude(body: &str) -> Result<i128, Failure> {
    let total = if let Some(iso) = body.strip_prefix('P') {
        parse_iso(iso)?
    } else if body.contains(':') {
        parse_clock(body)?
    } else if body.bytes().all(|byte| byte.is_ascii_digit()) {
        scale(body, NANOS_PER_SECOND)?
    } else {
        parse_units(body)?
    };
    if total > LIMIT {
        return Err(Failure::Overflow);
    }
    Ok(total)
}

fn is_hours_minutes(body: &str) -> bool {
    body.split_once(':').is_some_and(|(hours, minutes)| {
        [hours, minutes]
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// `[D:]HH:MM[:SS[.f]]`, optionally after `N days`.
fn parse_clock(body: &str) -> Result<i128, Failure> {
    let clock_start = body
        .rfind(|character: char| character.is_whitespace() || character == ',')
        .map_or(0, |index| index + 1);
    let prefix = body[..clock_start].trim_end_matches([' ', ',', '\t']);
    let mut total = 0;
    if !prefix.is_empty() {
        total = parse_units(prefix)?;
        let unit = prefix.trim_start_matches(|character: char| {
            character.is_ascii_digit() || character.is_whitespace()
        });
        if !matches!(unit.to_ascii_lowercase().as_str(), "d" | "day" | "days") {
            return Err(Failure::Form("only days may stand before a clock time"));
        }
    }
    let parts: Vec<&str> = body[clock_start..].split(':').collect();
    let (days, hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes] => ("0", *hours, *minutes, "0"),
        [hours, minutes, seconds] => ("0", *hours, *minutes, *seconds),
        [days, hours, minutes, seconds] if prefix.is_empty() => (*days, *hours, *minutes, *seconds),
        _ => return Err(Failure::Form("too many colons")),
    };
    for part in [days, hours, minutes] {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Failure::Form("a part beside a colon is not a number"));
        }
    }
    total += scale(days, DAY)? + scale(hours, HOUR)? + scale(minutes, MINUTE)?;
    Ok(total + scale(seconds, NANOS_PER_SECOND)?)
}

/// The part of an ISO 8601 duration after `P`.
fn parse_iso(body: &str) -> Result<i128, Failure> {
    const DATE: [(u8, i128); 4] = [
        (b'Y', 365 * DAY),
        (b'M', 30 * DAY),
        (b'W', 7 * DAY),
        (b'D', DAY),
    ];
    const TIME: [(u8, i128); 3] = [(b'H', HOUR), (b'M', MINUTE), (b'S', NANOS_PER_SECOND)];
    let (date, time) = match body.split_once('T') {
        Some((_, "")) => return Err(Failure::Form("nothing follows the T")),
        Some((date, time)) => (date, time),
        None => (body, ""),
    };
    if body.is_empty() {
        return Err(Failure::Form("nothing follows the P"));
    }
    Ok(parse_designators(date, &DATE)? + parse_designators(time, &TIME)?)
}

fn parse_designators(mut text: &str, units: &[(u8, i128)]) -> Result<i128, Failure> {
    let mut total: i128 = 0;
    let mut remaining = units;
    while !text.is_empty() {
        let (number, rest) = split_number(text);
        let letter = *rest
            .as_bytes()
            .first()
            .ok_or(Failure::Form("the last number has no unit letter"))?;
        let position = remaining
            .iter()
            .position(|(unit, _)| *unit == letter)
            .ok_or(Failure::Form(
                "unit letters are upper case and in the order Y M W D T H M S",
            ))?;
        total = total
            .checked_add(scale(number, remaining[position].1)?)
            .ok_or(Failure::Overflow)?;
        remaining = &remaining[position + 1..];
        text = &rest[1..];
    }
    Ok(total)
}

/// `1h30m`, `1.5 hours`, `2 weeks, 3 days`.
fn parse_units(body: &str) -> Result<i128, Failure> {
    let mut total: i128 = 0;
    let mut text = body;
    while !text.is_empty() {
        let (number, rest) = split_number(text);
        if number.is_empty() {
            return Err(Failure::Form("a unit has no number before it"));
        }
        let rest = rest.trim_start();
        let end = rest
            .find(|character: char| !character.is_alphabetic() && character != 'µ')
            .unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        if word.is_empty() {
            return Err(Failure::Form("a number has no unit after it"));
        }
        let unit = unit_length(word).ok_or(Failure::Form(
            "units are w, d, h, m, s, ms, mo, y or their words",
        ))?;
        total = total
            .checked_add(scale(number, unit)?)
            .ok_or(Failure::Overflow)?;
        text = rest.trim_start_matches([' ', '\t', ',']);
    }
    Ok(total)
}

fn unit_length(word: &str) -> Option<i128> {
    // Single letters are case-sensitive: `M` could be a month as well as a minute.
    let folded = if word.len() > 2 {
        word.to_ascii_lowercase()
    } else {
        word.to_owned()
    };
    Some(match folded.as_str() {
        "y" | "yr" | "yrs" | "year" | "years" => 365 * DAY,
        "mo" | "mon" | "month" | "months" => 30 * DAY,
        "w" | "wk" | "wks" | "week" | "weeks" => 7 * DAY,
        "d" | "day" | "days" => DAY,
        "h" | "hr" | "hrs" | "hour" | "hours" => HOUR,
        "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
        "s" | "sec" | "secs" | "second" | "seconds" => NANOS_PER_SECOND,
        "ms" | "msec" | "millisecond" | "milliseconds" => NANOS_PER_SECOND / 1_000,
        "us" | "µs" | "microsecond" | "microseconds" => NANOS_PER_SECOND / 1_000_000,
        _ => return None,
    })
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `number` (digits, optionally with a fraction) times `unit`; digits beyond nanoseconds are cut.
fn scale(number: &str, unit: i128) -> Result<i128, Failure> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(Failure::Form("a number is missing or malformed"));
    }
    // 18 digits of nanoseconds-per-year still fit an i128 with room to spare.
    if whole.trim_start_matches('0').len() > 18 {
        return Err(Failure::Overflow);
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| Failure::Overflow)?
    };
    let fraction = &fraction[..fraction.len().min(12)];
    let mut total = whole * unit;
    if !fraction.is_empty() {
        let power = u32::try_from(fraction.len()).map_err(|_| Failure::Overflow)?;
        let numerator: i128 = fraction.parse().map_err(|_| Failure::Overflow)?;
        total += numerator * unit / 10_i128.pow(power);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> f64 {
        TimeSpan::parse(text)
            .unwrap_or_else(|error| panic!("{error}"))
            .as_seconds_f64()
    }

    #[test]
    fn both_grammars_are_read() {
        for (text, expected) in [
            // 0.9
            ("60", 60.0),
            ("90m", 5400.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("1d3h40m", 99_600.0),
            ("2 weeks, 3 days", 1_468_800.0),
            ("500ms", 0.5),
            ("1mo", 2_592_000.0),
            ("1y", 31_536_000.0),
            ("5 minutes", 300.0),
            ("25:61:00", 93_660.0),
            ("1:02:03:04", 93_784.0),
            ("-30", -30.0),
            ("-1h", -3600.0),
            ("0", 0.0),
            // 0.6
            ("PT1H30M", 5400.0),
            ("P1Y2M3W4DT5H6M7.5S", 38_898_367.5),
            ("-PT10S", -10.0),
            ("PT0.5H", 1800.0),
            ("00:30:00", 1800.0),
            ("100:00:00", 360_000.0),
            ("00:00:01.25", 1.25),
            ("2 days, 01:30:00", 178_200.0),
            ("1 day 02:00", 93_600.0),
            ("1d 00:00:30", 86_430.0),
            ("1d", 86_400.0),
            // The conflict, settled for hours and minutes.
            ("01:30", 5400.0),
        ] {
            assert!((seconds(text) - expected).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn only_hours_minutes_carries_a_note() {
        let note = TimeSpan::parse_with_note("01:30").unwrap().note;
        assert!(note.is_some_and(|note| note.contains("1h30m")));
        for clear in ["01:30:00", "1 day 02:00", "90", "1h30m", "PT1H"] {
            assert_eq!(TimeSpan::parse_with_note(clear).unwrap().note, None);
        }
    }

    #[test]
    fn malformed_and_overlong_texts_are_refused() {
        for text in [
            "",
            "  ",
            "-",
            "1h30",
            "pt1h",
            "P",
            "PT",
            "P1H",
            "PT1M1H",
            "h",
            "1.2.3h",
            "abc",
            "1:",
            ":30",
            "1:2:3:4:5",
            "1 hour 02:00",
            "1.5",
            "5M",
            "1h-30m",
            "١٠",
            "1 day 1:02:03:04",
        ] {
            assert!(TimeSpan::parse(text).is_err(), "{text:?}");
        }
        for text in ["99999999999999999999", "999999999999w", "P99999999999Y"] {
            assert!(
                matches!(TimeSpan::parse(text), Err(TimeSpanError::Overflow { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn display_is_read_back() {
        for text in [
            "1d3h40m",
            "0s",
            "0.5s",
            "-1h",
            "30m",
            "59s",
            "1d0.000000001s",
        ] {
            assert_eq!(TimeSpan::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            TimeSpan::parse("1h").unwrap().to_duration().unwrap(),
            Duration::from_secs(3600)
        );
        assert!(TimeSpan::parse("-1h").unwrap().to_duration().is_err());
    }
}
