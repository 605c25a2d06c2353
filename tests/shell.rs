//! `tripline completions` and `tripline man`, by the program itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::process::{Command, Output};

use clap::CommandFactory;
use tripline::cli::Cli;

fn tripline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tripline")).args(arguments).output().unwrap()
}

fn script(shell: &str) -> String {
    let ended = tripline(&["completions", shell]);
    assert!(ended.status.success(), "{shell}: {ended:?}");
    String::from_utf8(ended.stdout).unwrap()
}

fn commands() -> BTreeSet<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// What bash offers for the last of these words.
fn offered(words: &[&str]) -> BTreeSet<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let (last, previous) = (quoted.len() - 1, quoted[quoted.len() - 2].clone());
    let ask = format!(
        "{}\nCOMP_WORDS=({}); COMP_CWORD={last}; _tripline tripline {} {previous}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script("bash"),
        quoted.join(" "),
        quoted[last],
    );
    let ended = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    String::from_utf8(ended.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let first = offered(&["tripline", ""]);
    assert!(commands().is_subset(&first), "{first:?}");
    assert_eq!(offered(&["tripline", "reproc"]), BTreeSet::from(["reprocess".to_owned()]));
    assert!(offered(&["tripline", "run", "--"]).contains("--until-end"));
    let formats = offered(&["tripline", "alerts", "--output", ""]);
    assert_eq!(formats, BTreeSet::from(["json".to_owned(), "table".to_owned()]));
    assert_eq!(offered(&["tripline", "alerts", "--no-such"]), BTreeSet::from([String::new()]));
}

/// Neither shell need be installed: their scripts name each command. Where one is, it reads its script.
#[test]
fn zsh_and_fish_know_the_commands() {
    for (shell, check) in [("zsh", "-n"), ("fish", "--no-execute")] {
        let script = script(shell);
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, script).unwrap();
        match Command::new(shell).arg(check).arg(file.path()).output() {
            Ok(ended) => assert!(ended.status.success() && ended.stderr.is_empty(), "{shell}: {ended:?}"),
            Err(_) => eprintln!("{shell} is not installed: its script was not read by it"),
        }
    }
    let ended = tripline(&["completions", "tcsh"]);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[test]
fn each_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(tripline(&["man", path]).status.success());
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|_| panic!("no {name}"));
    let main = page("tripline.1");
    for command in commands() {
        let page = page(&format!("tripline-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH NAME"), "{page}");
        assert!(main.contains(&format!("tripline\\-{}(1)", command.replace('-', "\\-"))), "{command}: {main}");
    }
    assert!(page("tripline-run.1").contains("until\\-end"));
    let ended = tripline(&["man", &format!("{path}/none")]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(String::from_utf8(ended.stderr).unwrap().contains("/none: "));
}
