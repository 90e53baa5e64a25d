//! One command line from its words to the exit code.

use std::ffi::OsString;
use std::io::IsTerminal;

use jmp_client::{Client, Device, Dialer};
use jmp_driver::command::{Command, Invocation, OutputFormat};
use tracing::level_filters::LevelFilter;

use super::failure::{Failure, Result, Usage, suggestion};
use super::group::{self, Help};
use super::leaf::{Leaf, Parsed};
use super::line::{self, Options};
use super::offer::{self, Offer, Own};
use super::{generic, logs};
use crate::error::CliError;
use crate::exit;
use crate::output;

/// Commands of `j` itself. A device of the same name hides them.
pub const SESSION_COMMANDS: [(&str, &str); 4] = [
    ("call", "Call a method of any device, named by its path"),
    ("logs", "Show the log of the session"),
    (
        "methods",
        "List the methods of any device, named by its path",
    ),
    (
        "stream",
        "Open a byte stream of any device, named by its path",
    ),
];

/// Runs a command line; returns the exit code of the command.
pub async fn run(arguments: Vec<OsString>) -> Result<u8> {
    let words = arguments.into_iter().skip(1).map(word);
    let words = words.collect::<Result<Vec<String>>>()?;
    let mut options = Options::default();
    // What needs no session, and the log of connecting.
    options
        .take(&words)
        .map_err(|message| usage("j", message))?;
    if options.version {
        output::print(&format!("j, version {}\n", env!("CARGO_PKG_VERSION")))?;
        return Ok(exit::OK);
    }
    show_log(options.log_level);
    let client = Client::connect(Dialer::from_environment()?).await?;
    let place = match line::walk(client.root(), &words) {
        Ok(place) => place,
        Err(misplaced) => return Err(usage(&misplaced.place.program, misplaced.message)),
    };
    show_log(place.options.log_level);
    let mut target = Target {
        client: &client,
        device: place.device,
        program: place.program,
        options: place.options,
        offer: None,
    };
    target.run(&words[place.used..]).await
}

fn word(argument: OsString) -> Result<String> {
    argument.into_string().map_err(|argument| {
        let shown = argument.to_string_lossy().into_owned();
        usage("j", format!("`{shown}` is not UTF-8 text"))
    })
}

fn usage(program: &str, message: String) -> Failure {
    Failure::Usage(Usage {
        usage: group::usage(program),
        program: program.to_owned(),
        message,
    })
}

/// Log lines of this program go to standard error, if anybody asked for them. Asking costs time,
/// so nothing is set up otherwise.
fn show_log(level: Option<LevelFilter>) {
    if let Some(level) = level {
        // The second of two options changes nothing.
        let _ = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_max_level(level)
            .try_init();
    }
}

/// The device that is addressed, and how.
struct Target<'a> {
    client: &'a Client,
    device: &'a Device,
    program: String,
    options: Options,
    offer: Option<Offer>,
}

// === impl Target ===

impl Target<'_> {
    async fn run(&mut self, words: &[String]) -> Result<u8> {
        // A group that the allow list leaves out still leads to its children.
        if self.device.is_allowed() || self.device.children().is_empty() {
            self.offer = Some(Offer::of(self.client, self.device).await?);
        }
        let mut words = words;
        if !group::is_single(self.offer.as_ref()) {
            let taken = self.options.take(words);
            words = &words[taken.map_err(|message| usage(&self.program, message))?..];
            show_log(self.options.log_level);
        }
        if self.options.help && !group::is_single(self.offer.as_ref()) {
            group::warn_about_hidden(self.device);
            output::print(&self.help().await)?;
            return Ok(exit::OK);
        }
        if let Some(Offer {
            own: Own::Single(command),
            ..
        }) = &self.offer
        {
            return self.invoke(command, self.program.clone(), words).await;
        }
        let Some((name, rest)) = words.split_first() else {
            return self.nothing_asked().await;
        };
        if let Some(command) = self.offer.as_ref().and_then(|offer| offer.find(name)) {
            // `methods` and `call` of the root are those of the session.
            if !self.is_session_command(name) {
                let program = format!("{} {name}", self.program);
                return self.invoke(command, program, rest).await;
            }
        }
        if self.is_session_command(name) {
            return self.session_command(name, rest).await;
        }
        Err(self.unknown(name))
    }

    fn is_session_command(&self, name: &str) -> bool {
        self.device.path().is_empty() && SESSION_COMMANDS.iter().any(|(known, _)| *known == name)
    }

    /// Only a group was named: its devices if data is wanted, else help.
    async fn nothing_asked(&self) -> Result<u8> {
        if let Some(format) = self.options.output {
            group::print_devices(self.device, format)?;
            return Ok(exit::OK);
        }
        group::warn_about_hidden(self.device);
        output::note(self.help().await.trim_end());
        Ok(exit::FAILURE)
    }

    async fn help(&self) -> String {
        let mut methods = Vec::new();
        if let Some(offer) = &self.offer
            && matches!(offer.own, Own::Unknown)
            && !self.device.path().is_empty()
        {
            // Help must not fail because the exporter does not tell.
            let described = generic::described(self.client, self.device.uuid()).await;
            methods = described.ok().flatten().unwrap_or_default();
        }
        let help = Help {
            program: &self.program,
            device: self.device,
            offer: self.offer.as_ref(),
            methods: &methods,
        };
        help.render()
    }

    async fn invoke(&self, command: &Command, program: String, words: &[String]) -> Result<u8> {
        let about = match &self.offer {
            Some(Offer {
                own: Own::Single(_),
                ..
            }) => offer::about(self.device),
            _ => offer::command_about(self.device, command),
        };
        let leaf = Leaf {
            program,
            command,
            about,
        };
        let (given, output) = match leaf.parse(words)? {
            Parsed::Help(text) => {
                output::print(&text)?;
                return Ok(exit::OK);
            }
            Parsed::Run { given, output } => (given, output),
        };
        let invocation = Invocation {
            device: offer::info(self.device)?,
            given,
            output: output.or(self.options.output).unwrap_or(OutputFormat::Text),
            progress: std::io::stderr().is_terminal(),
        };
        Ok((command.action)(invocation).await?)
    }

    async fn session_command(&self, name: &str, words: &[String]) -> Result<u8> {
        if name == "logs" {
            let command = logs::command(self.client);
            return self
                .invoke(&command, format!("{} {name}", self.program), words)
                .await;
        }
        let program = format!("{} {name} DEVICE", self.program);
        let (path, words) = match words.split_first() {
            Some((path, words)) if !path.starts_with('-') => (path, words),
            _ => return Err(usage(&program, "Missing argument 'DEVICE'.".to_owned())),
        };
        let device = self.client.device(path)?;
        let commands = generic::commands(self.client, device);
        let Some(command) = commands.iter().find(|command| command.name == name) else {
            return Err(self.unknown(name));
        };
        let target = Target {
            client: self.client,
            device,
            program: format!("{} {name} {path}", self.program),
            options: self.options.clone(),
            offer: None,
        };
        target.invoke(command, target.program.clone(), words).await
    }

    /// A word that names neither a device nor a command.
    fn unknown(&self, name: &str) -> Failure {
        let mut known: Vec<&str> = group::visible(self.device)
            .into_iter()
            .map(Device::name)
            .collect();
        if let Some(offer) = &self.offer {
            known.extend(offer.shown().iter().map(|command| command.name.as_ref()));
        } else if self.device.children().is_empty() {
            let refused = offer::info(self.device).err();
            return refused.unwrap_or_else(|| CliError::new("nothing to run").into());
        }
        if self.device.path().is_empty() {
            known.extend(SESSION_COMMANDS.iter().map(|(name, _)| *name));
        }
        let near = suggestion(name, known);
        usage(&self.program, format!("No such command '{name}'.{near}"))
    }
}
