//! `jmp`, also run as `j`.

use std::process::ExitCode;

fn main() -> ExitCode {
    jmp_cli::main()
}
