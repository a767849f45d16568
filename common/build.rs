//! `sqlx::migrate!` embeds the shared migrations, and cargo does not see by itself that they changed.

fn main() {
    println!("cargo::rerun-if-changed=../migrations/shared");
}
