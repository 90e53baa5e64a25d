//! `jmp admin apply`.

use std::io::Read;
use std::path::{Path, PathBuf};

use jmp_config::Document;
use serde_json::Value;

use super::save::import_command;
use super::target::{DEFAULT_NAMESPACE, Target};
use super::{full_name, show};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  jmp admin apply -f policies.yaml
  generate-policies | jmp admin apply -f -";

/// Create or change objects so that they are as a file says
///
/// The file holds one or more YAML documents in the shape of the custom resources: Client, Exporter,
/// ExporterAccessPolicy (apiVersion jumpstarter.dev/v1alpha1).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The file, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub async fn run(arguments: Args, target: &Target, globals: &Globals) -> Result<u8, CliError> {
    // All of them are read before the first is sent.
    let mut objects = Vec::new();
    for file in &arguments.files {
        objects.extend(read(file)?);
    }
    for mut object in objects {
        let kind = text(&object, "kind", None);
        let name = text(&object, "metadata", Some("name"));
        if target.namespace != DEFAULT_NAMESPACE
            && object["metadata"].is_object()
            && text(&object, "metadata", Some("namespace")).is_empty()
        {
            object["metadata"]["namespace"] = target.namespace.as_str().into();
        }
        let applied = target.admin.apply(&object).await.map_err(|error| {
            CliError::from(error).with_hint(format!(
                "the object is {kind} {name}; those before it have been applied"
            ))
        })?;
        let said = format!("{} {}", full_name(&kind, &name), applied.outcome);
        show(&applied.object, &said, globals)?;
        if applied.credential.is_some() && globals.output.is_none() {
            let namespace = text(&applied.object, "metadata", Some("namespace"));
            output::note(&format!(
                "`{}` writes a configuration for it",
                import_command(&kind, &name, &namespace)
            ));
        }
    }
    Ok(exit::OK)
}

fn text(object: &Value, key: &str, inner: Option<&str>) -> String {
    let value = match inner {
        Some(inner) => &object[key][inner],
        None => &object[key],
    };
    value.as_str().unwrap_or_default().to_owned()
}

fn read(file: &Path) -> Result<Vec<Value>, CliError> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        ("standard input".to_owned(), bytes)
    } else {
        let bytes = std::fs::read(file)
            .map_err(|error| CliError::new(format!("cannot read {}: {error}", file.display())))?;
        (file.display().to_string(), bytes)
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::new(format!("{name} is not text in UTF-8")))?;
    let mut objects = Vec::new();
    for document in documents(&text) {
        let parsed = Document::parse(&name, document.as_bytes())?;
        match parsed.root().to_json() {
            Value::Null => {}
            object @ Value::Object(_) => objects.push(object),
            _ => {
                return Err(CliError::new(format!(
                    "{name} holds something that is no object"
                )));
            }
        }
    }
    if objects.is_empty() {
        return Err(CliError::new(format!("{name} holds no object")));
    }
    Ok(objects)
}

/// The documents of a file, each with empty lines for those before it, so that errors name the right line.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (lines_before, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            documents.push("\n".repeat(lines_before + 1));
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_line_numbers() {
        let found = documents("---\na: 1\n---\nb: 2\n");
        assert_eq!(found, ["", "\na: 1\n", "\n\n\nb: 2\n"]);
    }
}
