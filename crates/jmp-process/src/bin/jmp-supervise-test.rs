//! A supervisor for tests, and an owner that tests can kill.
//!
//! `jmp-supervise-test own PROGRAM ARGS…` runs the program under supervision with a grace time
//! of half a second, prints its process id, and waits for it.
//! `jmp-supervise-test foreground PROGRAM ARGS…` runs it as `jmp shell` would.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use jmp_process::{Command, Foreground, SpawnError, Stdio};

fn main() -> ExitCode {
    if let Some(code) = jmp_process::maybe_run_supervisor(std::env::args_os()) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, program, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: jmp-supervise-test own|foreground PROGRAM [ARGS...]");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let code = runtime.block_on(async {
        match role.as_str() {
            "foreground" => foreground(program, rest).await,
            _ => own(program, rest).await,
        }
    });
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.shell_code())
        }
    }
}

async fn own(program: &str, arguments: &[String]) -> Result<u8, SpawnError> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::Inherit)
        .stderr(Stdio::Inherit)
        .grace(Duration::from_millis(500))
        .spawn()
        .await?;
    println!("{}", child.id());
    let _ = std::io::stdout().flush();
    Ok(child.wait().await.map_or(1, |status| status.shell_code()))
}

async fn foreground(program: &str, arguments: &[String]) -> Result<u8, SpawnError> {
    let status = Foreground::new(program)
        .args(arguments)
        .env("JUMPSTARTER_HOST", "nowhere")
        .grace(Duration::from_millis(500))
        .run()
        .await?;
    Ok(status.shell_code())
}
