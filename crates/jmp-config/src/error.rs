//! What can go wrong around configuration, each with what to do next.

use std::io;
use std::path::PathBuf;

use jmp_types::IdError;

use crate::diagnostic::ConfigError;

/// Which kind of configuration a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Client configurations.
    Client,
    /// Exporter configurations.
    Exporter,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Client => "client",
            Self::Exporter => "exporter",
        })
    }
}

/// Why configuration could not be found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there but wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write`, `delete`, `list`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no file of that name.
    #[error("{}", unknown_alias(*.kind, .alias, .near, .existing, .looked_in))]
    UnknownAlias {
        /// What was looked for.
        kind: Kind,
        /// The name as given.
        alias: String,
        /// Names near to it, best first.
        near: Vec<String>,
        /// All names there are.
        existing: Vec<String>,
        /// The directories that were searched.
        looked_in: Vec<PathBuf>,
    },
    /// The name cannot be a file name.
    #[error(transparent)]
    Alias(#[from] IdError),
    /// A new configuration would replace one that is there.
    #[error("the {kind} configuration `{alias}` exists already at {}; delete it first or choose another name", path.display())]
    Exists {
        /// What was to be created.
        kind: Kind,
        /// Its name.
        alias: String,
        /// Where it is.
        path: PathBuf,
    },
    /// The machine's files are not the user's to change.
    #[error("the exporter configuration `{alias}` belongs to the system ({}); an administrator must change it there", path.display())]
    SystemFile {
        /// Its name.
        alias: String,
        /// Where it is.
        path: PathBuf,
    },
    /// A variable holds something that cannot be used.
    #[error("the environment variable {variable} should be {expected}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
}

fn unknown_alias(
    kind: Kind,
    alias: &str,
    near: &[String],
    existing: &[String],
    looked_in: &[PathBuf],
) -> String {
    let mut text = format!("there is no {kind} configuration `{alias}`");
    if let Some(nearest) = near.first() {
        text.push_str(&format!("; did you mean `{nearest}`?"));
    }
    let directories: Vec<String> = looked_in
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    text.push_str(&format!("\nlooked in {}", directories.join(" and ")));
    if existing.is_empty() {
        let command = match kind {
            Kind::Client => "`jmp config client create`",
            Kind::Exporter => "`jmp config exporter create`",
        };
        text.push_str(&format!(
            ", where there is none yet; make one with {command}"
        ));
    } else {
        let names = crate::decode::sentence_list(existing);
        text.push_str(&format!(", where there is {names}"));
    }
    text
}
