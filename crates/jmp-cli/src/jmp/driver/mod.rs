//! `jmp driver`: what exporters can be configured with.

mod schema;

use driver_all::registry;
use jmp_driver::MethodKind;
use jmp_driver::interface::{InterfaceDescriptor, MethodDescriptor};
use jmp_driver::registry::DriverEntry;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit;
use crate::jmp::{Globals, version};
use crate::output::{self, Format, Listing};
use schema::Field;

const EXAMPLES: &str = "\
Examples:
  jmp driver list
  jmp driver show MockPower
  jmp driver schema jumpstarter_driver_pyserial.driver.PySerial";

/// Show the drivers that exporter configurations can name
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all drivers
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  jmp driver list\n  jmp driver list -o name"
    )]
    List,
    /// Show what a driver can be configured with and what it can do
    #[command(
        after_help = "Examples:\n  jmp driver show MockPower\n  jmp driver show MockPower -o json"
    )]
    Show {
        /// Type, or its last part, such as MockPower
        name: String,
    },
    /// Print the JSON schema of a driver's `config`
    #[command(after_help = "Examples:\n  jmp driver schema PySerial > serial.schema.json")]
    Schema {
        /// Type, or its last part, such as MockPower
        name: String,
    },
    /// Show the version of this program
    #[command(
        visible_aliases = ["ver", "v"],
        after_help = "Examples:\n  jmp driver version"
    )]
    Version,
}

/// Runs the command.
///
/// # Errors
///
/// When there is no such driver.
pub fn run(arguments: &Args, globals: &Globals) -> Result<u8, CliError> {
    match &arguments.command {
        Command::List => list(globals),
        Command::Show { name } => show(&find(name)?, globals),
        Command::Schema { name } => print_schema(&find(name)?, globals),
        Command::Version => version::run(globals),
    }
}

fn list(globals: &Globals) -> Result<u8, CliError> {
    let registry = registry();
    let entries: Vec<&DriverEntry> = registry.entries().iter().collect();
    let listing = Listing {
        headings: vec!["NAME", "TYPE", "SUMMARY"],
        rows: entries
            .iter()
            .map(|entry| {
                vec![
                    entry.name().to_owned(),
                    canonical(entry).to_owned(),
                    entry.summary.to_owned(),
                ]
            })
            .collect(),
        names: entries
            .iter()
            .map(|entry| entry.name().to_owned())
            .collect(),
        paths: entries
            .iter()
            .map(|entry| canonical(entry).to_owned())
            .collect(),
        data: json!({"drivers": entries.iter().map(|entry| head(entry)).collect::<Vec<_>>()}),
        empty: "No drivers found.",
    };
    listing.print(globals.output)?;
    Ok(exit::OK)
}

fn canonical(entry: &DriverEntry) -> &'static str {
    entry.types.first().copied().unwrap_or_default()
}

fn head(entry: &DriverEntry) -> Value {
    json!({"name": entry.name(), "type": canonical(entry), "summary": entry.summary})
}

fn find(name: &str) -> Result<DriverEntry, CliError> {
    let registry = registry();
    registry.find(name).cloned().ok_or_else(|| {
        let near = registry.nearest(name);
        let hint = if near.is_empty() {
            "`jmp driver list` shows all drivers".to_owned()
        } else {
            format!("did you mean `{}`?", near.join("` or `"))
        };
        CliError::new(format!("there is no driver `{name}`")).with_hint(hint)
    })
}

fn print_schema(entry: &DriverEntry, globals: &Globals) -> Result<u8, CliError> {
    let schema = (entry.schema)().to_value();
    match globals.output {
        Some(Format::Yaml) => output::print(&output::yaml(&schema)?)?,
        _ => output::print(&output::json(&schema))?,
    }
    Ok(exit::OK)
}

fn show(entry: &DriverEntry, globals: &Globals) -> Result<u8, CliError> {
    let fields = schema::fields(&(entry.schema)().to_value());
    let interfaces = (entry.interfaces)();
    match globals.output {
        None => output::print(&page(entry, &fields, &interfaces))?,
        Some(Format::Name) => output::print(&format!("{}\n", entry.name()))?,
        Some(Format::Path) => output::print(&format!("{}\n", canonical(entry)))?,
        Some(format) => {
            let mut data = head(entry);
            data["types"] = json!(entry.types);
            data["config"] = fields.iter().map(Field::to_json).collect();
            data["interfaces"] = interfaces.iter().map(|one| interface_json(one)).collect();
            let text = match format {
                Format::Yaml => output::yaml(&data)?,
                _ => output::json(&data),
            };
            output::print(&text)?;
        }
    }
    Ok(exit::OK)
}

fn page(entry: &DriverEntry, fields: &[Field], interfaces: &[&InterfaceDescriptor]) -> String {
    let mut text = format!("{}: {}\n\n", entry.name(), entry.summary);
    for (index, name) in entry.types.iter().enumerate() {
        let label = if index == 0 { "Type: " } else { "Alias:" };
        text.push_str(&format!("{label} {name}\n"));
    }
    text.push_str("\nConfiguration:\n");
    if fields.is_empty() {
        text.push_str("  nothing to configure\n");
    } else {
        let rows: Vec<Vec<String>> = fields.iter().map(Field::row).collect();
        indent(
            &mut text,
            &output::table(&["KEY", "TYPE", "DEFAULT", "DESCRIPTION"], &rows),
        );
    }
    text.push_str("\nExample:\n");
    indent(&mut text, &schema::example(entry, fields));
    for interface in interfaces {
        text.push_str(&format!("\nInterface {}:\n", interface.name));
        let rows: Vec<Vec<String>> = interface
            .methods
            .iter()
            .map(|method| {
                vec![
                    signature(method),
                    kind(method.kind).to_owned(),
                    first_line(method.documentation),
                ]
            })
            .collect();
        indent(
            &mut text,
            &output::table(&["METHOD", "KIND", "DESCRIPTION"], &rows),
        );
    }
    text
}

fn indent(text: &mut String, block: &str) {
    for line in block.lines() {
        text.push_str(&format!("  {line}\n"));
    }
}

/// The first sentence or line of a documentation text.
fn first_line(documentation: &str) -> String {
    documentation
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn signature(method: &MethodDescriptor) -> String {
    let arguments: Vec<String> = method
        .arguments
        .iter()
        .map(|argument| {
            let optional = if argument.optional { "?" } else { "" };
            let variadic = if argument.variadic { "…" } else { "" };
            format!(
                "{}{variadic}: {}{optional}",
                argument.name, argument.type_name
            )
        })
        .collect();
    format!("{}({})", method.name, arguments.join(", "))
}

fn kind(kind: MethodKind) -> &'static str {
    match kind {
        MethodKind::Unary => "call",
        MethodKind::Streaming => "streaming call",
        MethodKind::ByteStream => "byte stream",
    }
}

fn interface_json(interface: &InterfaceDescriptor) -> Value {
    let methods: Vec<Value> = interface
        .methods
        .iter()
        .map(|method| {
            let arguments: Vec<Value> = method
                .arguments
                .iter()
                .map(|argument| {
                    json!({
                        "name": argument.name,
                        "type": argument.type_name,
                        "optional": argument.optional,
                        "variadic": argument.variadic,
                    })
                })
                .collect();
            json!({
                "name": method.name,
                "kind": kind(method.kind),
                "description": method.documentation,
                "arguments": arguments,
            })
        })
        .collect();
    json!({
        "name": interface.name,
        "client": interface.client,
        "description": interface.documentation,
        "methods": methods,
    })
}
