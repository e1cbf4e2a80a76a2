//! The `einflow` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    einflow::cli::main()
}
