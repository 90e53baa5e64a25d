//! `docs/drivers.md`: what the drivers say about themselves.

use std::fmt::Write;

use async_trait::async_trait;
use jmp_driver::command::{
    Argument, ArgumentKind, ClientType, Command, Commands, DeviceInfo, ValueKind,
};
use jmp_driver::handle::Target;
use jmp_driver::interface::{InterfaceDescriptor, MethodDescriptor, MethodKind, ValueStream};
use jmp_driver::registry::DriverEntry;
use jmp_driver::{ByteStream, DriverHandle, Error, ResourceHandle, Result};
use prost_types::Value as WireValue;
use serde_json::{Map, Value as Json};

use crate::markdown::anchor;

const HEAD: &str = "\
# Drivers

<!-- Made from the drivers' own descriptors by the tests of bin/jmp. Do not edit by hand:
     JMP_UPDATE_DOCS=1 cargo test -p jmp --test docs -->

Every driver that this build has and its configuration; at the end the [methods](#interfaces) of each
interface and the [commands](#commands) of `j`. `jmp driver show NAME` prints the same for one driver. How drivers are put into a file
is in [configuration.md](configuration.md); how to write one, in
[driver-author-guide.md](driver-author-guide.md).

A key without a default must be given. The keys `labels`, `uuid` and `log_level` are known to
[every driver](configuration.md#a-driver).
";

/// The page.
pub async fn drivers() -> String {
    let registry = driver_all::registry();
    let mut page = String::from(HEAD);
    page.push_str("\n| driver | what it is |\n|---|---|\n");
    for entry in registry.entries() {
        let name = entry.name();
        let summary = entry.summary;
        let _ = writeln!(page, "| [{name}](#{}) | {summary} |", anchor(name));
    }
    let mut interfaces: Vec<&InterfaceDescriptor> = Vec::new();
    for entry in registry.entries() {
        driver(&mut page, entry);
        for interface in (entry.interfaces)() {
            if !interfaces.contains(&interface) {
                interfaces.push(interface);
            }
        }
    }
    page.push_str("\n## Interfaces\n\nThe methods that drivers answer, as clients call them.\n");
    for interface in interfaces {
        methods(&mut page, interface);
    }
    page.push_str("\n## Commands\n\nWhat `j` offers for a device `NAME`, by its client class.\n");
    for client in driver_all::clients().types() {
        commands(&mut page, client).await;
    }
    page
}

fn driver(page: &mut String, entry: &DriverEntry) {
    let _ = write!(page, "\n## {}\n\n{}.\n\n", entry.name(), entry.summary);
    let types: Vec<String> = entry.types.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(page, "* type: {}", types.join(", also "));
    let interfaces = (entry.interfaces)();
    let links: Vec<String> = interfaces
        .iter()
        .map(|interface| format!("[{0}](#{1})", interface.name, anchor(&heading(interface))))
        .collect();
    let _ = writeln!(page, "* interfaces: {}", links.join(", "));
    let clients = driver_all::clients();
    if let Some(client) = interfaces
        .first()
        .and_then(|first| clients.get(first.client))
    {
        let name = class_name(client);
        let _ = writeln!(page, "* commands: [{name}](#{})", anchor(name));
    }
    configuration(page, entry);
}

/// Distinct from the names of drivers.
fn heading(interface: &InterfaceDescriptor) -> String {
    format!("Interface {}", interface.name)
}

fn class_name(client: &ClientType) -> &'static str {
    let class = client.classes.first().copied().unwrap_or_default();
    class.rsplit('.').next().unwrap_or(class)
}

// === configuration ===

struct Field {
    name: String,
    of: String,
    default: String,
    about: String,
}

fn configuration(page: &mut String, entry: &DriverEntry) {
    let schema = Json::from((entry.schema)());
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let mut fields = Vec::new();
    collect(&schema, &definitions, "", 0, &mut fields);
    if fields.is_empty() {
        page.push_str("\nThere is nothing to configure.\n");
        return;
    }
    page.push_str("\n| key of `config` | type | default | |\n|---|---|---|---|\n");
    for field in fields {
        let Field {
            name,
            of,
            default,
            about,
        } = field;
        let _ = writeln!(page, "| `{name}` | {of} | {default} | {about} |");
    }
}

/// Nested types are shown with dotted names; deeper than any of ours would be a circle.
fn collect(
    schema: &Json,
    definitions: &Map<String, Json>,
    prefix: &str,
    depth: usize,
    fields: &mut Vec<Field>,
) {
    assert!(
        depth < 6,
        "the configuration schema at `{prefix}` is a circle"
    );
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let is_required = |name: &str| {
        let required = schema["required"].as_array();
        required.is_some_and(|names| names.iter().any(|required| required == name))
    };
    for (name, property) in properties {
        let target = resolve(property, definitions);
        let about = property["description"]
            .as_str()
            .or_else(|| target["description"].as_str())
            .unwrap_or_default();
        let default = match &property["default"] {
            _ if is_required(name) => "required".to_owned(),
            Json::Null => String::new(),
            default => format!("`{}`", shown(default)),
        };
        let name = format!("{prefix}{name}");
        fields.push(Field {
            of: type_of(property, definitions),
            default,
            about: cell(about),
            name: name.clone(),
        });
        nested(&target, definitions, &name, depth, fields);
    }
}

fn nested(
    target: &Json,
    definitions: &Map<String, Json>,
    name: &str,
    depth: usize,
    fields: &mut Vec<Field>,
) {
    if target["properties"].is_object() {
        collect(target, definitions, &format!("{name}."), depth + 1, fields);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if target[key].is_object() {
            let inner = resolve(&target[key], definitions);
            nested(
                &inner,
                definitions,
                &format!("{name}{suffix}"),
                depth + 1,
                fields,
            );
        }
    }
    for alternative in alternatives(target) {
        let inner = resolve(alternative, definitions);
        nested(&inner, definitions, name, depth + 1, fields);
    }
}

fn alternatives(schema: &Json) -> impl Iterator<Item = &Json> {
    ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|key| schema[key].as_array())
        .flatten()
}

/// What a reference points at; `Option<T>` is a choice of `T` and null.
fn resolve(schema: &Json, definitions: &Map<String, Json>) -> Json {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return resolve(&definitions[name], definitions);
    }
    let some: Vec<&Json> = alternatives(schema)
        .filter(|inner| inner["type"] != "null")
        .collect();
    match some[..] {
        [only] => resolve(only, definitions),
        _ => schema.clone(),
    }
}

fn type_of(schema: &Json, definitions: &Map<String, Json>) -> String {
    let schema = resolve(schema, definitions);
    if let Some(words) = schema["enum"].as_array() {
        return listed(words.iter().map(|word| format!("`{}`", shown(word))));
    }
    if let Some(word) = schema.get("const") {
        return format!("`{}`", shown(word));
    }
    let choices: Vec<String> = alternatives(&schema)
        .map(|inner| type_of(inner, definitions))
        .collect();
    if !choices.is_empty() {
        return listed(choices.into_iter());
    }
    let names: Vec<&str> = match &schema["type"] {
        Json::String(name) => vec![name.as_str()],
        Json::Array(names) => names.iter().filter_map(Json::as_str).collect(),
        _ => vec![],
    };
    let words = names.into_iter().filter(|name| *name != "null");
    let words = words.map(|name| match name {
        "array" => match schema["items"].is_object() {
            true => format!("list of {}", type_of(&schema["items"], definitions)),
            false => "list".to_owned(),
        },
        "object" => match schema["additionalProperties"].is_object() {
            true => {
                let inner = type_of(&schema["additionalProperties"], definitions);
                format!("mapping of names to {inner}")
            }
            false => "mapping".to_owned(),
        },
        "string" => "text".to_owned(),
        other => other.to_owned(),
    });
    let words = listed(words);
    if words.is_empty() {
        "anything".into()
    } else {
        words
    }
}

/// Without repetitions.
fn listed(words: impl Iterator<Item = String>) -> String {
    let mut unique: Vec<String> = Vec::new();
    for word in words {
        if !unique.contains(&word) {
            unique.push(word);
        }
    }
    unique.join(" or ")
}

fn shown(value: &Json) -> String {
    match value {
        Json::String(text) if text.is_empty() => "\"\"".into(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text that can stand in a table.
fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Links of the source have no meaning here.
    text.replace('|', "\\|")
        .replace("[`", "`")
        .replace("`]", "`")
}

// === methods ===

fn methods(page: &mut String, interface: &InterfaceDescriptor) {
    let about = interface.documentation.trim();
    let _ = write!(page, "\n### {}\n\n{about}\n\n", heading(interface));
    let _ = writeln!(page, "* client class: `{}`", interface.client);
    if interface.methods.is_empty() {
        return;
    }
    page.push_str("\n| method | kind | |\n|---|---|---|\n");
    for method in interface.methods {
        let kind = match method.kind {
            MethodKind::Unary => "call",
            MethodKind::Streaming => "streaming call",
            MethodKind::ByteStream => "byte stream",
        };
        let signature = signature(method);
        let about = cell(method.documentation);
        let _ = writeln!(page, "| `{signature}` | {kind} | {about} |");
    }
}

fn signature(method: &MethodDescriptor) -> String {
    let arguments: Vec<String> = method
        .arguments
        .iter()
        .map(|argument| {
            let dots = if argument.variadic { "…" } else { "" };
            let mark = if argument.optional && !argument.variadic {
                "?"
            } else {
                ""
            };
            format!("{}{mark}: {}{dots}", argument.name, argument.type_name)
        })
        .collect();
    format!("{}({})", method.name, arguments.join(", "))
}

// === commands ===

/// A device that is not there.
struct Absent;

#[async_trait]
impl Target for Absent {
    async fn call(&self, _: &str, _: Vec<WireValue>) -> Result<WireValue> {
        Err(Error::other("no device"))
    }

    async fn streaming_call(&self, _: &str, _: Vec<WireValue>) -> Result<ValueStream> {
        Err(Error::other("no device"))
    }

    async fn open_stream(&self, _: &str) -> Result<ByteStream> {
        Err(Error::other("no device"))
    }

    async fn open_resource(&self, _: Option<&str>) -> Result<(ResourceHandle, ByteStream)> {
        Err(Error::other("no device"))
    }
}

async fn commands(page: &mut String, client: &ClientType) {
    let classes: Vec<String> = client
        .classes
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let _ = write!(
        page,
        "\n### {}\n\n{}: {}.\n",
        class_name(client),
        client.about,
        classes.join(", ")
    );
    let device = DeviceInfo {
        path: "NAME".into(),
        handle: DriverHandle::new(Absent),
        labels: Default::default(),
    };
    match (client.commands)(device).await {
        Err(_) => page.push_str("\nThe commands depend on the configuration of the device.\n"),
        Ok(Commands::Group(commands)) if commands.is_empty() => {
            page.push_str("\nNo commands of its own.\n");
        }
        Ok(Commands::Group(commands)) => {
            page.push_str("\n| command | |\n|---|---|\n");
            for command in commands {
                let line = format!("j NAME {}", command.name);
                self::command(page, &line, &command);
            }
        }
        Ok(Commands::Single(command)) => {
            page.push_str("\n| command | |\n|---|---|\n");
            self::command(page, "j NAME", &command);
        }
    }
}

fn command(page: &mut String, line: &str, command: &Command) {
    let mut words = vec![line.to_owned()];
    words.extend(command.arguments.iter().map(argument));
    let line = words.join(" ").replace('|', "\\|");
    let _ = writeln!(page, "| `{line}` | {} |", cell(&command.about));
}

fn argument(argument: &Argument) -> String {
    let word = match &argument.values {
        ValueKind::Text => "TEXT".to_owned(),
        ValueKind::Integer | ValueKind::Number => "N".to_owned(),
        ValueKind::File => "FILE".to_owned(),
        ValueKind::Choice(words) => words.join("|"),
    };
    let position = argument.name.to_uppercase();
    match &argument.kind {
        ArgumentKind::Positional { trailing: true, .. } => format!("[{position}…]"),
        ArgumentKind::Positional { required: true, .. } => position,
        ArgumentKind::Positional { .. } => format!("[{position}]"),
        ArgumentKind::Option {
            repeated, required, ..
        } => {
            let dots = if *repeated { "…" } else { "" };
            let option = format!("--{} {word}{dots}", argument.name);
            if *required {
                option
            } else {
                format!("[{option}]")
            }
        }
        ArgumentKind::Flag { .. } => format!("[--{}]", argument.name),
    }
}
