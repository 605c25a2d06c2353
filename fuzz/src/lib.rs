//! The targets of `tests/fuzz_corpus`, for libFuzzer.

#[path = "../../tests/fuzz_corpus/targets.rs"]
mod targets;

/// Runs a target on an input.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = targets::TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(input);
}
