//! The command line: arguments, and which library call each command makes.

mod args;
mod commands;
mod describe;
mod device;
mod error;
mod eval;
mod explain;
mod interrupt;
mod list;
mod model;
mod offload;
mod output;
mod replay;
mod run;
mod sweep;

use std::process::ExitCode;

use clap::Parser;

use args::Arguments;

/// Exit code of a validation that is out of bounds, and of a check that fails or has nothing to check with.
pub const OUT_OF_BOUNDS: u8 = 1;
/// Exit code of bad input.
pub const BAD_INPUT: u8 = 2;

/// The text in which the command line shows problems, without colours: each with its place, the line there, and help.
pub fn render_problems(problems: &einflow_spec::Problems) -> String {
    error::text(problems, false)
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(problems) => {
            error::print(&problems);
            ExitCode::from(BAD_INPUT)
        }
    }
}
