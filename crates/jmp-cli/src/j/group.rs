//! What a group shows: its help, and its devices as data.

use std::collections::BTreeMap;

use jmp_client::{Device, MethodInfo};
use jmp_driver::command::OutputFormat;
use serde_json::json;

use super::failure::Result;
use super::offer::{self, Offer, Own};
use crate::output::{self, Format, Listing};

/// First line of a group's help.
pub fn usage(program: &str) -> String {
    format!("Usage: {program} [OPTIONS] COMMAND [ARGS]...")
}

/// Children that the allow list covers, and groups on the way to such, sorted by name.
pub fn visible(device: &Device) -> Vec<&Device> {
    let mut children: Vec<&Device> = device
        .children()
        .iter()
        .filter(|child| is_visible(child))
        .collect();
    children.sort_by_key(|child| child.name());
    children
}

fn is_visible(device: &Device) -> bool {
    device.is_allowed() || device.children().iter().any(is_visible)
}

/// Names the classes that the allow list leaves out, unless the person does not want to know.
pub fn warn_about_hidden(device: &Device) {
    if std::env::var_os("_JMP_SUPPRESS_DRIVER_WARNINGS").is_some_and(|value| !value.is_empty()) {
        return;
    }
    for child in device.children().iter().filter(|child| !is_visible(child)) {
        output::warn(&format!(
            "device `{}` is left out: the allow list does not cover its client class `{}`",
            child.path(),
            child.class()
        ));
    }
}

/// Everything about a group that its help shows.
pub struct Help<'a> {
    /// `j` and the names of the devices.
    pub program: &'a str,
    /// The group.
    pub device: &'a Device,
    /// Its commands, if it has any of its own.
    pub offer: Option<&'a Offer>,
    /// Methods of a driver whose client class nobody knows.
    pub methods: &'a [MethodInfo],
}

// === impl Help ===

impl Help<'_> {
    /// The text, in the order and words of shipped clients.
    pub fn render(&self) -> String {
        let is_root = self.device.path().is_empty();
        let mut text = format!("{}\n\n", usage(self.program));
        for line in offer::about(self.device).trim().lines() {
            text.push_str(format!("  {}", line.trim_end()).trim_end());
            text.push('\n');
        }
        let mut options = vec![
            (
                "--log-level LEVEL".to_owned(),
                "Show log lines of this program.".to_owned(),
            ),
            (
                "-o, --output FORMAT".to_owned(),
                "Print data as json, yaml, name or text.".to_owned(),
            ),
        ];
        if is_root {
            options.push((
                "--version".to_owned(),
                "Show the version and exit.".to_owned(),
            ));
        }
        options.push((
            "--help".to_owned(),
            "Show this message and exit.".to_owned(),
        ));
        section(&mut text, "Options", &options);
        section(&mut text, "Commands", &self.commands());
        let methods: Vec<_> = self
            .methods
            .iter()
            .map(|method| {
                let about = method.documentation.lines().next().unwrap_or_default();
                (super::generic::signature(method), about.to_owned())
            })
            .collect();
        section(&mut text, "Methods", &methods);
        if is_root {
            section(&mut text, "Session", &session_commands());
        }
        text
    }

    fn commands(&self) -> Vec<(String, String)> {
        let mut all = BTreeMap::new();
        if let Some(offer) = self.offer {
            for command in offer.shown() {
                let about = first_line(&offer::command_about(self.device, command));
                all.insert(command.name.to_string(), about);
            }
        }
        // A device hides a command of its name, here as on the command line.
        for child in visible(self.device) {
            all.insert(child.name().to_owned(), first_line(&offer::about(child)));
        }
        all.into_iter().collect()
    }
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().to_owned()
}

fn session_commands() -> Vec<(String, String)> {
    super::run::SESSION_COMMANDS
        .iter()
        .map(|(name, about)| ((*name).to_owned(), (*about).to_owned()))
        .collect()
}

fn section(text: &mut String, heading: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    text.push_str(&format!("\n{heading}:\n"));
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or_default();
    for (name, about) in rows {
        let line = format!("  {name:width$}  {about}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Prints the devices below a group.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn print_devices(device: &Device, format: OutputFormat) -> Result<()> {
    let devices: Vec<&Device> = device
        .walk()
        .into_iter()
        .skip(1)
        .filter(|device| is_visible(device))
        .collect();
    let listing = Listing {
        headings: vec!["DEVICE", "CLASS", "ABOUT"],
        rows: devices
            .iter()
            .map(|device| {
                vec![
                    device.path().to_owned(),
                    device.class().to_owned(),
                    first_line(&offer::about(device)),
                ]
            })
            .collect(),
        names: devices
            .iter()
            .map(|device| device.path().to_owned())
            .collect(),
        paths: Vec::new(),
        data: devices.iter().map(|device| device_json(device)).collect(),
        empty: "No devices.",
    };
    Ok(listing.print(listing_format(format))?)
}

fn device_json(device: &Device) -> serde_json::Value {
    json!({
        "path": device.path(),
        "uuid": device.uuid().to_string(),
        "class": device.class(),
        "description": offer::about(device),
        "labels": device.labels(),
    })
}

/// How the shared printer calls a form.
pub fn listing_format(format: OutputFormat) -> Option<Format> {
    match format {
        OutputFormat::Text => None,
        OutputFormat::Json => Some(Format::Json),
        OutputFormat::Yaml => Some(Format::Yaml),
        OutputFormat::Name => Some(Format::Name),
    }
}

/// Whether a device is one command and no group.
pub fn is_single(offer: Option<&Offer>) -> bool {
    matches!(offer.map(|offer| &offer.own), Some(Own::Single(_)))
}
