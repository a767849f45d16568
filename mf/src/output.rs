//! Standard output, for results.

/// Like `println!`, but content when nobody reads any more (`| head`) or nothing can be written (a full disk): `println!` panics.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}
