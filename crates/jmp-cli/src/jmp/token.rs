//! Tokens as their holder sees them: where they come from, whose they are, how long they last.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use jmp_auth::{Peeked, Subject};
use jmp_config::{EffectiveClient, Environment, ProcessEnvironment, Secret};
use jmp_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::jmp::Globals;
use crate::jmp::lease::view::{local_time, span};
use crate::jmp::prompt::{self, Question};
use crate::output;

/// A token with less than this left is about to end, in seconds (facts: command line 5).
const SOON: i64 = 300;
/// The longest file with a token, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Options that give a token.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TokenArgs {
    /// Token of the controller; better in --token-file or the variable JMP_TOKEN, which others cannot
    /// see. Asked for if it is not given
    #[arg(long)]
    pub token: Option<String>,

    /// File that holds the token, `-` for standard input; blanks around it do not count
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
}

/// How much of its life a token has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does not say.
    Unknown,
    /// It ended so many seconds ago.
    Expired(i64),
    /// It ends in so many seconds, which are few.
    ExpiringSoon(i64),
    /// It has so many seconds left.
    Valid(i64),
}

// === impl TokenArgs ===

impl TokenArgs {
    /// The token: option, file, variable, or the person's answer.
    ///
    /// # Errors
    ///
    /// When there is none, or the file cannot be read.
    pub fn find(&self, globals: &Globals) -> Result<Secret, CliError> {
        let found = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => read(path)?,
            (None, None) => match ProcessEnvironment.filled("JMP_TOKEN") {
                Some(token) => token,
                None => ask(globals)?,
            },
        };
        let token = found.trim();
        if token.is_empty() {
            return Err(CliError::usage("the token is empty")
                .with_hint("an administrator gets one with `jmp admin rotate client NAME`"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CliError::usage(
                "the token has characters that no token has; copy it again without blanks and line ends",
            ));
        }
        Ok(Secret::new(token))
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    let failed = |error: std::io::Error| {
        CliError::new(format!(
            "cannot read the token from {}: {error}",
            path.display()
        ))
    };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(LONGEST)
            .read_to_string(&mut text)
            .map_err(failed)?;
    } else {
        std::fs::File::open(path)
            .map_err(failed)?
            .take(LONGEST)
            .read_to_string(&mut text)
            .map_err(failed)?;
    }
    Ok(text)
}

fn ask(globals: &Globals) -> Result<String, CliError> {
    let question = Question {
        text: "Token",
        option: "a token (--token, --token-file or JMP_TOKEN)",
        default: None,
        secret: true,
    };
    prompt::value(None, question, globals)
}

// === impl Life ===

impl Life {
    /// At `now`.
    pub fn of(token: Option<&Peeked>, now: Timestamp) -> Self {
        let Some(end) = token.and_then(|token| token.expires_at) else {
            return Self::Unknown;
        };
        match end.as_second() - now.as_second() {
            left if left <= 0 => Self::Expired(-left),
            left if left < SOON => Self::ExpiringSoon(left),
            left => Self::Valid(left),
        }
    }

    /// `Valid (3h 5m remaining)`.
    pub fn text(self) -> String {
        match self {
            Self::Unknown => "Unknown".to_owned(),
            Self::Expired(ago) => format!("EXPIRED ({} ago)", span(ago)),
            Self::ExpiringSoon(left) => format!("EXPIRING SOON ({} remaining)", span(left)),
            Self::Valid(left) => format!("Valid ({} remaining)", span(left)),
        }
    }

    /// One word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired(_) => "expired",
            Self::ExpiringSoon(_) => "expiringSoon",
            Self::Valid(_) => "valid",
        }
    }

    /// Seconds that are left, negative when it is over.
    pub fn seconds(self) -> Option<i64> {
        match self {
            Self::Unknown => None,
            Self::Expired(ago) => Some(-ago),
            Self::ExpiringSoon(left) | Self::Valid(left) => Some(left),
        }
    }
}

/// Whom a token of our kind of controller speaks for; nobody that could be told for others.
pub fn subject(token: &Secret) -> Option<Subject> {
    jmp_auth::peek(token.expose())?.subject?.parse().ok()
}

/// What a token says about itself, for programs.
pub fn json(token: &Peeked, life: Life) -> Map<String, Value> {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let facts = [
        ("status", json!(life.word())),
        ("expiresAt", json!(time(token.expires_at))),
        ("remainingSeconds", json!(life.seconds())),
        ("subject", json!(token.subject)),
        ("issuer", json!(token.issuer)),
        ("issuedAt", json!(time(token.issued_at))),
        ("tokenId", json!(token.token_id)),
    ];
    let facts = facts
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    facts.collect()
}

/// What to do about a token that is over.
pub fn login_hint(client: &EffectiveClient) -> String {
    let name = client.name.value.as_deref().unwrap_or("NAME");
    format!(
        "get a new token from the administrator (`jmp admin rotate client {name}`) and log in with it: \
         `jmp login --token-file FILE`"
    )
}

/// Refuses a token that has ended before anybody waits for a lease, and tells of one that is about to.
///
/// # Errors
///
/// When it has ended.
pub fn check(client: &EffectiveClient) -> Result<(), CliError> {
    let Some(token) = &client.token.value else {
        return Ok(());
    };
    let peeked = jmp_auth::peek(token.expose());
    let end = peeked.as_ref().and_then(|token| token.expires_at);
    match (Life::of(peeked.as_ref(), Timestamp::now()), end) {
        (Life::Expired(ago), Some(end)) => Err(CliError::new(format!(
            "the token has expired: it was good until {}, {} ago",
            local_time(end),
            span(ago)
        ))
        .with_hint(login_hint(client))),
        (Life::ExpiringSoon(left), _) => {
            output::warn(&format!(
                "the token is good for {} only; `jmp auth rotate` gets a new one",
                span(left)
            ));
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(seconds: i64) -> Life {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let token = Peeked {
            expires_at: Some(Timestamp::from_second(1_000_000 + seconds).expect("a time")),
            ..Peeked::default()
        };
        Life::of(Some(&token), now)
    }

    #[test]
    fn the_life_of_a_token() {
        assert_eq!(life(-60).text(), "EXPIRED (1m ago)");
        assert_eq!(life(0), Life::Expired(0));
        assert_eq!(life(299).text(), "EXPIRING SOON (4m remaining)");
        assert_eq!(life(300), Life::Valid(300));
        assert_eq!(life(7500).text(), "Valid (2h 5m remaining)");
        assert_eq!(Life::of(None, Timestamp::UNIX_EPOCH), Life::Unknown);
    }

    #[test]
    fn opaque_tokens_say_nothing() {
        assert_eq!(subject(&Secret::new("c2VjcmV0")), None);
        assert_eq!(subject(&Secret::new("a.b.c")), None);
    }
}
