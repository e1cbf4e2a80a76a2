//! Makes Cargo look at the embedded folders, also for files that are new.

fn main() {
    println!("cargo:rerun-if-changed=cascades");
    println!("cargo:rerun-if-changed=models");
}
