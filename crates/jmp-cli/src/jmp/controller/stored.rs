//! `jmp controller backup`, `restore`, `inspect` and `dump`: the store of this host.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use jmp_store::{FileError, Inspection};
use serde_json::{Map, Value, json};

use super::data::DataDirectory;
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::prompt;
use crate::output::{self, Format, Listing};

const BACKUP_EXAMPLES: &str = "\
Examples:
  jmp controller backup lab-$(date +%F).db
  jmp controller backup --data-directory /srv/jumpstarter /backup/lab.db";

/// Copy the store of this host's controller to a file, whether the controller runs or not
///
/// `jmp admin backup` does the same from any host, while the controller runs. The copy has no keys:
/// keep the rest of the data directory, too.
#[derive(Debug, clap::Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub struct BackupArgs {
    #[command(flatten)]
    data: DataArgs,

    /// The file; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  systemctl stop jumpstarter-controller
  jmp controller restore lab-2030-01-31.db
  systemctl start jumpstarter-controller";

/// Put a backup in the place of the store, whose controller must not run
///
/// What was decided since the backup is undone: credentials that were revoked since then work again,
/// and those that were made since then do not. The store that was there is kept beside the new one.
#[derive(Debug, clap::Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub struct RestoreArgs {
    #[command(flatten)]
    data: DataArgs,

    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  jmp controller inspect
  jmp controller inspect lab-2030-01-31.db -o json";

/// Show what is in a store or a backup, and whether it is whole
#[derive(Debug, clap::Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub struct InspectArgs {
    #[command(flatten)]
    data: DataArgs,

    /// The file [default: the store of this host]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

const DUMP_EXAMPLES: &str = "\
Examples:
  jmp controller dump > lab.jsonl
  jmp controller dump lab-2030-01-31.db | grep '\"audit\"'";

/// Print everything in a store or a backup, one JSON object a line
#[derive(Debug, clap::Args)]
#[command(after_help = DUMP_EXAMPLES)]
pub struct DumpArgs {
    #[command(flatten)]
    data: DataArgs,

    /// The file [default: the store of this host]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Where the controller keeps everything.
#[derive(Debug, Clone, Default, clap::Args)]
struct DataArgs {
    /// Where everything is kept [default: $JMP_DATA_DIRECTORY, /var/lib/jumpstarter for root, else
    /// ~/.local/share/jumpstarter/controller]
    #[arg(long, value_name = "DIRECTORY")]
    data_directory: Option<PathBuf>,
}

// === impl DataArgs ===

impl DataArgs {
    fn find(&self) -> Result<DataDirectory, CliError> {
        DataDirectory::existing(self.data_directory.as_deref())
    }

    /// The given file, else the store.
    fn store(&self, file: Option<&PathBuf>) -> Result<PathBuf, CliError> {
        match file {
            Some(file) => Ok(file.clone()),
            None => Ok(self.find()?.store()),
        }
    }
}

/// Runs `jmp controller backup`.
///
/// # Errors
///
/// When there is no whole store, or no room for the copy.
pub async fn backup(arguments: BackupArgs, globals: &Globals) -> Result<u8, CliError> {
    let store = arguments.data.find()?.store();
    let target = arguments.file;
    if target.exists() {
        return Err(
            CliError::new(format!("{} exists already", target.display()))
                .with_hint("give another name; a backup never replaces a file"),
        );
    }
    let report = blocking(move || jmp_store::backup(store, target)).await?;
    let path = report.path.display().to_string();
    print(summary(&report.content), &path, globals, || {
        output::note(&format!(
            "saved {path} ({} bytes, {})",
            report.content.bytes,
            counts(&report.content)
        ));
    })
}

/// Runs `jmp controller restore`.
///
/// # Errors
///
/// When the backup is not whole, or the controller runs.
pub async fn restore(arguments: RestoreArgs, globals: &Globals) -> Result<u8, CliError> {
    let data = DataDirectory::open(arguments.data.data_directory.as_deref())?;
    let question = format!(
        "Put {} in the place of {}? What was decided since then is undone, revoked credentials work again.",
        arguments.file.display(),
        data.store().display()
    );
    if globals.interactive() && !prompt::confirm(&question, globals)? {
        return Err(CliError::new("Aborted!").with_hint("--nointeractive skips the question"));
    }
    let (backup, store) = (arguments.file, data.store());
    let report = blocking(move || jmp_store::restore(backup, store)).await?;
    let path = report.path.display().to_string();
    let mut facts = summary(&report.content);
    let kept = report.kept.as_ref().map(|kept| kept.display().to_string());
    facts.insert("kept".into(), json!(kept));
    print(facts, &path, globals, || {
        output::note(&format!("restored {path} ({})", counts(&report.content)));
        if let Some(kept) = &kept {
            output::note(&format!("the store that was there is {kept}"));
        }
    })?;
    output::warn(
        "credentials that were revoked or rotated since the backup work again as they did then: revoke them \
         again once the controller runs (`jmp admin revoke`)",
    );
    if !data.identity_keys().exists() {
        output::warn(&format!(
            "there is no {}: the controller makes a new one, and no token that was given out is good then; \
             copy it from the old data directory first",
            data.identity_keys().display()
        ));
    }
    Ok(exit::OK)
}

/// Runs `jmp controller inspect`.
///
/// # Errors
///
/// When there is no whole store.
pub async fn inspect(arguments: InspectArgs, globals: &Globals) -> Result<u8, CliError> {
    let path = arguments.data.store(arguments.file.as_ref())?;
    let content = blocking(move || jmp_store::inspect(path)).await?;
    let facts = summary(&content);
    let rows = facts.iter().flat_map(|(key, value)| match value {
        Value::Object(counts) => counts
            .iter()
            .map(|(kind, count)| vec![format!("{key} {kind}"), count.to_string()])
            .collect(),
        Value::String(text) => vec![vec![key.clone(), text.clone()]],
        other => vec![vec![key.clone(), other.to_string()]],
    });
    let listing = Listing {
        headings: vec!["KEY", "VALUE"],
        rows: rows.collect(),
        names: vec![content.path.display().to_string()],
        paths: vec![content.path.display().to_string()],
        data: Value::Object(facts.clone()),
        empty: "",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

/// Runs `jmp controller dump`.
///
/// # Errors
///
/// When there is no whole store.
pub async fn dump(arguments: DumpArgs) -> Result<u8, CliError> {
    let path = arguments.data.store(arguments.file.as_ref())?;
    blocking(move || {
        let mut out = BufWriter::new(io::stdout().lock());
        let count = jmp_store::dump(&path, &mut out)?;
        out.flush().map_err(|source| FileError::Io {
            action: "write the content of",
            path,
            source,
        })?;
        Ok(count)
    })
    .await?;
    Ok(exit::OK)
}

/// Files are read and written on a thread of their own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| CliError::new(error.to_string()))?;
    done.map_err(|error| match error {
        FileError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => source.into(),
        FileError::Missing { path } => {
            CliError::new(format!("there is no store at {}", path.display()))
                .with_hint("name the directory with --data-directory, or the file")
        }
        FileError::InUse { .. } => CliError::new(error.to_string()).with_hint(
            "stop the controller first, such as with `systemctl stop jumpstarter-controller`",
        ),
        other => CliError::new(other.to_string()),
    })
}

fn summary(content: &Inspection) -> Map<String, Value> {
    let objects: Map<String, Value> = content
        .objects
        .iter()
        .map(|(kind, count)| (kind.name().to_owned(), json!(count)))
        .collect();
    let facts = [
        ("path", json!(content.path.display().to_string())),
        ("bytes", json!(content.bytes)),
        ("schemaVersion", json!(content.schema_version)),
        ("revision", json!(content.revision)),
        ("objects", Value::Object(objects)),
        ("liveLeases", json!(content.live_leases)),
        ("events", json!(content.events)),
        ("auditRecords", json!(content.audit_records)),
    ];
    let facts = facts
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    facts.collect()
}

fn counts(content: &Inspection) -> String {
    let objects: u64 = content.objects.values().sum();
    format!(
        "{objects} objects, {} live leases, {} audit records",
        content.live_leases, content.audit_records
    )
}

/// For programs the facts, for people a sentence.
fn print(
    facts: Map<String, Value>,
    path: &str,
    globals: &Globals,
    say: impl FnOnce(),
) -> Result<u8, CliError> {
    match globals.output {
        Some(Format::Json) => output::print(&output::json(&Value::Object(facts)))?,
        Some(Format::Yaml) => output::print(&output::yaml(&Value::Object(facts))?)?,
        Some(Format::Name | Format::Path) => output::print(&format!("{path}\n"))?,
        None => say(),
    }
    Ok(exit::OK)
}
