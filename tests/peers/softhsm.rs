//! SoftHSM as a PKCS#11 token: its sessions, PINs and objects are real, only that nothing protects them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The label of the token.
pub const TOKEN: &str = "phasebroker";
/// Its user PIN.
pub const PIN: &str = "4711-not-a-secret";
/// Where distributions put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
];

/// Makes an empty token in `dir`, with the configuration `softhsm2.conf` that names it.
pub fn token(dir: &Path) {
    std::fs::create_dir(dir.join("tokens")).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        dir.join("tokens").display()
    );
    std::fs::write(dir.join("softhsm2.conf"), text).unwrap();
    run(dir, &["--init-token", "--free", "--label", TOKEN, "--so-pin", "12345678", "--pin", PIN]);
}

/// Puts a key of this kind (`ed25519`, `P-256` or `RSA`) into the token, and leaves it nowhere else.
pub fn import(dir: &Path, label: &str, kind: &str, id: &str) {
    let file = dir.join(format!("{label}-{id}.pem"));
    let options: &[&str] = match kind {
        "P-256" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "RSA" => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        other => &["-algorithm", other],
    };
    let mut openssl = Command::new("openssl");
    let made = openssl.arg("genpkey").args(options).arg("-out").arg(&file).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = file.to_str().unwrap();
    run(dir, &["--import", path, "--token", TOKEN, "--label", label, "--id", id, "--pin", PIN]);
    std::fs::remove_file(file).unwrap();
}

/// The module.
pub fn module() -> PathBuf {
    let found = MODULES.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("the module of SoftHSM is missing: `tests/run` installs it")
}

fn run(dir: &Path, words: &[&str]) {
    let mut command = Command::new("softhsm2-util");
    command.args(words).env("SOFTHSM2_CONF", dir.join("softhsm2.conf"));
    let output = command.output().expect("cannot start softhsm2-util; `tests/run` installs it");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
