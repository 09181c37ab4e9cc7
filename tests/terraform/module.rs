//! Terraform itself, offline: format, validity and tests of the module, and the documents it makes of the shipped
//! catalog, which everything else here judges. Modules that need the provider of AWS cannot be initialised offline.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Whether Terraform is installed. Where it is not, `tests/run` says that this was not checked.
pub fn installed() -> bool {
    Command::new("terraform").arg("version").env("CHECKPOINT_DISABLE", "1").output().is_ok()
}

pub fn terraform(folder: &Path, arguments: &[&str]) -> String {
    let done = run(folder, arguments);
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "terraform {}:\n{out}\n{err}", arguments.join(" "));
    out.into_owned()
}

/// The same, whatever comes of it.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("terraform");
    command.current_dir(folder).args(arguments).env("CHECKPOINT_DISABLE", "1").env("TF_IN_AUTOMATION", "1");
    // Whatever the person who runs the tests has set must not change what is tested.
    for name in std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("TF_")) {
        command.env_remove(name);
    }
    command.env("TF_IN_AUTOMATION", "1");
    command.output().unwrap()
}

/// A copy of the modules without a provider, with `documents.tf` as its root: Terraform leaves its own files beside what it works on.
pub fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("modules/policies");
    for (from, to) in [
        ("terraform/modules/policies", ""),
        ("terraform/modules/policies/tests", "tests"),
        ("terraform/modules/key-pattern", "../key-pattern"),
    ] {
        std::fs::create_dir_all(module.join(to)).unwrap();
        for file in std::fs::read_dir(crate::repository(from)).unwrap() {
            let file = file.unwrap();
            if file.file_name().to_string_lossy().ends_with(".hcl")
                || file.file_name().to_string_lossy().ends_with(".tf")
            {
                std::fs::copy(file.path(), module.join(to).join(file.file_name())).unwrap();
            }
        }
    }
    std::fs::copy(crate::repository("tests/terraform/documents.tf"), folder.path().join("main.tf")).unwrap();
    folder
}

#[test]
fn terraform_finds_the_module_well_formed_valid_and_true_to_its_tests() {
    if !installed() {
        return;
    }
    terraform(&crate::repository("terraform"), &["fmt", "-check", "-recursive", "-diff", "."]);
    let folder = copy();
    let module = folder.path().join("modules/policies");
    terraform(&module, &["init", "-backend=false", "-no-color"]);
    terraform(&module, &["validate", "-no-color"]);
    let told = terraform(&module, &["test", "-no-color"]);
    let passed = told.split("Success! ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(passed.parse::<u32>().unwrap() >= 40 && told.contains(" 0 failed"), "{told}");
}

#[test]
fn the_documents_that_are_judged_are_those_that_terraform_makes() {
    if !installed() {
        return;
    }
    let folder = copy();
    let ceilings = crate::repository("terraform/examples/single-account/ceilings.json");
    terraform(folder.path(), &["init", "-backend=false", "-no-color"]);
    let given = format!("-var=ceilings={}", ceilings.display());
    let by_tag = format!("-var=by_tag={}", crate::repository("tests/terraform/by_tag.json").display());
    terraform(folder.path(), &["apply", "-auto-approve", "-no-color", &given, &by_tag]);
    let made: Value =
        serde_json::from_str(&terraform(folder.path(), &["output", "-json", "documents"])).unwrap();
    let now = format!("{}\n", serde_json::to_string_pretty(&made).unwrap());
    crate::assert_reviewed("tests/terraform/documents.json", &now);
}
