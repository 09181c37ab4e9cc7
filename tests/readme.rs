//! The README tells the truth: every command and option in it exists, and every path it names is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;

fn readme() -> String {
    std::fs::read_to_string("README.md").unwrap()
}

/// Lines of the fenced shell blocks, continuation lines joined.
fn shell_lines() -> Vec<String> {
    let text = readme();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn help(words: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_phasebroker")).args(words).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_command_and_option_of_the_readme_exists() {
    let mut seen = 0;
    for line in shell_lines() {
        let Some(rest) = line.trim().strip_prefix("phasebroker ") else { continue };
        let ours = rest.split(" -- ").next().unwrap().split(" # ").next().unwrap();
        let words: Vec<&str> = ours.split_whitespace().collect();
        let commands: Vec<&str> = words
            .iter()
            .copied()
            .take_while(|word| {
                !word.starts_with("--") && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            })
            .collect();
        let help = help(&commands).unwrap_or_else(|| panic!("no such command: {line}"));
        for option in words.iter().filter(|word| word.starts_with("--")) {
            let name = option.split('=').next().unwrap();
            assert!(help.contains(name), "`{}` has no {name}: {line}", commands.join(" "));
        }
        seen += 1;
    }
    assert!(seen >= 10, "the commands were found: {seen}");
}

#[test]
fn the_two_commands_are_what_ci_and_newcomers_run() {
    assert!(shell_lines().iter().any(|line| line == "cargo run --release -- demo --yes"));
    assert!(shell_lines().iter().any(|line| line == "tests/run"));
    assert!(std::fs::read_to_string(".ci/run").unwrap().contains("tests/run"));
}

#[test]
fn every_folder_of_the_map_is_there() {
    let map = readme().split("```text\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    let mut checked = 0;
    for line in map.lines() {
        let name = line.split_whitespace().next().unwrap();
        let path =
            if line.starts_with("  ") { Path::new("src").join(name) } else { Path::new(name).to_owned() };
        assert!(path.is_dir(), "{}", path.display());
        checked += 1;
    }
    assert!(checked >= 12);
}

#[test]
fn every_invariant_of_the_readme_is_marked_in_the_code() {
    let text = readme().replace('\n', " ");
    let list = text.split("where the code upholds it: ").nth(1).unwrap().split('.').next().unwrap();
    let mut source = String::new();
    let mut folders = vec![Path::new("src").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => {
                    source.push_str(&std::fs::read_to_string(path).unwrap());
                }
                false => {}
            }
        }
    }
    let marked: Vec<&str> = source.lines().filter(|line| line.contains("INVARIANT:")).collect();
    for name in list.split(", ").map(str::trim) {
        assert!(marked.iter().any(|line| line.contains(name)), "`{name}` is marked nowhere");
    }
}
