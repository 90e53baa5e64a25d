//! Commands as data: what `j NAME …` offers for a device.
//!
//! A client type belongs to one or more client classes and turns a device into commands. The
//! command line, completion, reference docs and other front ends are fed from the same data;
//! nothing here knows an argument parser.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::error::{Error, Result};
use crate::handle::DriverHandle;

/// Text that is mostly static.
pub type Text = Cow<'static, str>;

/// What an argument takes.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueKind {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A file or directory of this machine; completed as such.
    File,
    /// One of these words.
    Choice(Vec<Text>),
}

/// Where an argument stands on the command line.
#[derive(Debug, Clone, PartialEq)]
pub enum ArgumentKind {
    /// By position.
    Positional {
        /// Must be given.
        required: bool,
        /// Takes all that remain, options of its own included.
        trailing: bool,
    },
    /// `--name VALUE`.
    Option {
        /// One-letter form.
        short: Option<char>,
        /// May be repeated.
        repeated: bool,
        /// Used when it is not given; shown in the help.
        default: Option<Text>,
        /// Must be given.
        required: bool,
    },
    /// `--name`.
    Flag {
        /// One-letter form.
        short: Option<char>,
    },
}

/// An argument of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Long name with hyphens, or name of the position in lower case.
    pub name: Text,
    /// Help.
    pub about: Text,
    /// Where it stands.
    pub kind: ArgumentKind,
    /// What it takes; meaningless for flags.
    pub values: ValueKind,
}

// === impl Argument ===

impl Argument {
    /// A required positional argument.
    pub fn positional(name: impl Into<Text>, values: ValueKind, about: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            kind: ArgumentKind::Positional {
                required: true,
                trailing: false,
            },
            values,
        }
    }

    /// Everything that remains on the command line.
    pub fn trailing(name: impl Into<Text>, about: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            kind: ArgumentKind::Positional {
                required: false,
                trailing: true,
            },
            values: ValueKind::Text,
        }
    }

    /// `--name VALUE`, optional, without a default.
    pub fn option(name: impl Into<Text>, values: ValueKind, about: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            kind: ArgumentKind::Option {
                short: None,
                repeated: false,
                default: None,
                required: false,
            },
            values,
        }
    }

    /// `--name`.
    pub fn flag(name: impl Into<Text>, about: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            kind: ArgumentKind::Flag { short: None },
            values: ValueKind::Text,
        }
    }

    /// With a one-letter form.
    pub fn short(mut self, letter: char) -> Self {
        match &mut self.kind {
            ArgumentKind::Option { short, .. } | ArgumentKind::Flag { short } => {
                *short = Some(letter);
            }
            ArgumentKind::Positional { .. } => {}
        }
        self
    }

    /// With a default (options only).
    pub fn default_value(mut self, value: impl Into<Text>) -> Self {
        if let ArgumentKind::Option { default, .. } = &mut self.kind {
            *default = Some(value.into());
        }
        self
    }

    /// May be repeated (options only).
    pub fn repeated(mut self) -> Self {
        if let ArgumentKind::Option { repeated, .. } = &mut self.kind {
            *repeated = true;
        }
        self
    }

    /// May be left out (positions), must be given (options).
    pub fn requirement(mut self, needed: bool) -> Self {
        match &mut self.kind {
            ArgumentKind::Positional { required, .. } | ArgumentKind::Option { required, .. } => {
                *required = needed;
            }
            ArgumentKind::Flag { .. } => {}
        }
        self
    }
}

/// What was given for the arguments of a command, checked against their [`ValueKind`]s.
#[derive(Debug, Clone, Default)]
pub struct Given {
    values: BTreeMap<String, Vec<String>>,
}

// === impl Given ===

impl Given {
    /// Records a value; flags are recorded with an empty one. For front ends.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.values
            .entry(name.to_owned())
            .or_default()
            .push(value.into());
    }

    /// All values of a repeated or trailing argument.
    pub fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of an argument, if it was given or has a default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// The value of an argument that must be there.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if it is not, which a front end should have refused already.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name)
            .ok_or_else(|| Error::invalid_argument(format!("argument `{name}` is missing")))
    }

    /// Whether a flag was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A number, if it was given or has a default.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if it is none of the type wanted.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::invalid_argument(format!("`{text}` is no valid value for `{name}`"))
                })
            })
            .transpose()
    }

    /// A path of this machine, if it was given.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }
}

/// How data should be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Only names, one a line.
    Name,
}

/// One run of a command.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The device.
    pub device: DeviceInfo,
    /// What was given.
    pub given: Given,
    /// How data should be printed.
    pub output: OutputFormat,
    /// Whether long work may draw a progress bar on standard error.
    pub progress: bool,
}

/// The device a command works on.
#[derive(Debug, Clone)]
pub struct DeviceInfo {
    /// Dot-separated names from the root.
    pub path: String,
    /// Takes calls.
    pub handle: DriverHandle,
    /// Labels of the report.
    pub labels: BTreeMap<String, String>,
}

/// Runs a command: prints data to standard output, talk to standard error, and returns the exit
/// code.
pub type Action = Arc<dyn Fn(Invocation) -> BoxFuture<'static, Result<u8>> + Send + Sync + 'static>;

/// A command of a device.
#[derive(Clone)]
pub struct Command {
    /// Name on the command line.
    pub name: Text,
    /// One line of help.
    pub about: Text,
    /// Arguments in the order of the help.
    pub arguments: Vec<Argument>,
    /// Shown in the help, without `j` and the device: `cycle --wait 5`.
    pub examples: Vec<Text>,
    /// What it does.
    pub action: Action,
}

impl fmt::Debug for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Command")
            .field("name", &self.name)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

// === impl Command ===

impl Command {
    /// A command without arguments.
    pub fn new<F, R>(name: impl Into<Text>, about: impl Into<Text>, action: F) -> Self
    where
        F: Fn(Invocation) -> R + Send + Sync + 'static,
        R: Future<Output = Result<u8>> + Send + 'static,
    {
        Self {
            name: name.into(),
            about: about.into(),
            arguments: Vec::new(),
            examples: Vec::new(),
            action: Arc::new(move |invocation| Box::pin(action(invocation))),
        }
    }

    /// With one more argument.
    pub fn argument(mut self, argument: Argument) -> Self {
        self.arguments.push(argument);
        self
    }

    /// With an example.
    pub fn example(mut self, example: impl Into<Text>) -> Self {
        self.examples.push(example.into());
        self
    }
}

/// The commands of a device.
#[derive(Debug, Clone)]
pub enum Commands {
    /// `j NAME COMMAND …`.
    Group(Vec<Command>),
    /// `j NAME …`.
    Single(Box<Command>),
}

/// Makes the commands of a device, asking it if need be.
pub type MakeCommands = fn(DeviceInfo) -> BoxFuture<'static, Result<Commands>>;

/// What the client side knows about a client class.
#[derive(Clone, Copy)]
pub struct ClientType {
    /// Dotted client classes with these commands.
    pub classes: &'static [&'static str],
    /// Help of the group.
    pub about: &'static str,
    /// Makes the commands.
    pub commands: MakeCommands,
}

/// All client types a front end knows: an explicit list.
#[derive(Clone, Default)]
pub struct ClientRegistry {
    types: Vec<ClientType>,
}

// === impl ClientRegistry ===

impl ClientRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client type.
    ///
    /// # Panics
    ///
    /// If one of its classes is registered already.
    pub fn add(&mut self, client: ClientType) -> &mut Self {
        for class in client.classes {
            assert!(
                self.get(class).is_none(),
                "client class `{class}` registered twice"
            );
        }
        self.types.push(client);
        self
    }

    /// The client type of a class.
    pub fn get(&self, class: &str) -> Option<&ClientType> {
        self.types
            .iter()
            .find(|client| client.classes.contains(&class))
    }

    /// All client types in the order of registration.
    pub fn types(&self) -> &[ClientType] {
        &self.types
    }
}
