//! The provider cannot be had offline, so `terraform validate` cannot look at the modules that use it. Instead every
//! argument and block of their resources is compared with the provider's own schema, as its published bindings hold it
//! (`provider_arguments.py`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Arguments that Terraform itself gives every resource.
const OF_TERRAFORM: [&str; 4] = ["count", "depends_on", "for_each", "provider"];

fn schema() -> Value {
    let path = crate::repository("tests/terraform/provider_arguments.json");
    serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap()["resources"].clone()
}

fn sources() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![crate::repository("terraform")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "tf") {
                found.push(path);
            }
        }
    }
    found
}

/// A block that is being read.
enum Block {
    /// Of the resource or nested in it: what may stand there.
    Of(Value),
    /// `dynamic "name"`: what may stand in its content.
    Dynamic(Value),
}

/// Reads the resources of one file; gives (resource, its arguments and blocks), and every name that is not in `schema`.
fn read(text: &str, schema: &Value) -> (Vec<(String, BTreeSet<String>)>, Vec<String>) {
    let (mut resources, mut unknown) = (Vec::new(), Vec::new());
    let (mut stack, mut open): (Vec<Block>, i32) = (Vec::new(), 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let brackets = |c: char| match c {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        let balance: i32 = line.chars().map(brackets).sum();
        if open > 0 {
            open += balance;
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["resource", kind, name, "{"] = words[..] {
            let kind = kind.trim_matches('"');
            let Some(known) = schema.get(kind) else {
                unknown.push(format!("{kind}: run provider_arguments.py"));
                open = balance;
                continue;
            };
            stack.push(Block::Of(known["arguments"].clone()));
            resources.push((format!("{kind}.{}", name.trim_matches('"')), BTreeSet::new()));
            continue;
        }
        if stack.is_empty() {
            open = balance;
            continue;
        }
        let (owner, seen) = resources.last_mut().unwrap();
        let here = stack.len() == 1;
        match (stack.last().unwrap(), &words[..]) {
            (_, ["}"]) => drop(stack.pop()),
            (Block::Of(known), ["dynamic", name, "{"]) => {
                let name = name.trim_matches('"');
                match known.get(name).filter(|inner| inner.is_object()) {
                    Some(inner) => stack.push(Block::Dynamic(inner.clone())),
                    None => panic!("{owner} has no block {name}"),
                }
                seen.insert(name.to_owned());
            }
            (Block::Dynamic(inner), ["content", "{"]) => {
                let inner = inner.clone();
                stack.push(Block::Of(inner));
            }
            (Block::Dynamic(_), ["for_each" | "iterator", "=", ..]) => open = balance,
            (Block::Of(known), [name, "{"]) => match known.get(*name).filter(|inner| inner.is_object()) {
                Some(inner) => {
                    let inner = inner.clone();
                    if here {
                        seen.insert((*name).to_owned());
                    }
                    stack.push(Block::Of(inner));
                }
                None => panic!("{owner} has no block {name}"),
            },
            (Block::Of(known), [name, "=", ..]) => {
                if !OF_TERRAFORM.contains(name) && !known.get(*name).is_some_and(Value::is_null) {
                    unknown.push(format!("{owner}: {name}"));
                }
                if here {
                    seen.insert((*name).to_owned());
                }
                open = balance;
            }
            _ => panic!("{owner}: cannot read `{line}`"),
        }
    }
    (resources, unknown)
}

fn assert_fits(path: &Path, text: &str, schema: &Value) -> usize {
    let (resources, unknown) = read(text, schema);
    assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    for (resource, seen) in &resources {
        let kind = resource.split('.').next().unwrap();
        for required in schema[kind]["required"].as_array().unwrap() {
            assert!(seen.contains(required.as_str().unwrap()), "{resource} lacks {required}");
        }
    }
    resources.len()
}

#[test]
fn every_argument_of_every_resource_is_one_of_the_providers() {
    let schema = schema();
    let mut resources = 0;
    for path in sources() {
        resources += assert_fits(&path, &std::fs::read_to_string(&path).unwrap(), &schema);
    }
    assert!(resources >= 25, "only {resources} resources were read");
}

#[test]
fn a_misspelt_argument_is_found_wherever_it_stands() {
    let schema = schema();
    let path = crate::repository("terraform/modules/trail/main.tf");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&text, &schema).1, Vec::<String>::new());
    for (right, wrong) in [
        ("enable_log_file_validation ", "enable_log_validation "),
        ("bucket_key_enabled ", "bucket_keys_enabled "),
        ("starts_with ", "begins_with "),
        ("sse_algorithm ", "sse_algoritm "),
    ] {
        assert!(text.contains(right), "{right}");
        let (_, unknown) = read(&text.replacen(right, wrong, 1), &schema);
        assert_eq!(unknown.len(), 1, "{wrong}: {unknown:?}");
    }
}

#[test]
fn log_files_are_encrypted_as_the_keys_policy_allows_it_without_a_bucket_key() {
    let text = std::fs::read_to_string(crate::repository("terraform/modules/trail/main.tf")).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let own = lines.iter().filter(|line| line.contains("kms:EncryptionContext:aws:cloudtrail:arn")).count();
    assert_eq!(
        own, 2,
        "writing and reading are allowed for the trail's own context, which a bucket key replaces"
    );
    let keys: Vec<&&str> = lines.iter().filter(|line| line.starts_with("bucket_key_enabled")).collect();
    assert_eq!(keys, [&"bucket_key_enabled = false"]);
}
