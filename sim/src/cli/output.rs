use std::io::Write;

use einflow_spec::{Problem, Problems};

/// Writes to standard output. A reader that closes the pipe has what it wanted.
///
/// # Errors
/// Any other failure to write.
pub fn print(text: &str) -> Result<(), Problems> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Problem::nowhere(format!("cannot write to standard output: {e}")).into())
        }
        _ => Ok(()),
    }
}

/// Writes JSON, indented.
///
/// # Errors
/// As [`print`].
pub fn json(value: &serde_json::Value) -> Result<(), Problems> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|e| Problem::nowhere(e.to_string()))?;
    text.push('\n');
    print(&text)
}
