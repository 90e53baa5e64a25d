//! The system's `ssh` through a forward.

use std::ffi::OsString;
use std::net::SocketAddr;

use jmp_driver::{Error, Result};
use jmp_process::{ExitStatus, Foreground};

/// Options of OpenSSH's client that take a value of their own.
const WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// The key of a device that comes and goes behind changing local ports says nothing to a list
/// of known hosts, and would only fill it. Who the device is, the session has settled already.
const HOST_KEY_OPTIONS: [&str; 6] = [
    "NoHostAuthenticationForLocalhost=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "LogLevel=ERROR",
];

/// A command line of the system's `ssh` that goes to a local port.
#[derive(Debug, Clone)]
pub struct Ssh {
    address: SocketAddr,
    user: Option<String>,
    arguments: Vec<OsString>,
}

// === impl Ssh ===

impl Ssh {
    /// To the port of a forward, see
    /// [`TcpPortForward::local_addr`](super::forward::TcpPortForward::local_addr).
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            user: None,
            arguments: Vec::new(),
        }
    }

    /// Logs in as this user instead of the one of the ssh configuration.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Adds arguments: options of `ssh`, then the command to run. The options win over those
    /// that this type sets, except address, port and user.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The whole command line, without the program.
    pub fn arguments(&self) -> Vec<OsString> {
        // Of an option that is given twice, ssh takes the first.
        let mut line: Vec<OsString> = vec!["-p".into(), self.address.port().to_string().into()];
        if let Some(user) = &self.user {
            line.extend(["-l".into(), user.into()]);
        }
        let (options, command) = self.arguments.split_at(options_end(&self.arguments));
        line.extend(options.iter().cloned());
        for option in HOST_KEY_OPTIONS {
            line.extend(["-o".into(), option.into()]);
        }
        line.push(self.address.ip().to_string().into());
        if !command.is_empty() {
            // ssh looks for options behind the host, too.
            if command[0] != "--" {
                line.push("--".into());
            }
            line.extend(command.iter().cloned());
        }
        line
    }

    /// Runs `ssh` with the terminal and standard streams of this process, until it ends.
    ///
    /// # Errors
    ///
    /// If there is no `ssh` or it cannot be started.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO and time enabled.
    pub async fn run(&self) -> Result<ExitStatus> {
        Foreground::new("ssh")
            .args(self.arguments())
            .run()
            .await
            .map_err(|error| {
                Error::other(format!(
                    "starting ssh: {error}; install the OpenSSH client if it is missing"
                ))
            })
    }
}

/// How many of the arguments are options and their values.
fn options_end(arguments: &[OsString]) -> usize {
    let mut index = 0;
    while let Some(argument) = arguments.get(index) {
        let text = argument.to_string_lossy();
        let Some(letters) = text.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            break;
        };
        if letters == "-" {
            break;
        }
        // `-vp 22`: the first letter that takes a value takes the rest, or the next argument.
        let value_in_next = letters
            .find(|letter| WITH_VALUE.contains(letter))
            .is_some_and(|position| position + 1 == letters.len());
        index += if value_in_next { 2 } else { 1 };
    }
    index.min(arguments.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str]) -> String {
        let ssh = Ssh::new("127.0.0.1:2222".parse().unwrap())
            .user("root")
            .args(arguments.iter().copied());
        let words: Vec<_> = ssh
            .arguments()
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let keys: Vec<_> = HOST_KEY_OPTIONS
            .iter()
            .map(|option| format!("-o {option}"))
            .collect();
        words.join(" ").replace(&keys.join(" "), "KEYS")
    }

    #[test]
    fn options_go_before_the_host_and_the_command_behind() {
        for (arguments, expected) in [
            (&[][..], "-p 2222 -l root KEYS 127.0.0.1"),
            (
                &["uname", "-a"],
                "-p 2222 -l root KEYS 127.0.0.1 -- uname -a",
            ),
            (
                &["-v", "-i", "key", "ls"],
                "-p 2222 -l root -v -i key KEYS 127.0.0.1 -- ls",
            ),
            (
                &["-vikey", "ls"],
                "-p 2222 -l root -vikey KEYS 127.0.0.1 -- ls",
            ),
            (&["-tvo", "A=b"], "-p 2222 -l root -tvo A=b KEYS 127.0.0.1"),
            (
                &["-v", "--", "-odd"],
                "-p 2222 -l root -v KEYS 127.0.0.1 -- -odd",
            ),
            (&["-i"], "-p 2222 -l root -i KEYS 127.0.0.1"),
        ] {
            assert_eq!(line(arguments), expected);
        }
    }
}
