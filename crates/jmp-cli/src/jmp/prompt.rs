//! Questions to the person, on standard error so that standard output stays clean.

use std::io::{self, BufRead, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::error::CliError;
use crate::jmp::Globals;

/// A value a command needs, in the order in which it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What the person sees.
    pub text: &'a str,
    /// The option that answers it.
    pub option: &'a str,
    /// The answer when nothing is typed.
    pub default: Option<&'a str>,
    /// Whether the answer is not shown while it is typed.
    pub secret: bool,
}

/// The given value, else the answer to the question, else (without a person to ask) the default.
///
/// # Errors
///
/// A usage error that names the option, when there is neither.
pub fn value(
    given: Option<String>,
    question: Question<'_>,
    globals: &Globals,
) -> Result<String, CliError> {
    if let Some(value) = given {
        return Ok(value);
    }
    if !globals.interactive() {
        return question.default.map(str::to_owned).ok_or_else(|| {
            CliError::usage(format!("{} is missing", question.option))
                .with_hint("it would be asked for on a terminal, without --nointeractive")
        });
    }
    loop {
        let answer = ask(question)?;
        match (answer.as_str(), question.default) {
            ("", Some(default)) => return Ok(default.to_owned()),
            ("", None) => crate::output::note("an answer is needed"),
            _ => return Ok(answer),
        }
    }
}

/// Asks for a yes; anything else, and having nobody to ask, is a no.
///
/// # Errors
///
/// When the terminal cannot be read.
pub fn confirm(text: &str, globals: &Globals) -> Result<bool, CliError> {
    if !globals.interactive() {
        return Ok(false);
    }
    let question = Question {
        text: &format!("{text} [y/N]"),
        option: "",
        default: Some("n"),
        secret: false,
    };
    let answer = ask(question)?.to_lowercase();
    Ok(matches!(answer.as_str(), "y" | "yes"))
}

fn ask(question: Question<'_>) -> Result<String, CliError> {
    let mut stderr = io::stderr().lock();
    match question.default {
        Some(default) if !question.text.ends_with(']') && !default.is_empty() => {
            write!(stderr, "{} [{default}]: ", question.text)?;
        }
        _ => write!(stderr, "{}: ", question.text)?,
    }
    stderr.flush()?;
    let silence = question.secret.then(Silence::enter).flatten();
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line)?;
    if silence.is_some() {
        writeln!(stderr)?;
    }
    if read == 0 {
        return Err(CliError::new("Aborted!"));
    }
    Ok(line.trim().to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence(rustix::termios::Termios);

// === impl Silence ===

impl Silence {
    fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
