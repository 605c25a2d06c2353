//! The inputs that are kept of the fuzz targets, replayed: seeds, and what a fuzzer has found. FUZZ_INPUTS names another folder than
//! fuzz/seeds, such as fuzz/corpus, which a fuzzer fills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod targets;

use targets::TARGETS;

#[test]
fn each_input_that_is_kept() {
    let inputs = std::env::var("FUZZ_INPUTS").unwrap_or_else(|_| "fuzz/seeds".to_owned());
    for (name, target) in TARGETS {
        let folder = format!("{}/{inputs}/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{folder}");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            let caught = std::panic::catch_unwind(|| target(&bytes));
            assert!(caught.is_ok(), "{}", input.display());
        }
    }
}
