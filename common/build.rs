//! Rebuilds when the shared migrations change: `sqlx::migrate!` embeds them, which cargo does not know.

fn main() {
    println!("cargo::rerun-if-changed=../migrations/shared");
}
