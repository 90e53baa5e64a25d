//! Options of every command, and what commands need of the outside world.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use jmp_config::{Flags, Paths, ProcessEnvironment, Store};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::output::{Form, Format};

/// Options that all commands share.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Controller to use instead of the configured one, HOST[:PORT]
    #[arg(long, global = true, value_name = "ENDPOINT")]
    pub endpoint: Option<String>,

    /// Log from this level on, on standard error: debug, info, warning, error or critical
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        ignore_case = true,
        hide_possible_values = true
    )]
    pub log_level: Option<LogLevel>,

    /// Print the result (and errors) as json, as yaml, or only each name or path
    #[arg(
        id = "output",
        short,
        long = "output",
        global = true,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    form: Option<Form>,

    /// What [`Self::settled`] made of `-o`.
    #[arg(skip)]
    pub output: Option<Format>,

    /// `-o wide`: a table with all columns.
    #[arg(skip)]
    pub wide: bool,

    /// Never ask; take the answer that changes least, or fail
    #[arg(long, global = true)]
    pub nointeractive: bool,
}

/// Levels of `--log-level`, in upper or lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the authors of drivers.
    Debug,
    /// What happens.
    Info,
    /// Worth a look.
    Warning,
    /// Something failed.
    Error,
    /// Hardly anything.
    Critical,
}

impl ValueEnum for LogLevel {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Debug,
            Self::Info,
            Self::Warning,
            Self::Error,
            Self::Critical,
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.as_str()))
    }
}

// === impl LogLevel ===

impl LogLevel {
    /// The word as shipped clients write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// The level of a log line of an exporter; unknown words count as `INFO`.
    pub fn of(severity: &str) -> Self {
        Self::value_variants()
            .iter()
            .copied()
            .find(|level| level.as_str().eq_ignore_ascii_case(severity))
            .unwrap_or(Self::Info)
    }
}

// === impl Globals ===

impl Globals {
    /// The options as commands use them.
    pub(crate) fn settled(mut self) -> Self {
        self.output = self.form.and_then(Form::format);
        self.wide = self.form == Some(Form::Wide);
        self
    }

    /// The configuration files of this user and machine.
    pub fn store(&self) -> Store {
        Store::new(Paths::from_environment(&ProcessEnvironment))
    }

    /// The overrides that the global options make.
    pub fn flags(&self) -> Flags {
        Flags {
            endpoint: self.endpoint.clone(),
            ..Flags::default()
        }
    }

    /// Whether a person is there to answer questions.
    pub fn interactive(&self) -> bool {
        !self.nointeractive && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Sends the program's own log lines to standard error, if they were asked for. Commands that
    /// should log without being asked call [`log_from`] themselves.
    pub(crate) fn start_logging(&self) {
        if let Some(level) = self.log_level {
            log_from(level);
        }
    }
}

/// Shows the program's own log lines of this level and above on standard error. The first call counts.
pub fn log_from(level: LogLevel) {
    let filter = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
    };
    // A controller asks connections whether they live, and h2 takes the answers for mistakes of the peer.
    let wanted = Targets::new()
        .with_default(filter)
        .with_target("h2", filter.min(LevelFilter::ERROR));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(crate::output::colours_stderr());
    // Somebody else's subscriber, as in a test, stays.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(wanted))
        .try_init();
}
