//! Every stored input: the seeds, and each input that libFuzzer has ever found a defect with.

use std::{fs, path::Path};

use flack_fuzz::TARGETS;

#[test]
fn every_stored_input_passes_its_target() {
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let inputs: Vec<_> = fs::read_dir(&folder).expect("the folder of the target").flatten().collect();
        assert!(inputs.len() > 3, "{name} has too few seeds");
        for input in inputs {
            // The test runner prints it when the target panics.
            println!("{}", input.path().display());
            check(&fs::read(input.path()).expect("an input"));
        }
    }
}
