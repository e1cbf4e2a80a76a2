//! The `einflow` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// Binding a mapping makes many small objects: a sweep takes two thirds of the time that the system's allocator needs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    einflow::cli::main()
}
