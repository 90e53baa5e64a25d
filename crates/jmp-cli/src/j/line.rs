//! The way from the words of a command line to a device.

use jmp_client::Device;
use jmp_driver::command::OutputFormat;
use tracing::level_filters::LevelFilter;

use super::failure::suggestion;

/// Options that every group takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// `--help`.
    pub help: bool,
    /// `--version`.
    pub version: bool,
    /// `-o`, `--output`.
    pub output: Option<OutputFormat>,
    /// `--log-level`.
    pub log_level: Option<LevelFilter>,
}

/// Names of the forms that `-o` takes.
pub const FORMATS: [&str; 4] = ["json", "yaml", "name", "text"];
/// Names of the levels that `--log-level` takes.
pub const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
/// Options of a group.
pub const OPTIONS: [&str; 5] = ["--help", "--log-level", "--output", "--version", "-o"];

/// Where the walk ended.
#[derive(Debug)]
pub struct Place<'a> {
    /// The device.
    pub device: &'a Device,
    /// `j` and the names on the way.
    pub program: String,
    /// What was given on the way.
    pub options: Options,
    /// How many words were used up.
    pub used: usize,
}

/// A complaint about the words at some place.
#[derive(Debug)]
pub struct Misplaced<'a> {
    /// The place.
    pub place: Place<'a>,
    /// What is wrong.
    pub message: String,
}

/// The form of a word after `-o`.
pub fn format(word: &str) -> Result<OutputFormat, String> {
    match word {
        "json" => Ok(OutputFormat::Json),
        "yaml" => Ok(OutputFormat::Yaml),
        "name" => Ok(OutputFormat::Name),
        "text" => Ok(OutputFormat::Text),
        word => Err(format!(
            "Invalid value for '--output': '{word}' is not one of {}.{}",
            FORMATS.join(", "),
            suggestion(word, FORMATS)
        )),
    }
}

fn level(word: &str) -> Result<LevelFilter, String> {
    match word.to_ascii_uppercase().as_str() {
        "DEBUG" => Ok(LevelFilter::DEBUG),
        "INFO" => Ok(LevelFilter::INFO),
        "WARNING" => Ok(LevelFilter::WARN),
        "ERROR" | "CRITICAL" => Ok(LevelFilter::ERROR),
        _ => Err(format!(
            "Invalid value for '--log-level': '{word}' is not one of {}.",
            LEVELS.join(", ")
        )),
    }
}

// === impl Options ===

impl Options {
    /// Takes the options at the front of `words`; returns how many words they took.
    pub fn take(&mut self, words: &[String]) -> Result<usize, String> {
        let mut used = 0;
        while let Some(word) = words.get(used).filter(|word| is_option(word)) {
            used += 1;
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => match word.strip_prefix("-o").filter(|value| !value.is_empty()) {
                    Some(value) => ("-o", Some(value)),
                    None => (word.as_str(), None),
                },
            };
            match name {
                "--help" | "-h" => self.help = true,
                "--version" => self.version = true,
                "--output" | "-o" | "--log-level" => {
                    let value = match attached {
                        Some(value) => value,
                        None => {
                            used += 1;
                            words
                                .get(used - 1)
                                .ok_or_else(|| format!("Option '{name}' requires an argument."))?
                        }
                    };
                    if name == "--log-level" {
                        self.log_level = Some(level(value)?);
                    } else {
                        self.output = Some(format(value)?);
                    }
                }
                name => {
                    let near = suggestion(name, OPTIONS);
                    return Err(format!("No such option: {name}{near}"));
                }
            }
        }
        Ok(used)
    }
}

fn is_option(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// Follows the words down the tree as far as they name devices.
pub fn walk<'a>(root: &'a Device, words: &[String]) -> Result<Place<'a>, Box<Misplaced<'a>>> {
    let mut place = Place {
        device: root,
        program: "j".to_owned(),
        options: Options::default(),
        used: 0,
    };
    loop {
        match place.options.take(&words[place.used..]) {
            Ok(used) => place.used += used,
            Err(message) => return Err(Box::new(Misplaced { place, message })),
        }
        let child = words.get(place.used).and_then(|word| {
            let children = place.device.children().iter();
            children.into_iter().find(|child| child.name() == word)
        });
        match child {
            Some(child) if !place.options.help => {
                place.device = child;
                place.program = format!("{} {}", place.program, child.name());
                place.used += 1;
                // `j ssh -v` is for ssh.
                if child.children().is_empty() {
                    return Ok(place);
                }
            }
            _ => return Ok(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_of_a_group() {
        let mut options = Options::default();
        let line = words("-o json --log-level debug power");
        assert_eq!(options.take(&line).unwrap(), 4);
        assert_eq!(options.output, Some(OutputFormat::Json));
        assert_eq!(options.log_level, Some(LevelFilter::DEBUG));
        for line in ["--output=yaml --help", "-oyaml -h"] {
            let mut options = Options::default();
            assert_eq!(options.take(&words(line)).unwrap(), 2, "{line}");
            assert!(options.help);
            assert_eq!(options.output, Some(OutputFormat::Yaml));
        }
        for (line, text) in [
            ("-o", "Option '-o' requires an argument."),
            ("-o jsn", "Did you mean 'json'?"),
            ("--hlp", "No such option: --hlp Did you mean '--help'?"),
            ("--log-level x", "Invalid value for '--log-level'"),
        ] {
            let error = Options::default().take(&words(line)).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
