//! Completion: the shell asks with the environment variables that shipped clients use (facts:
//! cli-config 1.10), and the answer comes from the live session.
//!
//! An answer is never an error: without a session there is nothing to complete.

use std::time::Duration;

use jmp_client::{Client, Device, Dialer};
use jmp_driver::command::{ArgumentKind, Command, ValueKind};

use super::group;
use super::line::{self, Options};
use super::offer::{Offer, Own};
use super::run::SESSION_COMMANDS;
use super::{generic, offer};
use crate::exit;
use crate::output;

/// Nobody waits longer for a completion.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shells that can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// bash 4.4 and later.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// What the shell wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The script that installs completion.
    Script(Shell),
    /// Words that may follow.
    Words {
        /// Who asks.
        shell: Shell,
        /// The words before the one at the cursor, without the program.
        words: Vec<String>,
        /// The word at the cursor as far as it is typed.
        typed: String,
    },
    /// Something that is not known, which must not disturb anybody.
    Unknown,
}

/// A word that may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    /// `plain` or `file`.
    kind: &'static str,
    value: String,
    about: String,
}

/// The script that makes a shell complete `j`, for its start-up file or `jmp completion`.
pub fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("complete/j.bash"),
        Shell::Zsh => include_str!("complete/j.zsh"),
        Shell::Fish => include_str!("complete/j.fish"),
    }
}

// === impl Request ===

impl Request {
    /// What `_J_COMPLETE` asks for; `None` if it is not set.
    pub fn from_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let instruction = variable("_J_COMPLETE").filter(|text| !text.is_empty())?;
        Some(Self::parse(
            &instruction,
            &variable("COMP_WORDS").unwrap_or_default(),
            &variable("COMP_CWORD").unwrap_or_default(),
        ))
    }

    /// `line` is the command line, `at` the number of the word at the cursor; fish gives the word
    /// itself.
    fn parse(instruction: &str, line: &str, at: &str) -> Self {
        let Some((shell, action)) = instruction.split_once('_') else {
            return Self::Unknown;
        };
        let shell = match shell {
            "bash" => Shell::Bash,
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            _ => return Self::Unknown,
        };
        if action == "source" {
            return Self::Script(shell);
        }
        if action != "complete" {
            return Self::Unknown;
        }
        let mut words: Vec<String> = split(line).into_iter().skip(1).collect();
        let typed = match (shell, at.parse::<usize>()) {
            (Shell::Bash | Shell::Zsh, Ok(at)) => {
                let mut rest = words.split_off(at.saturating_sub(1).min(words.len()));
                if rest.is_empty() {
                    String::new()
                } else {
                    rest.swap_remove(0)
                }
            }
            _ => {
                if words.last().is_some_and(|last| last == at) {
                    words.pop();
                }
                at.to_owned()
            }
        };
        Self::Words {
            shell,
            words,
            typed,
        }
    }
}

/// Words of a command line that may be unfinished: quotes and backslashes as in a shell, and
/// what is still open ends at the end.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), character) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().extend(characters.next());
            }
            (None, character) if character.is_whitespace() => words.extend(word.take()),
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Answers and returns the exit code.
pub async fn answer(request: Request) -> u8 {
    let text = match request {
        Request::Unknown => return exit::FAILURE,
        Request::Script(shell) => script(shell).to_owned(),
        Request::Words {
            shell,
            words,
            typed,
        } => {
            let found = tokio::time::timeout(PATIENCE, candidates(&words, &typed)).await;
            let found = found.ok().flatten().unwrap_or_default();
            found.iter().map(|found| line_for(shell, found)).collect()
        }
    };
    // The shell that asked has gone.
    let _ = output::print(&text);
    exit::OK
}

fn line_for(shell: Shell, candidate: &Candidate) -> String {
    let Candidate { kind, value, about } = candidate;
    match shell {
        Shell::Bash => format!("{kind},{value}\n"),
        Shell::Zsh if about.is_empty() => format!("{kind}\n{value}\n_\n"),
        Shell::Zsh => format!("{kind}\n{value}\n{about}\n"),
        Shell::Fish if about.is_empty() => format!("{kind},{value}\n"),
        Shell::Fish => format!("{kind},{value}\t{about}\n"),
    }
}

fn plain(value: impl Into<String>, about: impl Into<String>) -> Candidate {
    let about: String = about.into();
    Candidate {
        kind: "plain",
        value: value.into(),
        about: about.lines().next().unwrap_or_default().to_owned(),
    }
}

async fn candidates(words: &[String], typed: &str) -> Option<Vec<Candidate>> {
    let client = Client::connect(Dialer::from_environment().ok()?)
        .await
        .ok()?;
    // An option without its value yet; the walk would miss the value.
    let open = matches!(
        words.last().map(String::as_str),
        Some("-o" | "--output" | "--log-level")
    );
    let finished = &words[..words.len() - usize::from(open)];
    let place = line::walk(client.root(), finished).ok()?;
    let device = place.device;
    let offer = Offer::of(&client, device).await.ok();
    let mut rest = &words[place.used..];
    let mut all = Vec::new();
    if let Some(Offer {
        own: Own::Single(command),
        ..
    }) = &offer
    {
        of_command(command, rest, typed, &mut all);
    } else {
        let options = &finished[place.used..];
        let taken = Options::default().take(options).ok()?;
        rest = if taken == options.len() {
            &[]
        } else {
            &rest[taken..]
        };
        let command = |name: &String| offer.as_ref().and_then(|offer| offer.find(name));
        match rest.split_first() {
            None => of_group(device, offer.as_ref(), words.last(), typed, &mut all),
            Some((name, rest)) if device.path().is_empty() => {
                of_session(&client, name, rest, typed, &mut all).await;
            }
            Some((name, rest)) => {
                let command = command(name)?;
                if is_generic(name) && positionals(command, rest) == 0 {
                    of_methods(&client, device, name, &mut all).await;
                }
                of_command(command, rest, typed, &mut all);
            }
        }
    }
    all.retain(|candidate| candidate.kind != "plain" || candidate.value.starts_with(typed));
    Some(all)
}

fn is_generic(name: &str) -> bool {
    matches!(name, "call" | "stream")
}

fn of_group(
    device: &Device,
    offer: Option<&Offer>,
    before: Option<&String>,
    typed: &str,
    all: &mut Vec<Candidate>,
) {
    match before.map(String::as_str) {
        Some("-o" | "--output") => {
            all.extend(line::FORMATS.iter().map(|word| plain(*word, "")));
            return;
        }
        Some("--log-level") => {
            all.extend(line::LEVELS.iter().map(|word| plain(*word, "")));
            return;
        }
        _ => {}
    }
    if typed.starts_with('-') {
        let of_root = |option: &&&str| **option != "--version" || device.path().is_empty();
        let options = line::OPTIONS.iter().filter(|option| of_root(option));
        all.extend(options.map(|option| plain(*option, "")));
        return;
    }
    for child in group::visible(device) {
        all.push(plain(child.name(), offer::about(child)));
    }
    for command in offer.map(Offer::shown).unwrap_or_default() {
        let about = offer::command_about(device, command);
        all.push(plain(command.name.to_string(), about));
    }
    all.sort_by(|left, right| left.value.cmp(&right.value));
    if device.path().is_empty() {
        for (name, about) in SESSION_COMMANDS {
            all.push(plain(name, about));
        }
    }
}

/// `j logs`, `j call PATH METHOD` and the like.
async fn of_session(
    client: &Client,
    name: &str,
    rest: &[String],
    typed: &str,
    all: &mut Vec<Candidate>,
) {
    if name == "logs" {
        of_command(&super::logs::command(client), rest, typed, all);
        return;
    }
    let Some((path, rest)) = rest.split_first() else {
        let devices = client.root().walk();
        let devices = devices
            .into_iter()
            .skip(1)
            .filter(|device| device.is_allowed());
        all.extend(devices.map(|device| plain(device.path(), offer::about(device))));
        return;
    };
    let Ok(device) = client.device(path) else {
        return;
    };
    let commands = generic::commands(client, device);
    if let Some(command) = commands.iter().find(|command| command.name == name) {
        if is_generic(name) && positionals(command, rest) == 0 {
            of_methods(client, device, name, all).await;
        }
        of_command(command, rest, typed, all);
    }
}

async fn of_methods(client: &Client, device: &Device, name: &str, all: &mut Vec<Candidate>) {
    let described = generic::described(client, device.uuid()).await;
    for method in described.ok().flatten().unwrap_or_default() {
        let is_stream = method.kind == jmp_driver::MethodKind::ByteStream;
        if is_stream == (name == "stream") {
            all.push(plain(method.name, method.documentation));
        }
    }
}

/// How many of the words are positional arguments.
fn positionals(command: &Command, words: &[String]) -> usize {
    let mut count = 0;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            count += 1;
        } else if takes_value(command, word).is_some() {
            words.next();
        }
    }
    count
}

/// What the option `word` takes, if it takes a value from the next word.
fn takes_value<'a>(command: &'a Command, word: &str) -> Option<&'a ValueKind> {
    let found = command
        .arguments
        .iter()
        .find(|argument| match &argument.kind {
            ArgumentKind::Option { short, .. } => {
                word.strip_prefix("--") == Some(argument.name.as_ref())
                    || short.is_some_and(|short| word.strip_prefix('-') == Some(&short.to_string()))
            }
            ArgumentKind::Positional { .. } | ArgumentKind::Flag { .. } => false,
        });
    found.map(|argument| &argument.values)
}

fn of_command(command: &Command, before: &[String], typed: &str, all: &mut Vec<Candidate>) {
    match before.last().map(String::as_str) {
        Some("-o" | "--output") => {
            all.extend(line::FORMATS.iter().map(|word| plain(*word, "")));
            return;
        }
        Some(word) => {
            if let Some(values) = takes_value(command, word) {
                of_values(values, typed, all);
                return;
            }
        }
        None => {}
    }
    if typed.starts_with('-') {
        for argument in &command.arguments {
            if !matches!(argument.kind, ArgumentKind::Positional { .. }) {
                let about = argument.about.to_string();
                all.push(plain(format!("--{}", argument.name), about));
            }
        }
        all.push(plain("--output", "Print data as json, yaml, name or text"));
        all.push(plain("--help", "Show this message and exit"));
        return;
    }
    let at = positionals(command, before);
    let mut places = command
        .arguments
        .iter()
        .filter_map(|argument| match argument.kind {
            ArgumentKind::Positional { trailing, .. } => Some((argument, trailing)),
            ArgumentKind::Option { .. } | ArgumentKind::Flag { .. } => None,
        });
    let place = places
        .clone()
        .nth(at)
        .or_else(|| places.find(|(_, trailing)| *trailing));
    if let Some((argument, _)) = place {
        of_values(&argument.values, typed, all);
    }
}

fn of_values(values: &ValueKind, typed: &str, all: &mut Vec<Candidate>) {
    match values {
        ValueKind::File => all.push(Candidate {
            kind: "file",
            value: typed.to_owned(),
            about: String::new(),
        }),
        ValueKind::Choice(words) => {
            all.extend(words.iter().map(|word| plain(word.to_string(), "")))
        }
        ValueKind::Text | ValueKind::Integer | ValueKind::Number => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(shell: &str, line: &str, at: &str) -> (Vec<String>, String) {
        match Request::parse(&format!("{shell}_complete"), line, at) {
            Request::Words { words, typed, .. } => (words, typed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_before_and_at_the_cursor() {
        let expected = (vec!["power".to_owned()], "o".to_owned());
        assert_eq!(words("bash", "j power o", "2"), expected);
        assert_eq!(words("zsh", "j power o", "2"), expected);
        assert_eq!(words("fish", "j power o", "o"), expected);
        let expected = (vec!["power".to_owned()], String::new());
        assert_eq!(words("bash", "j power ", "2"), expected);
        assert_eq!(words("bash", "j power", "2"), expected);
        assert_eq!(words("fish", "j power ", ""), expected);
        assert_eq!(words("bash", "j", "1"), (vec![], String::new()));
        assert_eq!(words("bash", "", ""), (vec![], String::new()));
    }

    #[test]
    fn unfinished_quotes_are_no_trouble() {
        assert_eq!(split("j 'a b' c\\ d \"e"), ["j", "a b", "c d", "e"]);
    }

    #[test]
    fn strange_requests() {
        assert_eq!(Request::parse("bash", "", ""), Request::Unknown);
        assert_eq!(Request::parse("tcsh_complete", "", ""), Request::Unknown);
        assert_eq!(
            Request::parse("fish_source", "", ""),
            Request::Script(Shell::Fish)
        );
    }
}
