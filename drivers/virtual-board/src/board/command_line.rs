//! Command lists, quoting and variables, as U-Boot's and the system's shell share them.

use std::collections::VecDeque;

/// How many commands one line may run, nested `run`s included: a variable
/// that runs itself has to end somewhere.
const MAXIMUM_COMMANDS: usize = 64;
/// How long the words of one command may get by expanding variables, in bytes.
const MAXIMUM_EXPANSION: usize = 4096;

/// When a command runs, depending on the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    AfterSuccess,
    AfterFailure,
}

/// Why a line cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyntaxError {
    #[error("syntax error: unterminated quoted string")]
    UnterminatedQuote,
    #[error("syntax error: unexpected end of line")]
    MissingCommand,
    #[error("syntax error: `{0}` is not simulated on this board")]
    Unsupported(char),
    #[error("too many commands in one line (does a variable run itself?)")]
    TooManyCommands,
    #[error("command too long after expanding variables")]
    TooLong,
}

/// The commands of a line that are still to run, and the status of the last one.
#[derive(Default)]
pub(super) struct CommandQueue {
    pending: VecDeque<(Condition, String)>,
    taken: usize,
    /// Exit status of the last command: 0 is success.
    pub(super) status: u8,
}

impl CommandQueue {
    /// Starts a new line.
    pub(super) fn start(&mut self, line: &str) -> Result<(), SyntaxError> {
        self.clear();
        self.pending = split(line)?.into();
        Ok(())
    }

    /// Puts the commands of `line` before those that are pending.
    pub(super) fn push_front(&mut self, line: &str) -> Result<(), SyntaxError> {
        let commands = split(line)?;
        if self.pending.len() + commands.len() > MAXIMUM_COMMANDS {
            return Err(SyntaxError::TooManyCommands);
        }
        for command in commands.into_iter().rev() {
            self.pending.push_front(command);
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.taken = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The next command to run, with skipped ones removed.
    pub(super) fn next(&mut self) -> Result<Option<String>, SyntaxError> {
        while let Some((condition, text)) = self.pending.pop_front() {
            let runs = match condition {
                Condition::Always => true,
                Condition::AfterSuccess => self.status == 0,
                Condition::AfterFailure => self.status != 0,
            };
            if runs {
                self.taken += 1;
                if self.taken > MAXIMUM_COMMANDS {
                    return Err(SyntaxError::TooManyCommands);
                }
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

/// Cuts a line at `;`, `&&` and `||` outside quotes.
fn split(line: &str) -> Result<Vec<(Condition, String)>, SyntaxError> {
    let mut commands = Vec::new();
    let mut condition = Condition::Always;
    let mut text = String::new();
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                text.push('\\');
                text.extend(characters.next());
                continue;
            }
            ('\'' | '"', None) => quote = Some(character),
            (_, Some(open)) if open == character => quote = None,
            (';' | '&' | '|', None) => {
                let doubled = character != ';' && characters.next_if_eq(&character).is_some();
                let next = match (character, doubled) {
                    (';', _) => Condition::Always,
                    ('&', true) => Condition::AfterSuccess,
                    ('|', true) => Condition::AfterFailure,
                    _ => return Err(SyntaxError::Unsupported(character)),
                };
                let finished = std::mem::take(&mut text);
                push_command(
                    &mut commands,
                    condition,
                    finished,
                    next != Condition::Always,
                )?;
                condition = next;
                continue;
            }
            ('<' | '>', None) => return Err(SyntaxError::Unsupported(character)),
            _ => {}
        }
        text.push(character);
    }
    if quote.is_some() {
        return Err(SyntaxError::UnterminatedQuote);
    }
    push_command(
        &mut commands,
        condition,
        text,
        condition != Condition::Always,
    )?;
    Ok(commands)
}

fn push_command(
    commands: &mut Vec<(Condition, String)>,
    condition: Condition,
    text: String,
    required: bool,
) -> Result<(), SyntaxError> {
    if !text.trim().is_empty() {
        commands.push((condition, text));
    } else if required {
        return Err(SyntaxError::MissingCommand);
    }
    Ok(())
}

/// Cuts a command into words, removing quotes and replacing `$name`,
/// `${name}` and `$?` outside single quotes; unknown names become nothing.
pub(super) fn words(
    command: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, SyntaxError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut length = 0;
    let mut characters = command.chars().peekable();
    while let Some(character) = characters.next() {
        let current = match (character, quote) {
            (' ' | '\t', None) => {
                words.extend(word.take());
                continue;
            }
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
                continue;
            }
            (_, Some(open)) if open == character => {
                quote = None;
                continue;
            }
            ('\\', None | Some('"')) => characters.next().unwrap_or('\\').to_string(),
            ('$', None | Some('"')) => match variable_name(&mut characters) {
                Some(name) => match lookup(&name) {
                    Some(value) if !value.is_empty() => value,
                    _ => continue,
                },
                None => "$".to_owned(),
            },
            _ => character.to_string(),
        };
        length += current.len();
        if length > MAXIMUM_EXPANSION {
            return Err(SyntaxError::TooLong);
        }
        word.get_or_insert_default().push_str(&current);
    }
    words.extend(word);
    Ok(words)
}

fn variable_name(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    if characters.next_if_eq(&'?').is_some() {
        return Some("?".to_owned());
    }
    let braces = characters.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(character) = characters.next_if(|&next| {
        if braces {
            next != '}'
        } else {
            next.is_ascii_alphanumeric() || next == '_'
        }
    }) {
        name.push(character);
    }
    if braces {
        characters.next();
    }
    (braces || !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(command: &str) -> Vec<String> {
        let lookup = |name: &str| match name {
            "a" => Some("x y".to_owned()),
            "?" => Some("7".to_owned()),
            _ => None,
        };
        words(command, lookup).unwrap()
    }

    /// Runs a line whose commands succeed unless they are called `false`.
    fn run(line: &str) -> Result<Vec<String>, SyntaxError> {
        let mut queue = CommandQueue::default();
        queue.start(line)?;
        let mut ran = Vec::new();
        while let Some(command) = queue.next()? {
            let command = command.trim().to_owned();
            queue.status = u8::from(command == "false");
            ran.push(command);
        }
        Ok(ran)
    }

    #[test]
    fn quotes_and_variables() {
        assert_eq!(
            expand("setenv  bootargs ${a} $none 'q $a' \"d $a\" $?"),
            ["setenv", "bootargs", "x y", "q $a", "d x y", "7"]
        );
        assert_eq!(expand(r#"a\ b "" 5$ \"#), ["a b", "", "5$", r"\"]);
        assert!(expand("").is_empty());
        let long = |_: &str| Some("x".repeat(3000));
        assert_eq!(words("$a $a", long), Err(SyntaxError::TooLong));
    }

    #[test]
    fn lists_and_conditions() {
        assert_eq!(run("a; b 'c;d' ;").unwrap(), ["a", "b 'c;d'"]);
        assert_eq!(run("false && a || b").unwrap(), ["false", "b"]);
        assert_eq!(run("true && a || b; c").unwrap(), ["true", "a", "c"]);
    }

    #[test]
    fn what_cannot_run_is_named() {
        assert_eq!(run("echo 'a"), Err(SyntaxError::UnterminatedQuote));
        assert_eq!(run("a &&"), Err(SyntaxError::MissingCommand));
        assert_eq!(run("|| a"), Err(SyntaxError::MissingCommand));
        assert_eq!(run("a | b"), Err(SyntaxError::Unsupported('|')));
        assert_eq!(run("a > b"), Err(SyntaxError::Unsupported('>')));
        assert_eq!(run(&"a;".repeat(65)), Err(SyntaxError::TooManyCommands));
    }
}
