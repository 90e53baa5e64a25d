//! One command of a device as an argument parser.

use clap::builder::{PossibleValuesParser, Styles, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};
use jmp_driver::command::{Argument, ArgumentKind, Command, Given, OutputFormat, ValueKind};

use super::failure::{Usage, suggestion};
use super::line;

/// Names under which the parser keeps options of its own; no argument of a driver has a blank.
const OUTPUT: &str = "output format";
const HELP: &str = "show help";

const TEMPLATE: &str = "{usage-heading} {usage}\n\n{about}\n\n{all-args}{after-help}\n";

/// A command and where it was found.
pub struct Leaf<'a> {
    /// All words up to and with its name.
    pub program: String,
    /// The command.
    pub command: &'a Command,
    /// Its help; the exporter's administrator may have replaced it.
    pub about: String,
}

/// What the words of a command mean.
#[derive(Debug)]
pub enum Parsed {
    /// Run it.
    Run {
        /// For the command.
        given: Given,
        /// `-o`, if it was given.
        output: Option<OutputFormat>,
    },
    /// Show this text.
    Help(String),
}

// === impl Leaf ===

impl Leaf<'_> {
    /// Checks the words after the name of the command.
    pub fn parse(&self, words: &[String]) -> Result<Parsed, Usage> {
        let parser = self.parser();
        match parser.clone().try_get_matches_from(words) {
            Ok(matches) => Ok(Parsed::Run {
                output: self.output(&matches)?,
                given: self.given(&matches),
            }),
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                Ok(Parsed::Help(error.to_string()))
            }
            Err(error) => Err(self.usage(self.explain(&error, &parser))),
        }
    }

    fn usage(&self, message: String) -> Usage {
        Usage {
            usage: self.parser().render_usage().to_string(),
            program: self.program.clone(),
            message,
        }
    }

    /// The parser.
    pub fn parser(&self) -> clap::Command {
        let indented: Vec<String> = self
            .about
            .trim()
            .lines()
            .map(|line| format!("  {}", line.trim_end()).trim_end().to_owned())
            .collect();
        let mut parser = clap::Command::new(self.program.clone())
            .bin_name(self.program.clone())
            .no_binary_name(true)
            .about(indented.join("\n"))
            .styles(Styles::plain())
            .help_template(TEMPLATE)
            .disable_help_flag(true)
            .disable_version_flag(true);
        for argument in &self.command.arguments {
            parser = parser.arg(arg(argument));
        }
        if self.takes_output() {
            parser = parser.arg(
                Arg::new(OUTPUT)
                    .short('o')
                    .long("output")
                    .value_name("FORMAT")
                    .help("Print data as json, yaml, name or text.")
                    .action(ArgAction::Set),
            );
        }
        let help = Arg::new(HELP)
            .long("help")
            .help("Show this message and exit.")
            .action(ArgAction::Help);
        let help = if self.has_short('h') || self.has_trailing() {
            help
        } else {
            help.short_alias('h')
        };
        parser = parser.arg(help);
        if !self.command.examples.is_empty() {
            let group = self.program.strip_suffix(self.command.name.as_ref());
            let group = group.map_or(self.program.as_str(), str::trim_end);
            let mut text = "Examples:\n".to_owned();
            for example in &self.command.examples {
                text.push_str(&format!("  {group} {example}\n"));
            }
            parser = parser.after_help(text.trim_end().to_owned());
        }
        parser
    }

    fn has_trailing(&self) -> bool {
        let is_trailing = |argument: &Argument| {
            matches!(
                argument.kind,
                ArgumentKind::Positional { trailing: true, .. }
            )
        };
        self.command.arguments.iter().any(is_trailing)
    }

    fn has_short(&self, letter: char) -> bool {
        let has_letter = |argument: &Argument| {
            matches!(
                argument.kind,
                ArgumentKind::Option { short: Some(short), .. } | ArgumentKind::Flag { short: Some(short) }
                    if short == letter
            )
        };
        self.command.arguments.iter().any(has_letter)
    }

    /// Commands that hand on all words, such as `ssh`, hand on `-o`, too; and a command's own
    /// option of that name comes first.
    pub fn takes_output(&self) -> bool {
        let is_output = |argument: &Argument| {
            argument.name == "output" && !matches!(argument.kind, ArgumentKind::Positional { .. })
        };
        !self.has_trailing()
            && !self.has_short('o')
            && !self.command.arguments.iter().any(is_output)
    }

    fn output(&self, matches: &ArgMatches) -> Result<Option<OutputFormat>, Usage> {
        if !self.takes_output() {
            return Ok(None);
        }
        matches
            .get_one::<String>(OUTPUT)
            .map(|word| line::format(word))
            .transpose()
            .map_err(|message| self.usage(message))
    }

    fn given(&self, matches: &ArgMatches) -> Given {
        let mut given = Given::default();
        for argument in &self.command.arguments {
            let name = argument.name.as_ref();
            if let ArgumentKind::Flag { .. } = argument.kind {
                if matches.get_flag(name) {
                    given.push(name, "");
                }
                continue;
            }
            for value in matches.get_many::<String>(name).into_iter().flatten() {
                given.push(name, value);
            }
        }
        given
    }

    /// What is wrong, in the words of shipped clients.
    fn explain(&self, error: &clap::Error, parser: &clap::Command) -> String {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => vec![text.clone()],
            Some(ContextValue::Strings(texts)) => texts.clone(),
            _ => Vec::new(),
        };
        // `--wait <SECONDS>` is shown as `--wait`.
        let named = |text: &String| match text.split_whitespace().next() {
            Some(option) if option.starts_with('-') => option.to_owned(),
            _ => text.trim_matches(['<', '>', '[', ']', '.']).to_owned(),
        };
        let argument = context(ContextKind::InvalidArg);
        let argument: Vec<String> = argument.iter().map(named).collect();
        let value = context(ContextKind::InvalidValue).concat();
        let name = argument.first().cloned().unwrap_or_default();
        match error.kind() {
            ErrorKind::UnknownArgument if name.starts_with('-') => {
                let known = parser.get_arguments().filter_map(Arg::get_long);
                let known: Vec<String> = known.map(|long| format!("--{long}")).collect();
                let near = suggestion(&name, known.iter().map(String::as_str));
                format!("No such option: {name}{near}")
            }
            ErrorKind::UnknownArgument => format!("Got unexpected extra argument ({name})"),
            ErrorKind::MissingRequiredArgument if name.starts_with('-') => {
                format!("Missing option '{name}'.")
            }
            ErrorKind::MissingRequiredArgument => format!("Missing argument '{name}'."),
            ErrorKind::InvalidValue if value.is_empty() => {
                format!("Option '{name}' requires an argument.")
            }
            ErrorKind::InvalidValue => {
                let choices = context(ContextKind::ValidValue);
                let near = suggestion(&value, choices.iter().map(String::as_str));
                let choices = choices.join(", ");
                format!("Invalid value for '{name}': '{value}' is not one of {choices}.{near}")
            }
            ErrorKind::ValueValidation => {
                let reason = std::error::Error::source(error).map(ToString::to_string);
                let reason = reason.unwrap_or_default();
                format!("Invalid value for '{name}': '{value}' {reason}")
            }
            ErrorKind::ArgumentConflict => format!("Option '{name}' was given twice."),
            _ => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                first.trim_start_matches("error: ").to_owned()
            }
        }
    }
}

fn arg(argument: &Argument) -> Arg {
    let name = argument.name.to_string();
    let about = Arg::new(name.clone()).help(argument.about.to_string());
    match &argument.kind {
        ArgumentKind::Positional { required, trailing } => {
            let arg = about
                .required(*required)
                .value_name(name.to_uppercase().replace('-', "_"));
            let arg = valued(arg, &argument.values);
            if *trailing {
                let least = usize::from(*required);
                arg.num_args(least..)
                    .trailing_var_arg(true)
                    .allow_hyphen_values(true)
                    .action(ArgAction::Append)
            } else {
                arg
            }
        }
        ArgumentKind::Option {
            short,
            repeated,
            default,
            required,
        } => {
            let arg = about.long(name).required(*required);
            // The choices stand in the place of the value.
            let arg = arg
                .value_name(metavariable(&argument.values))
                .hide_possible_values(true);
            let mut arg = valued(arg, &argument.values);
            if let Some(short) = short {
                arg = arg.short(*short);
            }
            if let Some(default) = default {
                arg = arg.default_value(default.to_string());
            }
            arg.action(if *repeated {
                ArgAction::Append
            } else {
                ArgAction::Set
            })
        }
        ArgumentKind::Flag { short } => {
            let arg = about.long(name).action(ArgAction::SetTrue);
            match short {
                Some(short) => arg.short(*short),
                None => arg,
            }
        }
    }
}

fn metavariable(values: &ValueKind) -> String {
    match values {
        ValueKind::Text => "TEXT".to_owned(),
        ValueKind::Integer => "INTEGER".to_owned(),
        ValueKind::Number => "NUMBER".to_owned(),
        ValueKind::File => "PATH".to_owned(),
        ValueKind::Choice(words) => words.join("|"),
    }
}

fn valued(arg: Arg, values: &ValueKind) -> Arg {
    match values {
        ValueKind::Text | ValueKind::File => arg,
        ValueKind::Integer => arg
            .allow_negative_numbers(true)
            .value_parser(checked::<i64>("is not a valid integer.")),
        ValueKind::Number => arg
            .allow_negative_numbers(true)
            .value_parser(checked::<f64>("is not a valid number.")),
        ValueKind::Choice(words) => {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            arg.value_parser(PossibleValuesParser::new(words))
        }
    }
}

/// The text is kept; drivers decide on the type of number.
fn checked<T: std::str::FromStr>(complaint: &'static str) -> ValueParser {
    ValueParser::from(move |text: &str| match text.trim().parse::<T>() {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(_) => Err(complaint.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("put", "Put it", async |_| Ok(0))
            .argument(Argument::positional("src", ValueKind::File, "What"))
            .argument(
                Argument::option("wait", ValueKind::Integer, "Seconds")
                    .short('w')
                    .default_value("2"),
            )
            .argument(Argument::option(
                "mode",
                ValueKind::Choice(vec!["fast".into(), "slow".into()]),
                "How",
            ))
            .argument(Argument::flag("force", "Whatever happens"))
            .example("put image.img --wait 5")
    }

    fn leaf(command: &Command) -> Leaf<'_> {
        Leaf {
            program: format!("j storage {}", command.name),
            about: command.about.to_string(),
            command,
        }
    }

    fn parse(command: &Command, line: &str) -> Result<Parsed, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        leaf(command).parse(&words).map_err(|usage| usage.message)
    }

    #[test]
    fn values_and_defaults() {
        let Ok(Parsed::Run { given, output }) = parse(&command(), "a --force -o json") else {
            panic!("it must parse");
        };
        assert_eq!(given.get("src"), Some("a"));
        assert_eq!(given.number::<u64>("wait").unwrap(), Some(2));
        assert!(given.is_set("force"));
        assert_eq!(given.get("mode"), None);
        assert_eq!(output, Some(OutputFormat::Json));
    }

    #[test]
    fn complaints_are_those_of_shipped_clients() {
        for (line, message) in [
            ("", "Missing argument 'SRC'."),
            ("a b", "Got unexpected extra argument (b)"),
            (
                "a --wiat 1",
                "No such option: --wiat Did you mean '--wait'?",
            ),
            (
                "a --wait x",
                "Invalid value for '--wait': 'x' is not a valid integer.",
            ),
            ("a --wait", "Option '--wait' requires an argument."),
            (
                "a --mode fst",
                "Invalid value for '--mode': 'fst' is not one of fast, slow. Did you mean 'fast'?",
            ),
            ("a --force --force", "Option '--force' was given twice."),
        ] {
            assert_eq!(parse(&command(), line).unwrap_err(), message, "{line}");
        }
    }

    #[test]
    fn all_that_remains_belongs_to_the_command() {
        let command = Command::new("ssh", "Log in", async |_| Ok(0))
            .argument(Argument::trailing("args", "For ssh"));
        let line = "-o StrictHostKeyChecking=no -v host -- ls --help";
        let Ok(Parsed::Run { given, output }) = parse(&command, line) else {
            panic!("it must parse");
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(given.all("args"), words);
        assert_eq!(output, None);
        assert!(matches!(parse(&command, "--help"), Ok(Parsed::Help(_))));
    }

    #[test]
    fn help() {
        let Ok(Parsed::Help(text)) = parse(&command(), "--help") else {
            panic!("it must be help");
        };
        assert_eq!(
            text,
            "Usage: j storage put [OPTIONS] <SRC>\n\n  Put it\n\n\
             Arguments:\n  <SRC>  What\n\n\
             Options:\n\
             \x20 -w, --wait <INTEGER>    Seconds [default: 2]\n\
             \x20     --mode <fast|slow>  How\n\
             \x20     --force             Whatever happens\n\
             \x20 -o, --output <FORMAT>   Print data as json, yaml, name or text.\n\
             \x20     --help              Show this message and exit.\n\n\
             Examples:\n  j storage put image.img --wait 5\n"
        );
    }
}
