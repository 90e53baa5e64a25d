//! Starting the program of a session with the right environment and prompt (facts: cli 6.1).

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use jmp_process::{ExitStatus, Foreground, ForegroundChild, Signal};

use crate::error::CliError;
use crate::exit;
use crate::jmp::runtime_directory::RuntimeDirectory;
use crate::output;

/// How long a program may go on after it was hung up on.
const HANG_UP_GRACE: Duration = Duration::from_secs(15);

/// Variables of another session that must not leak into this one.
const FOREIGN: [&str; 8] = [
    "JMP_EXPORTER",
    "JMP_EXPORTER_LABELS",
    "JMP_LEASE",
    "JMP_GRPC_INSECURE",
    "JUMPSTARTER_GRPC_INSECURE",
    "JMP_GRPC_PASSPHRASE",
    "JMP_TLS_CA",
    "JMP_DRIVERS_UNSAFE",
];

/// A program to run in a session.
#[derive(Debug)]
pub struct Launch {
    command: Vec<OsString>,
    use_profiles: bool,
    variables: Vec<(OsString, OsString)>,
    motd: String,
}

// === impl Launch ===

impl Launch {
    /// A command, or the user's shell when `command` is empty. `use_profiles` lets the shell read its
    /// own start-up files.
    pub fn new(command: Vec<OsString>, use_profiles: bool) -> Self {
        let fixed = [
            ("JMP_DRIVERS_ALLOW", "UNSAFE"),
            ("_JMP_SUPPRESS_DRIVER_WARNINGS", "1"),
            // Python clients otherwise log C-core's own remarks.
            ("GRPC_VERBOSITY", "ERROR"),
            ("GLOG_minloglevel", "2"),
        ];
        Self {
            command,
            use_profiles,
            variables: fixed
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            motd: String::new(),
        }
    }

    /// Sets an environment variable of the program.
    pub fn variable(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let pair = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.variables.push(pair);
    }

    /// A text to show before an interactive shell.
    pub fn set_motd(&mut self, motd: &str) {
        motd.trim_end().clone_into(&mut self.motd);
    }

    /// Runs the program in the foreground, and `meanwhile` beside it, and returns the code to end with.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, with the code a shell would use.
    pub async fn run(
        self,
        context: &str,
        directory: &RuntimeDirectory,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<u8, CliError> {
        self.run_until(context, directory, meanwhile, std::future::pending())
            .await
    }

    /// As [`Launch::run`], but the program is hung up on when `over` resolves, and ended when it does not
    /// heed that.
    ///
    /// # Errors
    ///
    /// As [`Launch::run`].
    pub async fn run_until(
        self,
        context: &str,
        directory: &RuntimeDirectory,
        meanwhile: impl Future<Output = ()>,
        over: impl Future<Output = ()>,
    ) -> Result<u8, CliError> {
        let interactive = self.command.is_empty();
        let program = match self.command.split_first() {
            Some((program, arguments)) => Foreground::new(program).args(arguments),
            None => self.shell(context),
        };
        if interactive && !self.motd.is_empty() && io::stdin().is_terminal() {
            output::note(&self.motd);
        }
        let program = FOREIGN
            .iter()
            .fold(program, |program, name| program.env_remove(name))
            .envs(self.variables)
            .env("PATH", directory.search_path());
        let mut child = program.spawn()?;
        let status = wait(&mut child, meanwhile, over)
            .await
            .map_err(|error| CliError::new(format!("cannot wait for the program: {error}")))?;
        if child.forwarded().is_some() {
            return Ok(exit::USAGE);
        }
        Ok(status.shell_code())
    }

    fn shell(&self, context: &str) -> Foreground {
        let path = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
        let path = path.unwrap_or_else(|| "bash".into());
        let name = Path::new(&path)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let shell = Foreground::new(&path);
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match name.as_deref() {
            Some("bash") => {
                let shell = if self.use_profiles {
                    shell
                } else {
                    shell.args(["--norc", "--noprofile"])
                };
                shell.env("PS1", bash_prompt(context, colours))
            }
            Some("zsh") => {
                let shell = if self.use_profiles {
                    shell
                } else {
                    shell.args(["--no-rcs"])
                };
                let shell = shell.args(["-o", "inc_append_history", "-o", "share_history"]);
                let shell = shell.env("PS1", zsh_prompt(context, colours));
                match (std::env::var_os("HISTFILE"), std::env::var_os("HOME")) {
                    (None, Some(home)) => {
                        shell.env("HISTFILE", Path::new(&home).join(".zsh_history"))
                    }
                    _ => shell,
                }
            }
            Some("fish") => shell.args(["--init-command", &fish_prompt(context)]),
            _ => shell,
        }
    }
}

async fn wait(
    child: &mut ForegroundChild,
    meanwhile: impl Future<Output = ()>,
    over: impl Future<Output = ()>,
) -> io::Result<ExitStatus> {
    let mut meanwhile = std::pin::pin!(async {
        meanwhile.await;
        std::future::pending::<()>().await;
    });
    tokio::select! {
        status = child.wait() => return status,
        () = &mut meanwhile => {}
        () = over => {}
    }
    child.signal(Signal::HUP);
    tokio::select! {
        status = child.wait() => return status,
        () = &mut meanwhile => {}
        () = tokio::time::sleep(HANG_UP_GRACE) => {}
    }
    child.signal(Signal::KILL);
    child.wait().await
}

/// `dir ⚡context ➤ `, dir and context grey and white, the signs yellow.
fn bash_prompt(context: &str, colours: bool) -> String {
    // Bash expands backslashes, dollars and backquotes in PS1.
    let context: String = context
        .chars()
        .filter(|character| !matches!(character, '\\' | '$' | '`'))
        .collect();
    if colours {
        format!(
            "\\[\\e[90m\\]\\W \\[\\e[93m\\]⚡\\[\\e[97m\\]{context} \\[\\e[93m\\]➤\\[\\e[0m\\] "
        )
    } else {
        format!("\\W ⚡{context} ➤ ")
    }
}

fn zsh_prompt(context: &str, colours: bool) -> String {
    let context = context.replace('%', "%%");
    if colours {
        format!("%F{{8}}%1~ %F{{yellow}}⚡%F{{white}}{context} %F{{yellow}}➤%f ")
    } else {
        format!("%1~ ⚡{context} ➤ ")
    }
}

fn fish_prompt(context: &str) -> String {
    let context: String = context
        .chars()
        .map(|character| match character {
            '\'' | '\\' => '_',
            other => other,
        })
        .collect();
    format!(
        "function fish_prompt; set_color brblack; printf '%s ' (basename $PWD); \
         set_color yellow; printf '⚡'; set_color white; printf '%s ' '{context}'; \
         set_color yellow; printf '➤ '; set_color normal; end"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_cannot_be_made_to_run_something() {
        let prompt = bash_prompt("a$(id)`id`\\w", false);
        assert_eq!(prompt, "\\W ⚡a(id)idw ➤ ");
        assert_eq!(zsh_prompt("a%n", false), "%1~ ⚡a%%n ➤ ");
        assert!(fish_prompt("a'; id; '").contains("'a_; id; _'"));
    }
}
