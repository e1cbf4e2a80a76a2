//! Interrupts: long work stops where it is and shows what it has.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// The signal that came; 0: none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// How long work may take to stop by itself and show what it has; then the process ends.
const GRACE: Duration = Duration::from_millis(800);

/// From here on an interrupt is remembered, and ends the process only where work does not stop, or at the second.
pub fn remember() {
    // Where signals cannot be had, they end the process as before.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
        return;
    };
    std::thread::spawn(move || {
        let mut received = signals.forever();
        let Some(first) = received.next() else {
            return;
        };
        SIGNAL.store(first, Ordering::Relaxed);
        std::thread::spawn(|| {
            std::thread::sleep(GRACE);
            end();
        });
        if received.next().is_some() {
            end();
        }
    });
}

fn end() {
    eprintln!("stopped");
    std::process::exit(stopped().into());
}

/// Whether there was one.
pub fn happened() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// Exit code of work that was stopped: that of a process ended by the signal.
pub fn stopped() -> u8 {
    128 + SIGNAL.load(Ordering::Relaxed) as u8
}

/// The exit code of work that an interrupt may have stopped.
pub fn code(work_stopped: bool) -> u8 {
    if work_stopped && happened() {
        stopped()
    } else {
        0
    }
}
