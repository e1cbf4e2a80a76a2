//! Interrupts: long work stops where it is and shows what it has.

use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of work that was stopped: that of a process ended by an interrupt.
pub const STOPPED: u8 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on an interrupt is remembered, and no longer ends the process.
pub fn remember() {
    // A second handler in one process is refused; the first serves as well.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
}

/// Whether there was one.
pub fn happened() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The exit code of work that an interrupt may have stopped.
pub fn code(stopped: bool) -> u8 {
    if stopped && happened() { STOPPED } else { 0 }
}
