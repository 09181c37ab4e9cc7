//! `phasebroker aws ceiling` as an operator types it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::module::{copy, installed, run, terraform};

fn ceiling(config: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_phasebroker"))
        .args(["aws", "ceiling", "--config"])
        .arg(config)
        .args(more)
        .env_remove("PHASEBROKER_CONFIG")
        .output()
        .unwrap()
}

/// A copy of the shipped configuration with another catalog.
fn with_catalog(catalog: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["phasebroker.toml", "directory.toml", "guardrails.toml"] {
        let from = crate::repository("config").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    std::fs::create_dir(folder.path().join("policy")).unwrap();
    for file in std::fs::read_dir(crate::repository("config/policy")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join("policy").join(file.file_name())).unwrap();
    }
    std::fs::write(folder.path().join("catalog.toml"), catalog).unwrap();
    folder
}

#[test]
fn the_json_on_standard_output_and_in_the_file_are_what_terraform_reads() {
    let config = crate::repository("config/phasebroker.toml");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("ceilings.json");
    let done = ceiling(&config, &["--json", "--out", out.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let example = crate::repository("terraform/examples/single-account/ceilings.json");
    let example: Value = serde_json::from_slice(&std::fs::read(example).unwrap()).unwrap();
    assert_eq!(printed, written);
    assert_eq!(written, example);
}

#[test]
fn people_read_what_each_role_holds_and_how_full_its_boundary_is() {
    let done = ceiling(&crate::repository("config/phasebroker.toml"), &[]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && text.contains("reboot-instance") && text.contains("of 6144"), "{text}");
    assert!(text.contains("nothing was written") || text.contains("Nothing was written"), "{text}");
}

#[test]
fn a_catalog_without_ceilings_ends_with_1_and_a_broken_one_with_2() {
    let shipped = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let shared = with_catalog(&shipped.replace("444455556666", "111122223333"));
    let done = ceiling(&shared.path().join("phasebroker.toml"), &[]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("give each environment roles of its own"), "{told}");
    let broken = with_catalog(&shipped.replace("ec2:RebootInstances", "ec2:Reboot*"));
    assert_eq!(ceiling(&broken.path().join("phasebroker.toml"), &[]).status.code(), Some(2));
}

const ONE: &str = r#"
variable "ceilings" { type = string }
module "policies" {
  source       = "./modules/policies"
  environments = { production = jsondecode(file(var.ceilings)).environments.production }
  minter_arn   = "arn:aws:iam::111122223333:role/phasebroker-minter"
  revoker_arn  = "arn:aws:iam::111122223333:role/phasebroker-revoker"
}
"#;

#[test]
fn terraform_takes_the_printed_ceilings_of_a_catalog_with_canaries_and_nothing_wider() {
    if !installed() {
        return;
    }
    let shipped = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let class = "class = \"availability\"\nsettles = \"Nothing to undo: the instance";
    assert!(shipped.contains(class));
    let catalog = with_catalog(&shipped.replacen(class, &format!("canary = true\n{class}"), 1));
    let folder = copy();
    std::fs::write(folder.path().join("main.tf"), ONE).unwrap();
    let out = folder.path().join("ceilings.json");
    let done = ceiling(&catalog.path().join("phasebroker.toml"), &["--out", out.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed = std::fs::read_to_string(&out).unwrap();
    let canary = r#"\"Action\":[\"ec2:DescribeRegions\"],\"Resource\":[\"*\"]"#;
    assert!(printed.contains(canary), "{printed}");
    let given = format!("-var=ceilings={}", out.display());
    let plan = ["plan", "-input=false", "-no-color", given.as_str()];
    terraform(folder.path(), &["init", "-backend=false", "-no-color"]);
    terraform(folder.path(), &plan);
    std::fs::write(&out, printed.replace(canary, &canary.replace("DescribeRegions", "DescribeInstances")))
        .unwrap();
    let refused = run(folder.path(), &plan);
    let told = String::from_utf8_lossy(&refused.stderr).replace(['\n', '\u{2502}'], " ");
    assert!(!refused.status.success() && told.contains("may name all resources"), "{told}");
}
