//! The one table: measured, upstream, raw limit, ratios, target, verdict.

use crate::Outcome;

/// What a figure counts.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Thousandths of a second.
    Milliseconds,
    /// Millionths of a second.
    Microseconds,
    /// 2^20 bytes.
    Mebibytes,
    /// 10^6 bytes a second.
    MegabytesPerSecond,
    /// Seconds.
    Seconds,
    /// Hundredths.
    Percent,
    /// How often within a minute.
    PerMinute,
    /// A ratio.
    Times,
}

impl Unit {
    fn show(self, value: f64) -> String {
        let digits = if value.abs() < 10.0 {
            2
        } else {
            usize::from(value.abs() < 100.0)
        };
        let unit = match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Mebibytes => "MiB",
            Self::MegabytesPerSecond => "MB/s",
            Self::Seconds => "s",
            Self::Percent => "%",
            Self::PerMinute => "/min",
            Self::Times => "x",
        };
        format!("{value:.digits$} {unit}")
    }
}

/// One measurement with its comparisons and its targets.
pub struct Row {
    name: String,
    unit: Unit,
    higher_is_better: bool,
    value: Outcome<f64>,
    upstream: Option<f64>,
    raw: Option<f64>,
    limit: Option<f64>,
    share_of_raw: Option<f64>,
    times: Option<f64>,
}

impl Row {
    /// A figure that should be small.
    pub fn lower(name: impl Into<String>, unit: Unit, value: Outcome<f64>) -> Self {
        let name = name.into();
        Self {
            name,
            unit,
            higher_is_better: false,
            value,
            upstream: None,
            raw: None,
            limit: None,
            share_of_raw: None,
            times: None,
        }
    }

    /// A figure that should be large.
    pub fn higher(name: impl Into<String>, unit: Unit, value: Outcome<f64>) -> Self {
        Self {
            higher_is_better: true,
            ..Self::lower(name, unit, value)
        }
    }

    /// The same figure of PyPI 0.9.0, when it could be measured.
    pub fn upstream(self, value: Option<f64>) -> Self {
        Self {
            upstream: value,
            ..self
        }
    }

    /// What the machine gives without any of us in between.
    pub fn raw(self, value: Outcome<f64>) -> Self {
        Self {
            raw: value.ok(),
            ..self
        }
    }

    /// Target: not above this.
    pub fn at_most(self, limit: f64) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// Target: not below this.
    pub fn at_least(self, limit: f64) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// Target: at least this part of the raw limit.
    pub fn share_of_raw(self, share: f64) -> Self {
        Self {
            share_of_raw: Some(share),
            ..self
        }
    }

    /// Target: this many times better than upstream.
    pub fn times(self, factor: Option<f64>) -> Self {
        Self {
            times: factor,
            ..self
        }
    }

    fn better_than(&self, value: f64, other: f64) -> f64 {
        if self.higher_is_better {
            value / other
        } else {
            other / value
        }
    }

    fn targets(&self) -> String {
        let sign = if self.higher_is_better { ">=" } else { "<=" };
        let mut parts = Vec::new();
        parts.extend(
            self.limit
                .map(|limit| format!("{sign} {}", self.unit.show(limit))),
        );
        parts.extend(
            self.share_of_raw
                .map(|share| format!(">= {:.0} % of raw", share * 100.0)),
        );
        parts.extend(self.times.map(|times| format!(">= {times:.0}x")));
        parts.join(", ")
    }

    /// `None` when there is no target, or none that can be judged.
    fn verdict(&self, value: f64) -> Option<bool> {
        let limit = self.limit.map(|limit| {
            if self.higher_is_better {
                value >= limit
            } else {
                value <= limit
            }
        });
        let share = self
            .share_of_raw
            .zip(self.raw)
            .map(|(share, raw)| value >= share * raw);
        let times = self
            .times
            .zip(self.upstream)
            .map(|(times, upstream)| self.better_than(value, upstream) >= times);
        let judged: Vec<bool> = [limit, share, times].into_iter().flatten().collect();
        (!judged.is_empty()).then(|| judged.iter().all(|good| *good))
    }

    fn cells(&self) -> [String; 8] {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| self.unit.show(v));
        let ratio = |other: Option<f64>, against_raw: bool| {
            let (Ok(value), Some(other)) = (&self.value, other) else {
                return "-".into();
            };
            if against_raw && self.higher_is_better {
                format!("{:.0} %", value / other * 100.0)
            } else {
                format!("{:.1}x", self.better_than(*value, other))
            }
        };
        let verdict = match &self.value {
            Ok(value) => match self.verdict(*value) {
                Some(true) => "ok".into(),
                Some(false) => "MISSED".into(),
                None => "-".into(),
            },
            Err(message) => format!(
                "not measured: {}",
                message.lines().next().unwrap_or_default()
            ),
        };
        [
            self.name.clone(),
            shown(self.value.as_ref().ok().copied()),
            shown(self.upstream),
            ratio(self.upstream, false),
            shown(self.raw),
            ratio(self.raw, true),
            self.targets(),
            verdict,
        ]
    }
}

/// Rows in the order in which they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a row and shows that the bench is alive.
    pub fn push(&mut self, row: Row) {
        eprintln!("measured: {}", row.name);
        self.rows.push(row);
    }

    /// Prints all rows as a table that is also Markdown, then why a figure is missing.
    pub fn print(&self) {
        let head = [
            "measurement",
            "ours",
            "PyPI 0.9.0",
            "ratio",
            "raw limit",
            "of raw",
            "target",
            "verdict",
        ]
        .map(str::to_owned);
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..8).map(width).collect();
        for (number, line) in lines.iter().enumerate() {
            let cells: Vec<String> = line
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    if (1..6).contains(&column) {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                })
                .collect();
            println!("| {} |", cells.join(" | "));
            if number == 0 {
                let rule = |(column, width): (usize, &usize)| {
                    if (1..6).contains(&column) {
                        format!("{}:", "-".repeat(width - 1))
                    } else {
                        "-".repeat(*width)
                    }
                };
                println!(
                    "| {} |",
                    widths
                        .iter()
                        .enumerate()
                        .map(rule)
                        .collect::<Vec<_>>()
                        .join(" | ")
                );
            }
        }
        for row in &self.rows {
            if let Err(message) = &row.value {
                println!("not measured: {}: {message}", row.name);
            }
        }
    }
}

/// The middle value; of none, not a number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Row, Unit, median};

    #[test]
    fn verdicts() {
        let time = || Row::lower("t", Unit::Milliseconds, Ok(5.0)).upstream(Some(1000.0));
        assert_eq!(time().verdict(5.0), None);
        assert_eq!(
            time().at_most(10.0).times(Some(100.0)).verdict(5.0),
            Some(true)
        );
        assert_eq!(time().at_most(4.0).verdict(5.0), Some(false));
        assert_eq!(
            time().at_most(10.0).times(Some(300.0)).verdict(5.0),
            Some(false)
        );
        let speed = || Row::higher("s", Unit::MegabytesPerSecond, Ok(30.0)).raw(Ok(100.0));
        assert_eq!(speed().share_of_raw(0.3).verdict(30.0), Some(true));
        assert_eq!(speed().at_least(50.0).verdict(30.0), Some(false));
        assert!(
            (median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON && median(vec![]).is_nan()
        );
    }
}
