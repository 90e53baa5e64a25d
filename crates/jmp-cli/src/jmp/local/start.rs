//! `jmp local start`: the part in the foreground.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::serve::READY;
use super::{Choice, stop};
use crate::error::CliError;
use crate::exit;
use crate::jmp::Globals;
use crate::jmp::signals::unless_cancelled;
use crate::output::{self, Format};
use crate::session_record::LocalSession;

/// Starts the exporter and waits until it serves.
pub async fn run(choice: &Choice, replace: bool, globals: &Globals) -> Result<u8, CliError> {
    if let Some(running) = stop::running()? {
        if !replace {
            return Err(already_running(&running));
        }
        stop::stop(&running).await?;
    }
    let mut child = spawn(choice, globals)?;
    let heard = unless_cancelled(listen(&mut child)).await;
    if heard.is_err() {
        interrupt(&child);
    }
    let ready = matches!(&heard, Ok(text) if text.starts_with(READY));
    if !ready {
        let status = child.wait().await.map_err(|error| failed(&error))?;
        heard?;
        // It has said why, on our standard error.
        return Ok(jmp_process::ExitStatus::from(status)
            .shell_code()
            .max(exit::FAILURE));
    }
    let session = stop::running()?
        .ok_or_else(|| CliError::new("the exporter ended as soon as it had started"))?;
    announce(&session, globals)?;
    Ok(exit::OK)
}

fn already_running(running: &LocalSession) -> CliError {
    CliError::new(format!(
        "exporter {} already runs in the background: process {}, started with {}",
        running.exporter,
        running.pid,
        running.config.display()
    ))
    .with_hint("`jmp local stop` ends it; `jmp local start --replace` takes its place")
}

fn spawn(choice: &Choice, globals: &Globals) -> Result<Child, CliError> {
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.args(["local", "serve"]);
    match (&choice.exporter, &choice.config) {
        (Some(alias), _) => command.arg("--exporter").arg(alias),
        (None, Some(path)) => command.arg("--config").arg(path),
        (None, None) => &mut command,
    };
    if let Some(level) = globals.log_level {
        command.args(["--log-level", level.as_str()]);
    }
    if globals.output == Some(Format::Json) {
        command.args(["--output", "json"]);
    }
    command
        .stdin(Stdio::null())
        // Until it is ready: then it lets go of both.
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(&error))
}

/// What it says on standard output until it lets go of it, by its end or because it is ready.
async fn listen(child: &mut Child) -> Result<String, CliError> {
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .read_to_string(&mut text)
            .await
            .map_err(|error| failed(&error))?;
    }
    Ok(text)
}

/// It is in a session of its own and does not hear the terminal.
fn interrupt(child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        // Not waited for yet, so the number is still its own.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn failed(error: &std::io::Error) -> CliError {
    CliError::new(format!(
        "cannot start an exporter in the background: {error}"
    ))
}

fn announce(session: &LocalSession, globals: &Globals) -> Result<(), CliError> {
    match globals.output {
        Some(Format::Json | Format::Yaml) => {
            let shown = json!({
                "running": true,
                "exporter": session.exporter,
                "pid": session.pid,
                "config": session.config,
                "socket": session.socket,
                "log": session.log,
            });
            if globals.output == Some(Format::Json) {
                output::print(&output::json(&shown))
            } else {
                output::print(&output::yaml(&shown)?)
            }
        }
        Some(Format::Name) => output::print(&format!("{}\n", session.exporter)),
        Some(Format::Path) => output::print(&format!("{}\n", session.socket.display())),
        None => {
            output::note(&format!(
                "exporter {} runs in the background (process {})",
                session.exporter, session.pid
            ));
            if let Some(log) = &session.log {
                output::note(&format!("its log: {}", log.display()));
            }
            output::note("`j` finds it from now on; `jmp local stop` ends it");
            Ok(())
        }
    }
}
