//! `flack-fuzz [options of libFuzzer] <corpus>...`. The name of the last folder is the name of the target.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use flack_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let folder = std::env::args().next_back().unwrap_or_default();
    let name = Path::new(&folder).file_name().and_then(|name| name.to_str());
    let target = TARGETS.iter().find(|(known, _)| name == Some(known));
    target.unwrap_or_else(|| panic!("{folder} is not the folder of a target")).1
});

fuzz_target!(|input: &[u8]| TARGET(input));
