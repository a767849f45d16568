//! Standard output, for results. Progress and errors go to standard error.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

/// Like `println!`, but ignores errors: a closed pipe (`| head`) or a full disk must not panic.
#[macro_export]
macro_rules! print_line {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arguments)*);
    }};
}

/// Prints a value as indented JSON.
pub fn print_json(value: &impl Serialize) {
    print_line!("{}", serde_json::to_string_pretty(value).expect("results are plain data"));
}

/// A table without lines, with these column titles.
pub fn table<const COLUMNS: usize>(titles: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(titles);
    table
}

/// Returns the text of a value in a table; `-` for a missing one.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
