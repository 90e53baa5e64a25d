//! `jmp completion`: scripts for the shell, and the answers they ask for.
//!
//! The script calls the program back with `_JMP_COMPLETE`, `COMP_WORDS` (one word a line) and
//! `COMP_CWORD`, and reads lines `plain,VALUE`, `file,` or `dir,` (facts: cli 1.10). So names of
//! exporters, clients and drivers complete as well as commands. The script of `j` comes along; what it
//! completes depends on the session, see [`crate::j::complete`].

use std::process::ExitCode;

use clap::{Arg, Command, ValueHint};

use crate::error::CliError;
use crate::j::complete::script;
use crate::jmp::Globals;
use crate::{exit, output};

const EXAMPLES: &str = "\
Examples:
  source <(jmp completion bash)                        in ~/.bashrc
  source <(jmp completion zsh)                         in ~/.zshrc, after compinit
  jmp completion fish > ~/.config/fish/completions/jmp.fish";

/// Print a script that makes a shell complete `jmp` and `j`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Shells that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Bash 4.4 and later
    Bash,
    /// Zsh
    Zsh,
    /// Fish
    Fish,
}

// === impl Shell ===

impl Shell {
    /// The script that completes `jmp`.
    fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("completion/bash.sh"),
            Self::Zsh => include_str!("completion/zsh.sh"),
            Self::Fish => include_str!("completion/fish.fish"),
        }
    }

    /// The script that completes `j`.
    fn script_of_j(self) -> &'static str {
        script(match self {
            Self::Bash => crate::j::complete::Shell::Bash,
            Self::Zsh => crate::j::complete::Shell::Zsh,
            Self::Fish => crate::j::complete::Shell::Fish,
        })
    }
}

/// Runs the command.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn run(arguments: &Args) -> Result<u8, CliError> {
    let shell = arguments.shell;
    output::print(&format!("{}\n{}", shell.script(), shell.script_of_j()))?;
    Ok(exit::OK)
}

/// Answers a script, if one asks.
pub fn answer() -> Option<ExitCode> {
    let asked = std::env::var("_JMP_COMPLETE").ok()?;
    let words = std::env::var("COMP_WORDS").unwrap_or_default();
    let position = std::env::var("COMP_CWORD").unwrap_or_default();
    let text = match asked.split_once('_') {
        Some((_, "complete")) => {
            let words = split(&words);
            let position = position.parse().unwrap_or(words.len().saturating_sub(1));
            let mut command = super::command();
            command.build();
            candidates(&command, &words, position, &Known)
        }
        Some((shell, "source")) => {
            let shell = <Shell as clap::ValueEnum>::from_str(shell, true).ok()?;
            vec![shell.script().to_owned()]
        }
        _ => return None,
    };
    // Nobody is there to hear of a closed pipe.
    let _ = output::print(
        &text
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
    Some(ExitCode::from(exit::OK))
}

fn split(words: &str) -> Vec<String> {
    if words.contains('\n') {
        words.split('\n').map(str::to_owned).collect()
    } else {
        words.split_whitespace().map(str::to_owned).collect()
    }
}

/// Names that only the machine knows.
trait Names {
    fn exporters(&self) -> Vec<String>;
    fn clients(&self) -> Vec<String>;
    fn drivers(&self) -> Vec<String>;
}

/// The names on this machine; what cannot be read completes to nothing.
struct Known;

impl Names for Known {
    fn exporters(&self) -> Vec<String> {
        let listed = Globals::default().store().list_exporters();
        let files = listed.unwrap_or_default();
        files.iter().map(|file| file.alias.to_string()).collect()
    }

    fn clients(&self) -> Vec<String> {
        let listed = Globals::default().store().list_clients();
        let files = listed.unwrap_or_default();
        files.iter().map(|file| file.alias.to_string()).collect()
    }

    fn drivers(&self) -> Vec<String> {
        let registry = driver_all::registry();
        let entries = registry.entries().iter();
        entries.map(|entry| entry.name().to_owned()).collect()
    }
}

/// Where the cursor is.
struct Place<'a> {
    command: &'a Command,
    /// The option whose value comes next.
    option: Option<&'a Arg>,
    positionals: usize,
    /// After `--`, or inside the words of another program.
    plain: bool,
}

fn candidates(root: &Command, words: &[String], position: usize, names: &dyn Names) -> Vec<String> {
    let before = words.get(1..position.min(words.len())).unwrap_or_default();
    let current = words.get(position).map_or("", String::as_str);
    let place = walk(root, before);
    // Bash breaks `--option=value` into three words.
    let current = if current == "=" { "" } else { current };
    if let Some(option) = place.option {
        return values(place.command, option, current, names);
    }
    if let Some((name, value)) = current.split_once('=')
        && let Some(option) = find_option(place.command, name)
    {
        return values(place.command, option, value, names)
            .into_iter()
            .map(|line| line.replace("plain,", &format!("plain,{name}=")))
            .collect();
    }
    if current.starts_with('-') && !place.plain {
        return matching(options(place.command), current);
    }
    let mut found = Vec::new();
    if !place.plain && place.positionals == 0 {
        let commands = place.command.get_subcommands();
        let visible = commands.filter(|command| !command.is_hide_set());
        found = matching(
            visible.map(|command| command.get_name().to_owned()),
            current,
        );
    }
    if let Some(argument) = positional(place.command, place.positionals) {
        found.extend(values(place.command, argument, current, names));
    }
    found
}

fn walk<'a>(root: &'a Command, words: &[String]) -> Place<'a> {
    let mut place = Place {
        command: root,
        option: None,
        positionals: 0,
        plain: false,
    };
    for word in words {
        if place.option.is_some() {
            if word != "=" {
                place.option = None;
            }
        } else if place.plain {
            place.positionals += 1;
        } else if word == "--" {
            place.plain = true;
        } else if word.starts_with('-') {
            place.option = find_option(place.command, word)
                .filter(|option| option.get_action().takes_values() && !word.contains('='));
        } else if let Some(below) = place.command.find_subcommand(word) {
            place.command = below;
        } else {
            let argument = positional(place.command, place.positionals);
            place.plain = argument.is_some_and(Arg::is_trailing_var_arg_set);
            place.positionals += 1;
        }
    }
    place
}

fn find_option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let word = word.split('=').next().unwrap_or(word);
    command.get_arguments().find(|argument| {
        let long = word.strip_prefix("--");
        let short = word.strip_prefix('-').and_then(|rest| {
            let mut characters = rest.chars();
            characters.next().filter(|_| characters.next().is_none())
        });
        (long.is_some() && argument.get_long() == long)
            || (short.is_some() && argument.get_short() == short)
    })
}

fn options(command: &Command) -> impl Iterator<Item = String> {
    let visible = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    visible.filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
}

/// The argument for the word number `index`; the last one takes the rest if it can.
fn positional(command: &Command, index: usize) -> Option<&Arg> {
    let all: Vec<&Arg> = command.get_positionals().collect();
    let last = all.last().copied();
    all.get(index)
        .copied()
        .or_else(|| last.filter(|argument| argument.is_trailing_var_arg_set()))
}

fn values(command: &Command, argument: &Arg, current: &str, names: &dyn Names) -> Vec<String> {
    let known = match (command.get_name(), argument.get_id().as_str()) {
        (_, "exporter") => names.exporters(),
        (_, "client") => names.clients(),
        ("show" | "schema", "name") => names.drivers(),
        ("delete" | "use", "alias") if is_client(command) => names.clients(),
        ("delete" | "edit", "alias") => names.exporters(),
        _ => argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| value.get_name().to_owned())
            .collect(),
    };
    if !known.is_empty() {
        return matching(known.into_iter(), current);
    }
    match argument.get_value_hint() {
        ValueHint::DirPath => vec!["dir,".into()],
        ValueHint::AnyPath | ValueHint::FilePath => vec!["file,".into()],
        _ if argument.is_trailing_var_arg_set() => vec!["file,".into()],
        _ => Vec::new(),
    }
}

fn is_client(command: &Command) -> bool {
    command
        .get_bin_name()
        .is_some_and(|name| name.contains(" client "))
}

fn matching(values: impl Iterator<Item = String>, current: &str) -> Vec<String> {
    values
        .filter(|value| value.starts_with(current))
        .map(|value| format!("plain,{value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Names for Fixed {
        fn exporters(&self) -> Vec<String> {
            vec!["bench".into(), "board".into(), "other".into()]
        }
        fn clients(&self) -> Vec<String> {
            vec!["me".into()]
        }
        fn drivers(&self) -> Vec<String> {
            vec!["MockPower".into()]
        }
    }

    fn complete(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut command = crate::jmp::command();
        command.build();
        candidates(&command, &words, words.len() - 1, &Fixed)
    }

    #[test]
    fn commands_options_and_names() {
        assert_eq!(complete("jmp she"), ["plain,shell"]);
        assert_eq!(complete("jmp config cl"), ["plain,client"]);
        assert_eq!(
            complete("jmp shell --exporter b"),
            ["plain,bench", "plain,board"]
        );
        assert_eq!(
            complete("jmp shell --exporter=o"),
            ["plain,--exporter=other"]
        );
        assert_eq!(complete("jmp shell --exporter = o"), ["plain,other"]);
        assert_eq!(complete("jmp driver show M"), ["plain,MockPower"]);
        assert_eq!(complete("jmp config client use "), ["plain,me"]);
        assert_eq!(complete("jmp config exporter delete ot"), ["plain,other"]);
        assert_eq!(complete("jmp shell --exporter-config "), ["file,"]);
        assert_eq!(complete("jmp -o y"), ["plain,yaml"]);
        assert!(complete("jmp shell --tls").contains(&"plain,--tls-grpc".to_owned()));
    }

    #[test]
    fn the_words_of_another_program_are_its_own() {
        assert_eq!(complete("jmp shell --exporter x -- ls "), ["file,"]);
        assert_eq!(complete("jmp shell --exporter x ls -"), ["file,"]);
    }
}
